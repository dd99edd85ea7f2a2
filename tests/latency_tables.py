"""Latency tables with invented times, for tests that need one and no clock."""

from itertools import product

from nni_autoformer.latency_table import Conditions, Deviation, LatencyTable, Measured, Parts


def invented(space, **conditions):
    """A table of a space whose times grow with all sizes: the head takes 0.1 ms, a block about 1 ms."""

    def around(median):
        return Measured(median, median * 0.98, median * 1.03)

    blocks = {
        (embed, heads, ratio): around(embed * (heads + ratio) / 512)
        for embed, heads, ratio in product(space.embed_dim, space.num_heads, space.mlp_ratio)
    }
    return LatencyTable(
        space,
        Conditions(**conditions),
        Parts(
            {embed: around(embed / 1024) for embed in space.embed_dim},
            {embed: around(0.1) for embed in space.embed_dim},
            blocks,
        ),
        offset=0.25,
        factor=1.0625,
        error=Deviation(30, 1.5, 4.25, 0.95),
        subnets={space.smallest: around(10.0), space.largest: around(20.0)},
        machine={"processor": "invented", "cores": 2, "gpu": None},
        versions={"torch": "2.6.0"},
        date="2026-01-31T12:00:00+00:00",
    )
