"""Randomness that is derived, not stored: every draw is a function of where it is made.

A generator seeded with ``derive(seed, "augmentation", epoch, index)`` gives the same draws after a resume, on
any rank and with any number of workers; nothing has to be saved but the numbers that say where the run is.
"""

from __future__ import annotations

import hashlib
import random


def derive(seed: int, purpose: str, *position: int) -> int:
    """A 64-bit seed that depends on all of its arguments and on nothing else.

    Args:
        seed: the seed of the run.
        purpose: what the randomness is for; two purposes at one position are independent.
        position: place in the run, for instance the epoch and the index of an image.
    """
    text = f"{seed}/{purpose}/" + "/".join(str(int(number)) for number in position)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def generator(seed: int, purpose: str, *position: int) -> random.Random:
    """A Python generator of its own, seeded with `derive`."""
    return random.Random(derive(seed, purpose, *position))
