"""The training recipe as data: every value has timm's name, and errors name the flag that sets it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..config import (
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Check,
    at_least,
    one_of,
    read_values,
    require_ranges,
    setting,
    settings_of,
)
from ..errors import ConfigError
from ..files import packaged_names, packaged_or_own, write_text
from ..space import SearchSpace

PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""The names on the command line, and Lightning's."""

SMALL_IMAGE = 64
"""Up to this side in pixels an image counts as small, and `Recipe.for_space` gives the recipe for small
images.
"""

SMALL_IMAGES: dict[str, Any] = {
    "epochs": 100,
    "lr_base": 4e-3,
    "sched_on_updates": True,
    "drop_path": 0.05,
    "aa": None,
    "aug_repeats": 0,
    "reprob": 0.0,
    "mixup": 0.0,
    "cutmix": 0.0,
}
"""What the recipe for small images has in place of the paper's values."""

SMALL_FINETUNING: dict[str, Any] = {
    **SMALL_IMAGES,
    "epochs": 20,
    "lr_base": 4e-4,
    "min_lr": 1e-6,
    "warmup_epochs": 2,
}
"""The same for fine-tuning: as in the recipe for large images a tenth of the rate, and a short warm-up."""

TASKS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "train": (None, SMALL_IMAGES),
    "retrain": ("retrain", SMALL_IMAGES),
    "finetune": ("finetune", SMALL_FINETUNING),
}
"""By command: the packaged recipe that is its default, None for the paper's, and the one for small images."""

DATA_SETS: dict[str, dict[str, Any]] = {"digits": {"hflip": 0.0, "crop_padding": 1}}
"""Values that suit a named data set. Digits fill their image: a mirrored one is another sign, and an eighth
of the side is too far to shift.
"""

SAMPLING = ("uniform", "sandwich", "balanced")

ORIGINAL = "original"
"""As a teacher: the network that a supernet starts from."""

SHORTENED = ("warmup_epochs", "widen_epochs")
"""Values in epochs, which fewer `epochs` shorten in proportion."""

_BETAS = Check(lambda betas: all(0 <= beta < 1 for beta in betas), "two numbers from 0 to below 1")
_MINMAX = Check(lambda pair: 0 < pair[0] <= pair[1] <= 1, "two ascending shares above 0, up to 1")
_IMAGES, _MIXING, _TEACHER = "recipe: single images", "recipe: batches", "recipe: teacher"
SUPERNET = "recipe: supernet"
"""Group of the values that count for a supernet alone."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the paper's (section 4.1 and the released command lines);
    the texts beside the fields are the flags' help.
    """

    epochs: int = setting(500, "passes over the training images", at_least(1))
    batch_size: int = setting(128, "images per micro-batch and process", at_least(1))
    grad_accum_steps: int = setting(1, "micro-batches per step", at_least(1))
    lr: float | None = setting(None, "peak learning rate, in place of the next two", POSITIVE)
    lr_base: float = setting(5e-4, "peak learning rate per --lr-base-size images of a step", POSITIVE)
    lr_base_size: int = setting(512, "images that --lr-base is meant for", at_least(1))
    min_lr: float = setting(1e-5, "learning rate at the end of the cosine", NOT_NEGATIVE)
    warmup_lr: float = setting(1e-6, "learning rate at the start of the warm-up", NOT_NEGATIVE)
    warmup_epochs: int | None = setting(
        None, "epochs of linear warm-up (default 20, at most a fifth of the epochs)", NOT_NEGATIVE
    )
    sched_on_updates: bool = setting(
        False, "change the learning rate after every step, not after every epoch"
    )
    weight_decay: float = setting(
        0.05, "of AdamW, not on biases, norms, class token and absolute position", NOT_NEGATIVE
    )
    opt_betas: tuple[float, float] = setting((0.9, 0.999), "of AdamW", _BETAS)
    opt_eps: float = setting(1e-8, "epsilon of AdamW", POSITIVE)
    clip_grad: float | None = setting(None, "largest gradient norm", POSITIVE)
    smoothing: float = setting(0.1, "label smoothing", BELOW_ONE)
    drop_path: float = setting(0.1, "stochastic depth of the last layer, rising linearly from 0", BELOW_ONE)
    sampling: str = setting(
        "uniform",
        "which subnets a step trains: uniform (one, the paper's), sandwich (the largest, random ones, the "
        "smallest), balanced (one, all numbers of parameters as often)",
        one_of(*SAMPLING),
        SUPERNET,
    )
    sandwich_random: int = setting(2, "random subnets of a sandwich", NOT_NEGATIVE, SUPERNET)
    widen_epochs: int = setting(
        0,
        "epochs until the whole space is trained: half of them the largest subnet alone, then also fewer "
        "heads and lower MLP ratios, then everything (default 0: everything from the start)",
        NOT_NEGATIVE,
        SUPERNET,
    )
    layer_decay: float | None = setting(
        None,
        "learning rate of a layer as a share of the next one's, up to the head's, which is the whole",
        Check(lambda share: 0 < share <= 1, "above 0, up to 1"),
    )
    model_ema: bool = setting(False, "also keep an exponential moving average of the weights")
    model_ema_decay: float = setting(0.9998, "decay of the average, per step", SHARE)
    model_ema_warmup: bool = setting(False, "let the decay rise from 0 at the start")
    precision: str = setting(
        "auto",
        "auto (default: bf16 on a GPU that computes in it, else fp32), fp32, or automatic mixed precision in "
        "bf16 or fp16",
        one_of("auto", *PRECISIONS),
    )
    compile: bool = setting(
        False,
        "compile the network's blocks, one time per block shape, which takes minutes at first and makes the "
        "steps on a GPU faster",
    )
    val_interval: int = setting(1, "epochs between two reports of the accuracy", at_least(1))
    seed: int = setting(0, "of everything that is drawn")

    scale: tuple[float, float] = setting(
        (0.08, 1.0), "smallest and largest area of the random crop (images above 32 pixels)", group=_IMAGES
    )
    ratio: tuple[float, float] = setting(
        (3 / 4, 4 / 3), "smallest and largest aspect ratio of the random crop", group=_IMAGES
    )
    crop_padding: int | None = setting(
        None,
        "pixels around images up to 32 pixels before a random crop (default an eighth of the side)",
        group=_IMAGES,
    )
    hflip: float = setting(0.5, "probability of a horizontal flip", group=_IMAGES)
    vflip: float = setting(0.0, "probability of a vertical flip", group=_IMAGES)
    aa: str | None = setting(
        "rand-m9-mstd0.5-inc1", "policy of automatic augmentation in timm's notation, or none", group=_IMAGES
    )
    color_jitter: float | None = setting(
        None, "strength of colour jitter; --aa takes its place", group=_IMAGES
    )
    color_jitter_prob: float | None = setting(
        None, "share of the images that it changes (default all)", group=_IMAGES
    )
    grayscale_prob: float = setting(0.0, "share of the images that lose their colours", group=_IMAGES)
    gaussian_blur_prob: float = setting(0.0, "share of the images that are blurred", group=_IMAGES)
    aug_repeats: int = setting(
        3, "copies of an image in an epoch, which shows so many times fewer images", NOT_NEGATIVE, _IMAGES
    )
    interpolation: str = setting("bicubic", "of resizing: bicubic, bilinear, …", group=_IMAGES)
    train_interpolation: str | None = setting(
        None, "of training images alone; also 'random', bilinear or bicubic", group=_IMAGES
    )
    crop_pct: float | None = setting(
        None,
        "share of the resized test image that is kept (default 0.875, or 1 up to 32 pixels)",
        group=_IMAGES,
    )

    reprob: float = setting(0.25, "probability of erasing a random part of an image", SHARE, _MIXING)
    remode: str = setting("pixel", "what is put there", one_of("const", "rand", "pixel"), _MIXING)
    recount: int = setting(1, "most parts that are erased", at_least(1), _MIXING)
    mixup: float = setting(0.8, "alpha of mixup; 0 for none", NOT_NEGATIVE, _MIXING)
    cutmix: float = setting(1.0, "alpha of cutmix; 0 for none", NOT_NEGATIVE, _MIXING)
    cutmix_minmax: tuple[float, float] | None = setting(
        None, "smallest and largest share that cutmix replaces, in place of its alpha", _MINMAX, _MIXING
    )
    mixup_prob: float = setting(1.0, "probability of mixup or cutmix", SHARE, _MIXING)
    mixup_switch_prob: float = setting(0.5, "probability of cutmix where both are on", SHARE, _MIXING)
    mixup_mode: str = setting("batch", "what is mixed alike", one_of("batch", "pair", "elem"), _MIXING)
    mixup_off_epoch: int = setting(
        0, "epoch from which on nothing is mixed (default 0: never)", NOT_NEGATIVE, _MIXING
    )

    teacher: str | None = setting(
        None, f"a timm model to learn from, or '{ORIGINAL}': the network of train --from", group=_TEACHER
    )
    teacher_checkpoint: str | None = setting(
        None, "its weights (default: timm's pretrained ones)", group=_TEACHER
    )
    distillation_type: str = setting(
        "hard", "learn its first answers, or all", one_of("hard", "soft"), _TEACHER
    )
    distillation_alpha: float = setting(0.5, "its share of the loss", SHARE, _TEACHER)
    distillation_tau: float = setting(1.0, "temperature of soft answers", POSITIVE, _TEACHER)

    @classmethod
    def for_space(cls, space: SearchSpace, task: str = "train", **changes: Any) -> Recipe:
        """The default recipe of a space, with changes: the paper's, or for images up to 64 pixels a plain one
        whose learning rate and length suit a small data set (`SMALL_IMAGES`).

        Args:
            space: search space, which gives the network's image size.
            task: 'train' for a supernet, 'retrain' or 'finetune' for a single network, see `TASKS`.
            changes: values by name.

        Raises:
            ConfigError: a value is out of its range.
        """
        defaults = cls._defaults(space, task)
        values = {**defaults, **changes}
        if "warmup_epochs" in defaults and "warmup_epochs" not in changes:  # epochs may be fewer
            values["warmup_epochs"] = min(defaults["warmup_epochs"], values["epochs"] // 5)
        return cls(**values)

    @staticmethod
    def _defaults(space: SearchSpace, task: str) -> dict[str, Any]:
        name, small = TASKS[task]
        if max(space.model.img_size) <= SMALL_IMAGE:
            return small
        return {} if name is None else recipe_values(name)

    @classmethod
    def for_run(
        cls,
        space: SearchSpace,
        task: str = "train",
        dataset: str | None = None,
        file: str | Path | None = None,
        **changes: Any,
    ) -> Recipe:
        """The recipe of a run, as the command line makes it: the defaults of command and space, then those of
        a named data set, then a file, then single values.

        Args:
            space: search space, which gives the network's image size.
            task: command, see `TASKS`.
            dataset: name of the data set, see `DATA_SETS`.
            file: packaged recipe, or a YAML file.
            changes: single values by name.

        Raises:
            ConfigError: a value is out of its range, or not for this command; the sentence names the flag, or
                file and key.
        """
        values = {} if file is None else recipe_values(file)
        for name, entry in settings_of(cls).items():
            alien = task != "train" and entry.group == SUPERNET
            if alien and values.get(name, entry.default) != entry.default:
                raise ConfigError(
                    f"--recipe {file}: {name} is for the training of a supernet; {task} does without it."
                )
        unknown = [name for name in changes if name not in settings_of(cls)]
        if unknown:
            raise ConfigError(
                f"'{unknown[0]}' is no value of a recipe; known are {', '.join(settings_of(cls))}."
            )
        before = {"epochs": cls.epochs, **cls._defaults(space, task), **values}
        shortened = _shortened(before, changes)
        changes = {**{name: shortened[name] for name in values if name in shortened}, **changes}
        return cls.for_space(space, task, **{**DATA_SETS.get(dataset or "", {}), **values, **changes})

    def __post_init__(self) -> None:
        require_ranges(self)
        problems = {}
        if self.warmup >= self.epochs:
            problems["warmup_epochs"] = f"0 or more, and below --epochs {self.epochs}"
        if self.widen_epochs >= self.epochs:
            problems["widen_epochs"] = f"0 or more, and below --epochs {self.epochs}"
        if self.mixes and self.batch_size % 2:
            problems["batch_size"] = "even, because mixup and cutmix take pairs of images"
        if self.teacher is None and self.teacher_checkpoint is not None:
            problems["teacher"] = "a timm model, because --teacher-checkpoint is given"
        if self.teacher == ORIGINAL and self.teacher_checkpoint is not None:
            problems["teacher_checkpoint"] = f"left out, because --teacher {ORIGINAL} has its weights already"
        require_ranges(self, problems)

    @property
    def warmup(self) -> int:
        """Epochs of warm-up."""
        return min(20, self.epochs // 5) if self.warmup_epochs is None else self.warmup_epochs

    @property
    def mixes(self) -> bool:
        """Whether images of a batch are mixed."""
        return self.mixup > 0 or self.cutmix > 0 or self.cutmix_minmax is not None

    def global_batch(self, world_size: int = 1) -> int:
        """Images of a step, for a number of processes."""
        return self.batch_size * self.grad_accum_steps * world_size

    def peak_lr(self, world_size: int = 1) -> float:
        """The learning rate after the warm-up, for a number of processes."""
        if self.lr is not None:
            return self.lr
        return self.lr_base * self.global_batch(world_size) / self.lr_base_size

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return asdict(self)

    def to_yaml(self, path: str | Path) -> None:
        """Write as a recipe file atomically."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in self.to_dict().items()}
        write_text(path, yaml.safe_dump(values, sort_keys=False, default_flow_style=None))

    def changed(self, **changes: Any) -> Recipe:
        """With other values; fewer epochs shorten the values of `SHORTENED` in proportion, unless they are
        given.

        Raises:
            ConfigError: a value is out of its range.
        """
        return replace(self, **{**_shortened(asdict(self), changes), **changes})


def _shortened(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `SHORTENED` that go along with fewer epochs; without those that are given, or stay.

    Args:
        before: values of a recipe, which may be wrong yet.
        changes: values that take their place.
    """
    epochs, fewer = before.get("epochs"), changes.get("epochs")
    if type(epochs) is not int or type(fewer) is not int or fewer >= epochs:
        return {}  # values of another kind are an error later
    proportional = {name: before.get(name) for name in SHORTENED if name not in changes}
    return {name: value * fewer // epochs for name, value in proportional.items() if type(value) is int}


def recipe_values(name_or_path: str | Path) -> dict[str, Any]:
    """The values of a packaged recipe ('paper', 'finetune', …) or a YAML file.

    Raises:
        ConfigError: there is no such recipe or file, or its content is wrong; the sentence names file and
            key.
    """
    return read_values(Recipe, packaged_or_own(name_or_path, "recipes", "--recipe", "recipe"))


def packaged_recipes() -> list[str]:
    """The names of the recipes that come with the package."""
    return packaged_names("recipes")
