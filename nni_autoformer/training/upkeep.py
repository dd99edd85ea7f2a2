"""How a run is looked after, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError

ON_NAN = ("stop", "skip")


@dataclass(frozen=True)
class Upkeep:
    """How a run is looked after; nothing here changes what a healthy run learns, so a resume may change it.

    Attributes:
        on_nan: 'stop' the run at a loss or gradient that is no finite number, or 'skip' the step.
        max_nan_skips: steps that a whole run may skip.
        keep: the last epochs whose weights are kept besides the last and the best.
        checkpoint_every: steps between two saves of the training's state within an epoch; None for none.
    """

    on_nan: str = "stop"
    max_nan_skips: int = 10
    keep: int = 0
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        wanted = {
            "on-nan": (self.on_nan in ON_NAN, f"one of {', '.join(ON_NAN)}"),
            "max-nan-skips": (self.max_nan_skips >= 1, "at least 1"),
            "keep": (self.keep >= 0, "0 or more"),
            "checkpoint-every": (self.checkpoint_every is None or self.checkpoint_every >= 1, "at least 1"),
        }
        for flag, (fits, range_) in wanted.items():
            if not fits:
                value = getattr(self, flag.replace("-", "_"))
                raise ConfigError(f"--{flag} is {value}; it should be {range_}.")
