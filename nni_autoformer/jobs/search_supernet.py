"""Searching a trained supernet for the best subnet within limits (paper section 3.4)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..architecture import Architecture
from ..checkpoints.header import OWN_KINDS
from ..complexity import costs_of
from ..config import at_least, one_of, require_ranges, setting
from ..data.data_set import DataSet
from ..errors import ConfigError
from ..experiment import current_trial
from ..experiment.exposure import EVERYWHERE, LOOPBACK
from ..experiment.quiet import quieten_libraries
from ..experiment.trial import Trial
from ..files import digest, real_path, told_when_full
from ..search.algorithms import searcher_with
from ..search.driver import RETRIES
from ..search.evaluation import Evaluation
from ..search.evolution import EvolutionConfig
from ..search.folder import SearchFolder
from ..search.limits import Limits
from ..search.random_search import RandomConfig
from ..search.searcher import Searcher
from ..space import SearchSpace
from ..training.ranks import Ranks
from .evaluate import images_of
from .reads import ImagesRead, files_among, files_read, open_splits
from .run_folder import RunFolder, place_of, run_once

if TYPE_CHECKING:
    from ..checkpoints import Checkpoint
    from ..data import ImageSource
    from ..search.images import EvaluationImages
    from ..search.racing import Racing
    from ..search.strategy import EvolutionStrategy

_logger = logging.getLogger("nni_autoformer")

SPACE_FILE = "space.yaml"


@dataclass(frozen=True)
class Engine:
    """Who runs the candidates.

    Raises:
        ConfigError: a value is out of its range, or needs another engine.
    """

    engine: str = setting(
        "sequential",
        "'sequential': in this process, the fastest on one device (the default); "
        "'nni': each a trial of its own on NNI's training service, shown in its web UI",
        one_of("sequential", "nni"),
        "engine",
    )
    port: int = setting(8080, "port of the web UI", group="engine", metavar="PORT")
    host: str = setting(
        LOOPBACK,
        f"address that NNI's server listens on: {LOOPBACK} (default) for this machine alone, {EVERYWHERE} "
        "for all who reach it; it asks nobody who he is",
        one_of(LOOPBACK, EVERYWHERE),
        "engine",
        "ADDRESS",
    )
    concurrency: int = setting(1, "trials at a time", at_least(1), "engine", "N")
    retries: int = setting(
        RETRIES,
        "how often a failing trial is run again before its candidate is given up",
        at_least(0),
        "engine",
        "N",
    )

    def __post_init__(self) -> None:
        require_ranges(self)
        if self.engine == "sequential" and self.concurrency > 1:
            raise ConfigError("--concurrency needs --engine nni; the sequential engine is one process.")


@dataclass(frozen=True)
class Ranked:
    """An evaluated subnet of a search.

    Attributes:
        number: position in the order of proposals, from 0.
        architecture: the subnet.
        accuracy: top-1 in percent on the selection images.
        costs: counts of all costs, by name.
    """

    number: int
    architecture: Architecture
    accuracy: float
    costs: dict[str, int]


@dataclass(frozen=True)
class Searched:
    """What a search has found.

    Attributes:
        output: folder of the run.
        searcher: the search, complete.
        files: what the search left in the folder.
        images: number of selection images.
        racing: how candidates were raced; None for not at all.
        fresh: False where the folder held the finished search already.
    """

    output: Path
    searcher: Searcher
    files: SearchFolder
    images: int
    racing: Racing | None = None
    fresh: bool = True

    @property
    def ranking(self) -> list[Ranked]:
        """All evaluated subnets, best first."""
        model = self.searcher.space.model
        return [
            Ranked(candidate.number, architecture, accuracy, costs_of(architecture, model))
            for candidate, accuracy in self.searcher.ledger.ranking()
            for architecture in [candidate.architecture]
        ]

    @property
    def best(self) -> Ranked:
        """The winner."""
        return self.ranking[0]


def search(
    checkpoint: str | Path,
    data: DataSet | str | Path,
    output: str | Path,
    *,
    limits: Limits = Limits(),
    algorithm: EvolutionConfig | RandomConfig = EvolutionConfig(),
    evaluation: Evaluation = Evaluation(),
    engine: Engine = Engine(),
    racing: Racing | None = None,
    selection: str | None = None,
    space: SearchSpace | str | Path | None = None,
    use_ema: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> Searched:
    """Search a trained supernet in a run folder of its own.

    Args:
        checkpoint: file of the supernet.
        data: images; a path means a folder of images.
        output: folder of the run.
        limits: what a subnet may cost.
        algorithm: how candidates are proposed: the configuration of a search algorithm.
        evaluation: where and how candidates are evaluated.
        engine: who runs the candidates.
        racing: how candidates are stopped early; None evaluates all on all images.
        selection: training images to select by, 'N-per-class' or a file; None for the checkpoint's own list.
        space: search space of a file that does not name its own.
        use_ema: take the moving average of the weights from a foreign file that holds plain ones, too.
        resume: go on with an unfinished search in the folder.
        overwrite: delete the run in the folder and start anew.

    Raises:
        ConfigError: something that the user can put right, most of it before any evaluation.
        KeyboardInterrupt: the search was stopped before its end.
    """
    from ..checkpoints import Checkpoint

    path, place, data = Path(checkpoint), place_of(output), DataSet.of(data)
    evaluation.require_device()
    images = images_of(path, data, evaluation, "selection", selection)
    expected = None if space is None else SearchSpace.load(space)
    if expected is not None:
        limits.require_feasible(expected)
    if racing is not None and engine.engine != "sequential":
        raise ConfigError("--racing needs --engine sequential: only in one process can candidates race.")
    if engine.engine == "nni":
        from ..experiment.preflight import require_host

        require_host(place, engine.port)
    opened = Checkpoint(path, expected, use_ema=use_ema)
    opened.require_expected()
    header = opened.header
    source = images.of(header, open_splits(data, header.space.model.in_chans))
    searcher = searcher_with(header.space, limits, algorithm)
    trial = current_trial()
    config = {
        "checkpoint": str(real_path(path)),
        "selection": digest(source.identifiers),
        "limits": limits.to_dict(),
        searcher.algorithm: asdict(algorithm),
        "precision": evaluation.precision,
        "racing": None if racing is None else racing.confidence,
        **opened.choice,
    }
    run = Search(
        opened, images, searcher, evaluation, engine, _reporter(trial, algorithm.population_size), racing
    )
    reads = {"selection images": ImagesRead(source), **files_read(checkpoint=path)}
    folder = RunFolder(
        place, "search", config, reads, inputs=[path, data.folder, selection, *files_among([space])]
    )
    found: list[Searched] = []
    fresh = run_once(
        folder,
        Ranks(),
        lambda: found.append(run.into(place, source)),
        last=lambda: write_report(found[0]),
        resume=resume,
        overwrite=overwrite,
    )
    if not fresh:
        files = SearchFolder(place, searcher)
        files.resume()
        return Searched(place, searcher, files, len(source), racing, fresh=False)
    if trial is not None:
        trial.report_final(_metric(searcher))
    return found[0]


def write_report(found: Searched, more: list[tuple[str, str]] | None = None) -> None:
    """Draw the figure of all candidates and write the summary.

    Args:
        found: the complete search.
        more: further rows of the summary.
    """
    from ..report.figures import draw_candidates
    from ..report.summary import FIGURE_FILE, SUMMARY_FILE, write_summary

    with told_when_full(found.output / FIGURE_FILE):
        draw_candidates(found.searcher, found.output / FIGURE_FILE)
    with told_when_full(found.output / SUMMARY_FILE):
        write_summary(found.output, [*found_rows(found), *(more or [])])


def found_rows(found: Searched) -> list[tuple[str, str]]:
    """What a search found, as rows of a table; with racing also what that has spared."""
    from ..report.summary import search_rows

    searcher, rows = found.searcher, search_rows(found.searcher)
    if found.racing is None:
        return rows
    seen = found.files.image_evaluations()
    ledger = searcher.ledger
    everything = found.images * (ledger.told + ledger.stopped)
    stopped = (
        f"{ledger.stopped:,}, out of the best {searcher.keep} "
        f"with {100 * found.racing.confidence:g} % confidence"
    )
    evaluations = f"{seen:,} of {everything:,} ({100 * seen / everything:.1f} %)"
    return [*rows, ("candidates stopped early", stopped), ("image evaluations", evaluations)]


def _reporter(trial: Trial | None, population: int) -> Callable[[Searcher], Any] | None:
    """As an NNI trial: report the best accuracy so far at the end of every generation."""
    if trial is None:
        return None

    def report(searcher: Searcher) -> None:
        if searcher.ledger.told and searcher.ledger.answered % population == 0:
            trial.report_intermediate(_metric(searcher))

    return report


def _metric(searcher: Searcher) -> dict[str, float]:
    ledger = searcher.ledger
    candidate, accuracy = ledger.best()
    costs = costs_of(candidate.architecture, searcher.space.model)
    return {"default": accuracy, **costs, "candidates": ledger.told + ledger.stopped}


class Search:
    """A search that has been checked and can start.

    Args:
        checkpoint: the supernet; the sequential engine loads it at once.
        images: which images candidates are compared on.
        searcher: what is searched.
        evaluation: how candidates are evaluated.
        engine: who runs them.
        report: called after every answer.
        racing: how candidates are stopped early; None for not at all.

    Raises:
        ConfigError: the supernet cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        images: EvaluationImages,
        searcher: Searcher,
        evaluation: Evaluation,
        engine: Engine = Engine(),
        report: Callable[[Searcher], Any] | None = None,
        racing: Racing | None = None,
    ) -> None:
        self.images, self.header, self.searcher = images, checkpoint.header, searcher
        self.evaluation, self.engine, self.report = evaluation, engine, report
        self.racing = racing
        self._use_ema = checkpoint.use_ema
        self._supernet = checkpoint.supernet() if engine.engine == "sequential" else None

    def into(self, output: Path, source: ImageSource) -> Searched:
        """Search in a folder, or go on with the search whose state the folder holds.

        Args:
            output: folder of the run.
            source: the selection images.

        Raises:
            ConfigError: an image cannot be read, or every trial has failed.
            KeyboardInterrupt: the search was stopped before its end.
        """
        from ..search.strategy import EvolutionStrategy

        quieten_libraries()
        strategy = EvolutionStrategy(
            self.searcher,
            output,
            retries=self.engine.retries,
            on_answer=self.report,
            racing=self.racing,
        )
        if self.engine.engine == "sequential":
            self._here(output, strategy, source)
        else:
            self._as_trials(output, strategy, source)
        if not self.searcher.done:
            raise KeyboardInterrupt
        assert strategy.folder is not None
        return Searched(output, self.searcher, strategy.folder, len(source), self.racing)

    def _here(self, output: Path, strategy: EvolutionStrategy, source: ImageSource) -> None:
        from ..experiment import run_experiment

        decoded = self.images.decoded(self.header, "decode selection images", source)
        assert self._supernet is not None
        run_experiment(self._supernet, self.evaluation.evaluator(self.header, decoded), strategy, output)

    def _as_trials(self, output: Path, strategy: EvolutionStrategy, source: ImageSource) -> None:
        import torch

        from ..devices import pick_device
        from ..experiment import run_trials
        from ..model import AutoFormer
        from ..search.trial_evaluator import TrialEvaluator

        images, evaluation, engine = self.images, self.evaluation, self.engine
        if images.store != "none":  # so that the trials find them
            images.decoded(self.header, "decode selection images", source)
        # a trial gets the model space as its constructor's arguments, and a path is the smallest of them
        space = output / SPACE_FILE
        self.header.space.to_yaml(space)
        evaluator = TrialEvaluator(
            checkpoint=images.checkpoint,
            dataset=images.dataset,
            data=images.data,
            selection=images.selection,
            store=images.store,
            workers=images.workers,
            space=None if self.header.kind in OWN_KINDS else str(space.resolve()),
            use_ema=self._use_ema,
            batch_size=evaluation.batch_size,  # type: ignore[arg-type]
            device=evaluation.device,
            precision=evaluation.precision,
        )
        on_gpu = pick_device(evaluation.device).type == "cuda"
        _logger.info("Web UI: http://localhost:%d", engine.port)
        run_trials(
            AutoFormer(str(space.resolve())),
            evaluator,
            strategy,
            output,
            port=engine.port,
            host=engine.host,
            concurrency=engine.concurrency,
            gpus=torch.cuda.device_count() if on_gpu else 0,
            name=f"search {self.header.space.name}",
        )
