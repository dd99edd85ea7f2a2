"""A bad value of the recipe names its flag."""

import pytest

from nni_autoformer import ConfigError
from nni_autoformer.training.recipe import Recipe


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "--epochs is 0; it should be at least 1"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"lr": -1.0}, "--lr is -1.0; it should be above 0"),
        ({"lr_base": 0.0}, "--lr-base is 0.0"),
        ({"lr_base_size": 0}, "--lr-base-size is 0"),
        ({"min_lr": -1.0}, "--min-lr is -1.0"),
        ({"warmup_lr": -1.0}, "--warmup-lr is -1.0"),
        (
            {"epochs": 5, "warmup_epochs": 5},
            "--warmup-epochs is 5; it should be 0 or more, and below --epochs 5",
        ),
        (
            {"epochs": 5, "widen_epochs": 5},
            "--widen-epochs is 5; it should be 0 or more, and below --epochs 5",
        ),
        ({"widen_epochs": -1}, "--widen-epochs is -1; it should be 0 or more"),
        (
            {"teacher": "original", "teacher_checkpoint": "x"},
            "--teacher-checkpoint is x; it should be left out, because --teacher original has its weights",
        ),
        ({"weight_decay": -0.1}, "--weight-decay is -0.1"),
        ({"opt_betas": (0.9, 1.0)}, "--opt-betas is"),
        ({"opt_eps": 0.0}, "--opt-eps is 0.0"),
        ({"clip_grad": 0.0}, "--clip-grad is 0.0"),
        ({"smoothing": 1.0}, "--smoothing is 1.0"),
        ({"drop_path": -0.1}, "--drop-path is -0.1"),
        ({"precision": "fp8"}, "--precision is fp8; it should be one of auto, fp32, bf16, fp16"),
        ({"val_interval": 0}, "--val-interval is 0"),
    ],
)
def test_a_bad_value(values, words):
    with pytest.raises(ConfigError, match=words):
        Recipe(**values)
