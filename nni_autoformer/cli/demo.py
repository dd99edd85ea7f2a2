"""``nni-autoformer demo``: the whole job on scikit-learn's scanned digits, in a few minutes on a CPU."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from ..experiment import current_trial
from ..jobs.preparation import SUPERNET_FILE, TrainJob
from ..jobs.run_folder import RunFolder, jsonable
from ..report.summary import FIGURE_FILE, SUMMARY_FILE, print_search
from ..search.evolution import Evolution, EvolutionConfig, Limits
from ..space import SearchSpace
from ..training.recipe import Recipe
from . import options
from .evaluation import Evaluation
from .recipe_flags import DIGITS
from .search import Search
from .test import test

SELECTION = "24-per-class"
"""A fifth of the training images; fewer, and the best of many candidates is mostly a lucky one."""

LIMITS = Limits(max_params=0.25)


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("demo", help="the whole job on small real images", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("--seed", type=int, default=0, help="of training and search (default 0)")
    parser.add_argument("--epochs", type=int, default=80, help="passes over the training images (default 80)")
    options.add_device(parser)
    options.add_output(parser, default="runs/demo")


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..checkpoints import read_header
    from ..data import open_data
    from ..devices import pick_device
    from ..search.images import EvaluationImages

    output = options.output_of(arguments)
    space = SearchSpace.load("digits")
    recipe = Recipe.for_space(
        space,
        epochs=arguments.epochs,
        batch_size=32,
        lr=3e-3,
        warmup_epochs=min(3, arguments.epochs - 1),
        drop_path=0.1,
        opt_betas=(0.9, 0.98),
        clip_grad=1.0,
        precision="fp32",
        val_interval=10,
        seed=arguments.seed,
        **DIGITS,
    )
    evolution = Evolution(
        space,
        LIMITS,
        EvolutionConfig(
            population_size=40, num_mutations=20, num_crossovers=20, generations=5, seed=arguments.seed
        ),
    )
    splits = open_data("digits", None, space.model.in_chans)
    job = TrainJob.prepare(space, recipe, splits, "digits", SELECTION, pick_device(arguments.device))
    folder = RunFolder(output, "demo", jsonable({"recipe": recipe.to_dict()}))
    if folder.open(resume=arguments.resume, overwrite=arguments.overwrite):
        print(f"{output} holds the finished demo already:\n\n{(output / SUMMARY_FILE).read_text()}")
        return
    job.run(output)

    images = EvaluationImages(str(output / SUPERNET_FILE), "digits", store="none")
    header = read_header(output / SUPERNET_FILE)
    evaluation = Evaluation(device=arguments.device)
    Search(images, header, evolution, evaluation).into(output, images.of(header, splits))
    best = evolution.best()[0].architecture
    accuracy = test(replace(images, split="test"), best, evaluation)
    more = [
        (f"top-1 on {accuracy['images']} test images, never seen", f"{accuracy['top1']:.2f} %"),
        ("figure", str(output / FIGURE_FILE)),
    ]
    print_search(evolution, output, more)
    folder.finish()
    if (trial := current_trial()) is not None:
        trial.report_final(accuracy)
