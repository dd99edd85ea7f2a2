"""The training recipe as data: every value has timm's name, and errors name the flag that sets it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import ConfigError
from ..space import SearchSpace

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""The names on the command line, and Lightning's."""

SMALL_IMAGE = 64
"""Up to this side in pixels an image counts as small, and `Recipe.for_space` gives the recipe for small
images.
"""


@dataclass(frozen=True)
class Recipe:
    """How a supernet is trained. The defaults are the paper's (section 4.1 and the released command lines).

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step and process.
        lr: peak learning rate; None means `lr_base` x global batch / `lr_base_size`.
        lr_base, lr_base_size: the published scaling, 5e-4 per 512 images.
        min_lr, warmup_lr: where the cosine ends and the warm-up starts.
        warmup_epochs: epochs of linear warm-up; None means 20, but at most a fifth of the epochs.
        weight_decay: of AdamW; not on biases, norms, class token and absolute position.
        opt_betas, opt_eps: of AdamW.
        clip_grad: largest gradient norm; None for no clipping.
        smoothing: label smoothing.
        drop_path: stochastic depth of the last layer, rising linearly from 0 in the first.
        scale, ratio: area and aspect ratio of the random crop (images above 32 pixels).
        crop_padding: pixels around images up to 32 pixels, before a random crop at their size; None means an
            eighth.
        hflip: probability of a horizontal flip.
        interpolation: of resizing.
        crop_pct: share of the resized test image that is kept; None means 0.875, or 1 up to 32 pixels.
        precision: 'fp32', 'bf16' or 'fp16', the last two as automatic mixed precision.
        val_interval: epochs between two reports of the named subnets' accuracy.
        seed: of everything that is drawn.
    """

    epochs: int = 500
    batch_size: int = 128
    lr: float | None = None
    lr_base: float = 5e-4
    lr_base_size: int = 512
    min_lr: float = 1e-5
    warmup_lr: float = 1e-6
    warmup_epochs: int | None = None
    weight_decay: float = 0.05
    opt_betas: tuple[float, float] = (0.9, 0.999)
    opt_eps: float = 1e-8
    clip_grad: float | None = None
    smoothing: float = 0.1
    drop_path: float = 0.1
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    crop_padding: int | None = None
    hflip: float = 0.5
    interpolation: str = "bicubic"
    crop_pct: float | None = None
    precision: str = "fp32"
    val_interval: int = 1
    seed: int = 0

    @classmethod
    def for_space(cls, space: SearchSpace, **changes: Any) -> Recipe:
        """The default recipe of a space, with changes: the paper's, or for images up to 64 pixels one with a
        learning rate and length that suit a small data set (100 epochs, 4e-3 per 512 images, drop path 0.05).

        Raises:
            ConfigError: a value is out of its range.
        """
        recipe = cls()
        if max(space.model.img_size) <= SMALL_IMAGE:
            recipe = cls(epochs=100, lr_base=4e-3, drop_path=0.05)
        return replace(recipe, **changes)

    def __post_init__(self) -> None:
        wanted = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch-size": (self.batch_size >= 1, "at least 1"),
            "lr": (self.lr is None or self.lr > 0, "above 0"),
            "lr-base": (self.lr_base > 0, "above 0"),
            "lr-base-size": (self.lr_base_size >= 1, "at least 1"),
            "min-lr": (self.min_lr >= 0, "0 or more"),
            "warmup-lr": (self.warmup_lr >= 0, "0 or more"),
            "warmup-epochs": (0 <= self.warmup < self.epochs, f"0 or more, and below --epochs {self.epochs}"),
            "weight-decay": (self.weight_decay >= 0, "0 or more"),
            "opt-betas": (all(0 <= beta < 1 for beta in self.opt_betas), "two numbers from 0 to below 1"),
            "opt-eps": (self.opt_eps > 0, "above 0"),
            "clip-grad": (self.clip_grad is None or self.clip_grad > 0, "above 0"),
            "smoothing": (0 <= self.smoothing < 1, "from 0 to below 1"),
            "drop-path": (0 <= self.drop_path < 1, "from 0 to below 1"),
            "precision": (self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            "val-interval": (self.val_interval >= 1, "at least 1"),
        }
        for flag, (fits, range_) in wanted.items():
            if not fits:
                raise ConfigError(
                    f"--{flag} is {getattr(self, flag.replace('-', '_'))}; it should be {range_}."
                )

    @property
    def warmup(self) -> int:
        """Epochs of warm-up."""
        return min(20, self.epochs // 5) if self.warmup_epochs is None else self.warmup_epochs

    def peak_lr(self, world_size: int = 1) -> float:
        """The learning rate after the warm-up, for a number of processes."""
        if self.lr is not None:
            return self.lr
        return self.lr_base * self.batch_size * world_size / self.lr_base_size

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)
