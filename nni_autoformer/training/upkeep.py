"""How a run is looked after, as data."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import NOT_NEGATIVE, Check, at_least, one_of, require_ranges, setting

GROUP = "upkeep (a resume may change it)"

LOGGERS = ("tensorboard", "csv", "wandb", "mlflow")
"""Lightning's loggers that a training can write its curves with."""


def _are_loggers(text: str) -> bool:
    names = text.split(",")
    return text == "none" or (len(set(names)) == len(names) and set(names) <= set(LOGGERS))


@dataclass(frozen=True)
class Upkeep:
    """How a run is looked after; nothing here changes what a healthy run learns, so a resume may change it.

    Raises:
        ConfigError: a value is out of its range.
    """

    on_nan: str = setting(
        "stop",
        "at a loss or gradient that is NaN or infinite: stop (default), or skip the step",
        one_of("stop", "skip"),
        GROUP,
    )
    max_nan_skips: int = setting(10, "steps that a whole run may skip", at_least(1), GROUP, "N")
    keep: int = setting(
        0,
        "also keep the weights of the last N epochs (default 0; the last and the best are always kept)",
        NOT_NEGATIVE,
        GROUP,
        "N",
    )
    checkpoint_every: int | None = setting(
        None,
        "save the training's state within an epoch too (default: after each epoch, and at SIGTERM)",
        at_least(1),
        GROUP,
        "STEPS",
    )

    logger: str = setting(
        "tensorboard",
        f"where the curves go beside metrics.csv: one or several of {', '.join(LOGGERS)}, with commas "
        "between (default tensorboard), or none; wandb and mlflow are extras to install, and read their own "
        "environment variables",
        Check(_are_loggers, f"none, or one or several of {', '.join(LOGGERS)} with commas between"),
        GROUP,
        "NAMES",
    )

    def __post_init__(self) -> None:
        require_ranges(self)
