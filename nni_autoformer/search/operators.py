"""How subnets come from subnets in the evolution (paper section 3.4)."""

from __future__ import annotations

import random

from ..architecture import Architecture
from ..space import SearchSpace


def mutated(
    parent: Architecture,
    space: SearchSpace,
    gene_probability: float,
    size_probability: float,
    rng: random.Random,
) -> Architecture:
    """A subnet with some of its choices drawn anew; layers that it gains are drawn, those it loses are cut.

    Args:
        parent: the subnet.
        space: the choices.
        gene_probability: that a layer's ratio is drawn anew, and its heads.
        size_probability: that the depth is, and the embedding size.
        rng: decides all of it.
    """
    depth, embed_dim = parent.depth, parent.embed_dim
    if rng.random() < size_probability:
        depth = rng.choice(space.depth)
    heads, ratios = list(parent.num_heads[:depth]), list(parent.mlp_ratio[:depth])
    while len(heads) < depth:
        ratios.append(rng.choice(space.mlp_ratio))
        heads.append(rng.choice(space.num_heads))
    for i in range(depth):
        if rng.random() < gene_probability:
            ratios[i] = rng.choice(space.mlp_ratio)
        if rng.random() < gene_probability:
            heads[i] = rng.choice(space.num_heads)
    if rng.random() < size_probability:
        embed_dim = rng.choice(space.embed_dim)
    return Architecture(embed_dim, tuple(heads), tuple(ratios))


def crossed(one: Architecture, other: Architecture, rng: random.Random) -> Architecture | None:
    """A subnet that has each choice from one of two subnets; None if their depths differ.

    Args:
        one, other: the parents.
        rng: decides from which.
    """
    if one.depth != other.depth:
        return None
    return Architecture(
        rng.choice((one.embed_dim, other.embed_dim)),
        tuple(rng.choice(pair) for pair in zip(one.num_heads, other.num_heads)),
        tuple(rng.choice(pair) for pair in zip(one.mlp_ratio, other.mlp_ratio)),
    )
