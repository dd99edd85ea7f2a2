"""Flags and scripts of the published AutoFormer code, and what each is here; `PAGE` has them as tables."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise

PAGE = "docs/from_the_published_code.md"

SCRIPTS = {
    "supernet_train": "train, and with --mode retrain it is retrain, with --eval test",
    "evolution": "search",
    "subImageNet": "data subset",
}
"""The published scripts without .py, and the commands."""

SUPPORTED = ("train", "search", "test", "retrain", "finetune", "sample")
"""Commands that a published command line may be given to."""

_NETWORK = "a key of the space's file, under model: "
_LIGHTNING = "torchrun --nproc_per_node 8 -m nni_autoformer …, which tells it every process"
_OPTIMIZER = "nothing: the optimizer is AdamW, as the paper's"
_SCHEDULE = "nothing: the learning rate falls as a cosine, as the paper's"
_NEVER_USED = "nothing: the published code reads it and does not use it"

FLAGS: dict[str, str | dict[str, str]] = {
    # which network
    "--cfg": {
        "": "--space FILE, which reads the published YAML files",
        "test": "--architecture FILE, which reads the published YAML files with a section RETRAIN",
        "retrain": "--architecture FILE, which reads the published YAML files with a section RETRAIN",
        "finetune": "--architecture FILE, which reads the published YAML files with a section RETRAIN",
    },
    "--mode": "the command: train for super, retrain for retrain",
    "--gp": f"{_NETWORK}global_pool: avg, and that is the default",
    "--change_qk": "always on: every head has 64 channels",
    "--change_qkv": "always on: every head has 64 channels",
    "--relative_position": f"{_NETWORK}relative_position: true, and that is the default",
    "--max_relative_position": f"{_NETWORK}max_relative_position, 14 by default",
    "--no_abs_pos": f"{_NETWORK}absolute_position: false",
    "--input-size": {"": f"{_NETWORK}img_size", "finetune": "--img-size"},
    "--patch_size": f"{_NETWORK}patch_size",
    "--scale": "not supported: embeddings are not multiplied by their width",
    "--post_norm": "not supported: norms stand before attention and MLP",
    "--rpe_type": _NEVER_USED,
    "--model": _NEVER_USED,
    "--platform": _NEVER_USED,
    "--drop": "not supported: there is no dropout but --drop-path",
    "--drop-block": _NEVER_USED,
    # data
    "--data-path": "--data DIR",
    "--data-set": {
        "": "--dataset: cifar100 for CIFAR, inaturalist for INAT; IMNET is the default, a folder of images",
        "search": "nothing for EVO_IMNET: the search selects by the images that train held out, or by those "
        "of --selection; IMNET is the default, a folder of images",
    },
    "--inat-category": "not supported: iNaturalist's classes are its species",
    "--num_workers": "--workers",
    "--pin-mem": "--pin-memory",
    "--no-pin-mem": "--no-pin-memory",
    "--repeated-aug": "--aug-repeats 3",
    "--no-repeated-aug": "--aug-repeats 0",
    "--resplit": _NEVER_USED,
    # training
    "--teacher_model": "--teacher",
    "--teacher-model": "--teacher",
    "--amp": "--precision bf16, or fp16",
    "--no-amp": "--precision fp32",
    "--model-ema-force-cpu": "nothing: the average lies beside the weights",
    "--opt": _OPTIMIZER,
    "--momentum": _OPTIMIZER,
    "--sched": _SCHEDULE,
    "--lr-noise": _SCHEDULE,
    "--lr-noise-pct": _SCHEDULE,
    "--lr-noise-std": _SCHEDULE,
    "--lr-power": _SCHEDULE,
    "--decay-epochs": _SCHEDULE,
    "--cooldown-epochs": _SCHEDULE,
    "--patience-epochs": _SCHEDULE,
    "--decay-rate": _SCHEDULE,
    "--dr": _SCHEDULE,
    "--start_epoch": "--resume, which goes on with the run in --output from where it stopped",
    "--eval": "the command test",
    # search
    "--max-epochs": "--generations",
    "--select-num": "--num-parents",
    "--population-num": "--population-size",
    "--m_prob": "--gene-probability",
    "--s_prob": "--size-probability",
    "--crossover-num": "--num-crossovers",
    "--mutation-num": "--num-mutations",
    "--param-limits": "--max-params, in millions as well",
    "--min-param-limits": "--min-params, in millions as well",
    # processes and files
    "--dist-eval": "always on: the processes share the validation images, each image once",
    "--world_size": _LIGHTNING,
    "--dist_url": _LIGHTNING,
    "--output_dir": "--output DIR",
}
"""What each flag is here, by command where they differ; '' stands for all others."""

SAME = (
    *("--batch-size", "--epochs", "--seed", "--device", "--drop-path", "--model-ema", "--no-model-ema"),
    *("--model-ema-decay", "--opt-eps", "--opt-betas", "--clip-grad", "--weight-decay", "--warmup-lr"),
    *("--min-lr", "--warmup-epochs", "--color-jitter", "--aa", "--smoothing", "--train-interpolation"),
    *("--reprob", "--remode", "--recount", "--mixup", "--cutmix", "--cutmix-minmax", "--mixup-prob"),
    *("--mixup-switch-prob", "--mixup-mode"),
)
"""Flags that mean the same here."""

OTHER_MEANING = ("--lr", "--resume")
"""Flags that are here and mean something else."""


RESUME = (
    "--resume takes no file, as it does in the published code; here it goes on with the run in --output, and "
    f"weights to search, test or fine-tune are --checkpoint FILE ({PAGE})."
)
"""What is said of a file behind the flag, which no command of ours takes."""


def advice(command: str, flag: str) -> str | None:
    """What a flag of the published code is in a command, as a sentence; None for any other flag.

    Args:
        command: name of the command.
        flag: the flag, with its dashes.
    """
    told = FLAGS.get(flag) if command in SUPPORTED else None
    if told is None:
        return None
    here = told if isinstance(told, str) else told.get(command, told[""])
    return f"{flag} is a flag of the published code; here it is {here} ({PAGE})."


def advice_for(parser: argparse.ArgumentParser, words: Sequence[str]) -> str | None:
    """The advice for the first flag or script of the published code in a command line; None where there is
    none.

    Args:
        parser: parser of the whole command line.
        words: the command line.
    """
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices
    name, *flags = words or ("",)
    script = name.rpartition("/")[2].removesuffix(".py")
    if script in SCRIPTS and name not in commands:
        return f"{name} is a script of the published code; here the command is {SCRIPTS[script]} ({PAGE})."
    if name not in commands:
        return None
    known = commands[name]._option_string_actions
    if name in SUPPORTED and any(
        flag == "--resume" and not word.startswith("-") for flag, word in pairwise(flags)
    ):
        return RESUME
    given = [word.partition("=")[0] for word in flags]
    return next((told for flag in given if flag not in known and (told := advice(name, flag))), None)
