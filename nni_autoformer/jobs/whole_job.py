"""The whole job on scikit-learn's scanned digits: a supernet, a search, the winner's test, in one folder."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from ..data.data_set import DataSet
from ..experiment import current_trial
from ..search.evaluation import Evaluation
from ..search.evolution import Evolution, EvolutionConfig
from ..search.limits import Limits
from ..space import SearchSpace
from ..training.ranks import Ranks
from ..training.recipe import Recipe
from .evaluate import Tested, evaluated, images_of
from .preparation import SUPERNET_FILE, TrainJob, device_of
from .reads import open_splits
from .run_folder import RunFolder, place_of, run_once
from .search_supernet import Search
from .searched import Searched, write_report

_logger = logging.getLogger("nni_autoformer")

SELECTION = "24-per-class"
"""A fifth of the training images; fewer, and the best of many candidates is mostly a lucky one."""

LIMITS = Limits(max_params=0.25)


@dataclass(frozen=True)
class Demonstrated:
    """What the demo has found.

    Attributes:
        output: folder of the run.
        searched, tested: the search, and the winner's test; None where the folder held the finished demo
            already.
    """

    output: Path
    searched: Searched | None = None
    tested: Tested | None = None


def demo(
    output: str | Path = "runs/demo",
    *,
    epochs: int = 80,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> Demonstrated:
    """Train a supernet on the digits, search it, and test the winner on images that neither has seen.

    Args:
        output: folder of the run.
        epochs: passes over the training images.
        seed: random seed of training and search.
        device: where to compute, 'auto', 'cpu', 'cuda', …
        resume: go on with an unfinished demo in the folder.
        overwrite: delete the run in the folder and start anew.

    Raises:
        ConfigError: something that the user can put right.
    """
    from ..checkpoints import Checkpoint
    from ..report.summary import FIGURE_FILE

    place, space, data = place_of(output), SearchSpace.load("digits"), DataSet("digits")
    recipe = Recipe.for_run(
        space,
        "train",
        "digits",
        epochs=epochs,
        batch_size=32,
        lr=3e-3,
        warmup_epochs=min(3, epochs - 1),
        drop_path=0.1,
        opt_betas=(0.9, 0.98),
        clip_grad=1.0,
        precision="fp32",
        val_interval=10,
        seed=seed,
    )
    config = EvolutionConfig(
        population_size=40, num_parents=10, num_mutations=20, num_crossovers=20, generations=5, seed=seed
    )
    evolution, evaluation = Evolution(space, LIMITS, config), Evaluation(device=device)
    splits = open_splits(data, space.model.in_chans)
    job = TrainJob.prepare(space, recipe, splits, "digits", SELECTION, device_of(device, Ranks()))
    folder = RunFolder(place, "demo", {"recipe": recipe.to_dict()}, defaults={"recipe": Recipe().to_dict()})
    found: list[Demonstrated] = []

    def work() -> None:
        _logger.info(
            f"A supernet is trained on scikit-learn's scanned digits, {evolution.planned} of its subnets "
            f"with at most {LIMITS['params'][1]:g} M parameters are compared, and the best one is tested."
        )
        job.run(place)
        images = images_of(place / SUPERNET_FILE, data, evaluation, "selection", None, store="none")
        trained = Checkpoint(place / SUPERNET_FILE)
        search = Search(trained, images, images.of(trained.header, splits), evolution, evaluation)
        searched = search.into(place)
        test_images, best = replace(images, split="test"), searched.best.architecture
        tested = evaluated(trained, test_images, best, evaluation)
        more = [
            (f"top-1 on {tested.images} test images, never seen", f"{tested.top1:.2f} %"),
            ("figure", str(place / FIGURE_FILE)),
        ]
        write_report(searched, more)
        found.append(Demonstrated(place, searched, tested))

    if not run_once(folder, Ranks(), work, resume=resume, overwrite=overwrite):
        return Demonstrated(place)
    tested = found[0].tested
    if tested is not None and (trial := current_trial()) is not None:
        trial.report_final(tested.metric)
    return found[0]
