"""Racing: stop the candidates of a generation that are out of the best k before they have seen every image.

After Maron and Moore's Hoeffding races (1994) and Birattari's F-race (2002). All candidates see the same
images in the same random order. At a few looks on the way each is compared with the others on the images so
far, and what at least k others have beaten is stopped: it would be no parent.

The comparison is McNemar's exact test, one-sided: of the m images that only one of the two names right, b are
the rival's. It is for the finite selection set, which is what the search ranks by, and not for images in
general: m of the D such images of the whole set have been drawn without replacement, so if the rival were not
better on the whole set, b would come from the hypergeometric distribution with at most D / 2 of the D in its
favour. That is sharper than the binomial test: late in the set little can change any more, and a candidate
that cannot catch up is stopped for certain. D is not known; its upper confidence bound at a tenth of the
error takes its place, and the other nine tenths are left for the comparison.

What is known of the best k before the generation on the whole set is used too: who loses against the last of
them is out, whatever the others do.

The confidence is that of a comparison: over the random order of the images and over all looks, among which
the error is divided (Bonferroni), a rival that is not better is called better with a probability of at most
1 - confidence. It takes such an error to stop one of the true best k. This does not bound by the same number
how often their set changes: with e = 1 - confidence that bound is e x (candidates - k) x (1 + 1/2 + ... +
1/k), since the candidate of rank j needs k - j + 1 errors. It would be reached if many candidates were equal
to the last of the best, where it matters little which of them is a parent. On a real search the set was
counted to stay as it is about as often as the confidence says (benchmarks/RESULTS.md).

The order takes the classes in turn; such a sample is at least as exact as the plain random one that the test
assumes. Whoever is not stopped, the winner among them, sees every image.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import hypergeom

from ..errors import ConfigError
from ..randomness import generator

LOOKS = (1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8)
"""Shares of the images after which candidates are compared."""

BOUND_SHARE = 0.1
"""Share of a comparison's error that the bound on the number of differing images has."""

TIE = 1 + 1e-10
"""A probability is as small as the error also where it is equal to it before rounding."""


@dataclass(frozen=True)
class Racing:
    """How a search races.

    Attributes:
        confidence: confidence of a comparison, over all looks: a rival that is not better is called better
            with a probability of at most 1 - confidence.
    """

    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(
                f"--racing-confidence is {self.confidence}; it should be at least 0.5, and below 1."
            )

    def looks(self, images: int) -> list[int]:
        """Numbers of images after which candidates are compared, ascending; the last is all of them."""
        return sorted({max(1, round(share * images)) for share in LOOKS} | {images})


def balanced_order(targets: np.ndarray, seed: int) -> np.ndarray:
    """A random order of images in which every beginning has each class in proportion.

    Args:
        targets: class of each image, (images,).
        seed: what the order depends on, beside the targets.

    Returns:
        (images,) positions.
    """
    place = np.empty(len(targets))
    for number in np.unique(targets).tolist():
        members = np.flatnonzero(targets == number)
        rng = generator(seed, "racing", number)
        slots = [(i + rng.random()) / len(members) for i in range(len(members))]
        rng.shuffle(slots)
        place[members] = slots
    return np.argsort(place, kind="stable")


class Race:
    """The comparisons of one generation.

    Args:
        racing: the confidence.
        keep: k, how many of the best have to stay.
        images: number of images of the whole set.
        incumbents: which of the images each of the best k before the generation names right, (up to k,
            images) bool; known for the whole set.
    """

    def __init__(self, racing: Racing, keep: int, images: int, incumbents: np.ndarray | None = None) -> None:
        self.keep, self.images = keep, images
        self.incumbents = np.zeros((0, images), dtype=bool) if incumbents is None else incumbents
        self._last = int(self.incumbents.sum(axis=1).argmin()) if len(self.incumbents) >= keep else None
        self._error = (1 - racing.confidence) / max(1, len(racing.looks(images)) - 1)

    def losers(self, right: np.ndarray) -> np.ndarray:
        """Who is out of the best k.

        Args:
            right: which of the first images each candidate names right that is still in the race,
                (candidates, images so far) bool.

        Returns:
            (candidates,) bool.
        """
        seen = right.shape[1]
        rivals = np.concatenate((right, self.incumbents[:, :seen]))
        ours = right.astype(np.float32)
        # [candidate, rival]: images that only the rival names right, and that only one of the two does
        theirs = (1 - ours) @ rivals.astype(np.float32).T
        differing = theirs + ours @ (1 - rivals.astype(np.float32)).T
        theirs, differing = theirs.astype(int), differing.astype(int)
        better = theirs >= needed(differing, seen, self.images, self._error)
        beaten = better.sum(axis=1) >= self.keep
        return beaten if self._last is None else beaten | better[:, len(right) + self._last]


_needed: dict[tuple[int, int, float], dict[int, int]] = defaultdict(dict)
"""Answers of `needed` by its other arguments; the same questions return in every generation."""


def needed(differing: int | np.ndarray, seen: int, images: int, error: float) -> np.ndarray:
    """How many of the differing images have to be the rival's for the verdict that it is better on the whole
    set; more than there are, if nothing can tell yet.

    Args:
        differing: images among those seen that exactly one of the two names right; of any shape.
        seen: images seen.
        images: number of images of the whole set.
        error: largest probability of the verdict if the rival is not better.

    Returns:
        Integers of the shape of `differing`.
    """
    counts, known = np.asarray(differing), _needed[seen, images, error]
    new = [count for count in set(counts.ravel().tolist()) if count not in known]
    if new:
        known.update(zip(new, _smallest_majorities(np.array(new), seen, images, error).tolist()))
    return np.array([known[count] for count in counts.ravel().tolist()], dtype=int).reshape(counts.shape)


def _smallest_majorities(differing: np.ndarray, seen: int, images: int, error: float) -> np.ndarray:
    """What `needed` says, for many numbers of differing images (n,) at once."""
    total = _most_differing(differing, seen, images, error * BOUND_SHARE)

    def enough(theirs: np.ndarray) -> np.ndarray:
        return hypergeom.sf(theirs - 1, total, total // 2, differing) <= error * (1 - BOUND_SHARE) * TIE

    return _first(enough, np.zeros_like(differing), np.minimum(total // 2, differing) + 1)


def _most_differing(differing: np.ndarray, seen: int, images: int, error: float) -> np.ndarray:
    """Upper confidence bound on the number of differing images in the whole set; even, or the most there can
    be.
    """
    most = differing + images - seen

    def too_many(total: np.ndarray) -> np.ndarray:
        return hypergeom.cdf(differing, images, total, seen) <= error * TIE

    # the largest number with which as few as were seen are likely enough
    bound = _first(too_many, differing + 1, most + 1) - 1
    return np.minimum(bound + bound % 2, most)


def _first(holds: Callable[[np.ndarray], np.ndarray], low: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The first number from `low` on for which something holds that goes on to hold; at the latest `end`."""
    while (low < end).any():
        middle = (low + end) // 2
        found = holds(middle)
        low, end = np.where(found | (low >= end), low, middle + 1), np.where(found, middle, end)
    return end


def race(right: np.ndarray, racing: Racing, keep: int, incumbents: np.ndarray | None = None) -> np.ndarray:
    """How many images each candidate would see, when it is known what all name right.

    Args:
        right: (candidates, images) bool, in the order of the race.
        racing: the confidence.
        keep: how many of the best have to stay.
        incumbents: what is known of the best so far, see `Race`.

    Returns:
        (candidates,) numbers of images; those below the whole set have been stopped.
    """
    candidates, images = right.shape
    judge = Race(racing, keep, images, incumbents)
    seen = np.full(candidates, images)
    active = np.arange(candidates)
    for look in racing.looks(images)[:-1]:
        lost = judge.losers(right[active, :look])
        seen[active[lost]] = look
        active = active[~lost]
    return seen


def best(totals: Sequence[int] | np.ndarray, keep: int) -> list[int]:
    """The positions of the best k; equal ones in their order."""
    return sorted(np.argsort(-np.asarray(totals), kind="stable")[:keep].tolist())
