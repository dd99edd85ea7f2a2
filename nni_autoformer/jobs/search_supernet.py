"""Searching a trained supernet for the best subnet within limits (paper section 3.4)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.header import OWN_KINDS
from ..config import at_least, one_of, require_ranges, setting
from ..costs import measured_costs
from ..data.data_set import DataSet
from ..deployment import Deployment, Target
from ..errors import ConfigError
from ..experiment import current_trial
from ..experiment.exposure import EVERYWHERE, LOOPBACK
from ..experiment.preflight import require_host, require_room
from ..experiment.quiet import quieten_libraries
from ..experiment.trial import Trial
from ..files import digest, real_path
from ..search.algorithms import searcher_with, tell_setting
from ..search.driver import RETRIES
from ..search.evaluation import Evaluation
from ..search.evolution import EvolutionConfig
from ..search.folder import SearchFolder
from ..search.ledger import Candidate
from ..search.limits import Limits
from ..search.random_search import RandomConfig
from ..search.searcher import Searcher
from ..space import SearchSpace
from ..training.ranks import Ranks
from .evaluate import images_of
from .plans import search_plan
from .reads import ImagesRead, files_among, files_read, open_splits
from .remembered import data_for
from .run_folder import RunFolder, place_of, run_once
from .searched import Searched, report_search, with_measured

if TYPE_CHECKING:
    from nni.nas.experiment import NasExperiment

    from ..checkpoints import Checkpoint
    from ..data import ImageSource
    from ..search.crew import Crew
    from ..search.images import EvaluationImages
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
    keep_ui: bool = setting(False, "keep the web UI after the search has ended, until Ctrl-C", group="engine")
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
        if self.engine == "sequential" and self.keep_ui:
            raise ConfigError("--keep-ui needs --engine nni; the sequential engine has no web UI.")


def search(
    checkpoint: str | Path,
    data: DataSet | str | Path | None,
    output: str | Path,
    *,
    limits: Limits = Limits(),
    deployment: Deployment = Deployment(),
    latency_table: str | Path | None = None,
    algorithm: EvolutionConfig | RandomConfig = EvolutionConfig(),
    evaluation: Evaluation = Evaluation(),
    engine: Engine = Engine(),
    selection: str | None = None,
    space: SearchSpace | str | Path | None = None,
    use_ema: bool = False,
    resume: bool = False,
    overwrite: bool = False,
) -> Searched:
    """Search a trained supernet in a run folder of its own, with the other processes that torchrun has
    started.

    Args:
        checkpoint: file of the supernet.
        data: images; a path means a folder of images, None the data that the supernet was trained on.
        output: folder of the run.
        limits: what a subnet may cost.
        deployment: how the winner will run, which decides some of its costs.
        latency_table: file of measured latencies of the device, by which a limit on latency is kept; the
            winner is measured as a whole.
        algorithm: how candidates are proposed: the configuration of a search algorithm.
        evaluation: where and how candidates are evaluated.
        engine: who runs the candidates.
        selection: training images to select by, 'N-per-class' or a file; None for the checkpoint's own list.
        space: search space of a file that does not name its own.
        use_ema: take the moving average of the weights from a foreign file that holds plain ones, too.
        resume: go on with an unfinished search in the folder.
        overwrite: delete the run in the folder and start anew.

    Raises:
        ConfigError: something that the user can put right, most of it before any evaluation.
        KeyboardInterrupt: the search was stopped before its end.
        Terminated: the process was asked to end.
    """
    path, place = Path(checkpoint), place_of(output)
    data, target = data_for(path, data), Target.of(deployment, latency_table)
    ranks = Ranks.current()
    require_engine(engine, ranks)
    trial = current_trial() if ranks.main else None
    with ranks.connected(cuda=False):
        here = evaluation.of_rank(ranks)

        def prepared() -> tuple[Search, RunFolder]:
            from ..checkpoints import Checkpoint

            here.require_device()
            images = images_of(path, data, here, "selection", selection)
            expected = None if space is None else SearchSpace.load(space)
            if expected is not None:
                limits.require_feasible(expected, target.costs(expected))
            if engine.engine == "nni":
                require_host(place, engine.port)
            opened = Checkpoint(path, expected, use_ema=use_ema)
            opened.require_expected()
            header = opened.header
            source = images.of(header, open_splits(data, header.space.model.in_chans, ranks))
            searcher = searcher_with(header.space, limits, algorithm, target.costs(header.space))
            tell_setting(searcher)
            config = {
                "checkpoint": str(real_path(path)),
                "selection": digest(source.identifiers),
                "limits": limits.to_dict(),
                "deployment": target.record,
                searcher.algorithm: asdict(algorithm),
                "precision": evaluation.precision,
                **opened.choice,
            }
            report = _reporter(trial, algorithm.population_size)
            run = Search(opened, images, source, searcher, here, engine, report, ranks, target)
            reads = {"selection images": ImagesRead(source), **files_read(checkpoint=path)}
            inputs = [path, data.folder, selection, latency_table, *files_among([space])]
            defaults = {searcher.algorithm: asdict(type(algorithm)())}
            return run, RunFolder(place, "search", config, reads, inputs, defaults)

        run, folder = ranks.agree(prepared, one_first=True)
        found: list[Searched] = []
        fresh = run_once(
            folder,
            ranks,
            lambda: found.append(run.into(place)),
            last=lambda: report_search(found[0], target),
            resume=resume,
            overwrite=overwrite,
        )
        if not fresh:
            found.append(run.finished(place))
        searched = with_measured(found[0], target, ranks)
    if trial is not None:
        trial.report_final(_metric(run.searcher, searched.winner))
    return searched


def require_engine(engine: Engine, ranks: Ranks) -> None:
    """Check that an engine can do what is asked for.

    Raises:
        ConfigError: it is not for several processes.
    """
    if engine.engine != "sequential" and ranks.world_size > 1:
        raise ConfigError(
            f"--engine {engine.engine} starts a process for each trial by itself (--concurrency); start it "
            "without torchrun, or share the candidates among its processes with --engine sequential."
        )


def _reporter(trial: Trial | None, population: int) -> Callable[[Searcher], Any] | None:
    """As an NNI trial: report the best accuracy so far at the end of every generation."""
    if trial is None:
        return None
    trial.go_on()

    def report(searcher: Searcher) -> None:
        if searcher.ledger.told and searcher.ledger.answered % population == 0:
            trial.report_intermediate(_metric(searcher, searcher.ledger.best()[0]))

    return report


def _metric(searcher: Searcher, winner: Candidate) -> dict[str, Any]:
    ledger = searcher.ledger
    loss = ledger[winner.number].loss
    known = {} if loss is None else {"loss": loss}
    costs = measured_costs(winner.architecture, searcher.space.model, searcher.costs)
    return {"default": ledger[winner.number].accuracy, **known, **costs, "candidates": ledger.told}


class Search:
    """A search that has been checked and can start.

    Args:
        checkpoint: the supernet; the sequential engine loads it at once.
        images: which images candidates are compared on.
        source: these images, not decoded yet.
        searcher: what is searched.
        evaluation: how candidates are evaluated.
        engine: who runs them.
        report: called after every answer.
        ranks: this process among those that share the candidates.
        target: how a subnet will run, for trials, which report what it costs there.

    Raises:
        ConfigError: the supernet cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        images: EvaluationImages,
        source: ImageSource,
        searcher: Searcher,
        evaluation: Evaluation,
        engine: Engine = Engine(),
        report: Callable[[Searcher], Any] | None = None,
        ranks: Ranks = Ranks(),
        target: Target = Target(),
    ) -> None:
        self.images, self.source, self.header = images, source, checkpoint.header
        self.searcher = searcher
        self.evaluation, self.engine, self.report = evaluation, engine, report
        self.ranks, self.target = ranks, target
        self._use_ema = checkpoint.use_ema
        self._supernet = checkpoint.supernet() if engine.engine == "sequential" else None

    def into(self, output: Path) -> Searched:
        """Search in a folder, or go on with the search whose state the folder holds.

        Args:
            output: folder of the run; only the main process needs to reach it.

        Raises:
            ConfigError: an image cannot be read, or every trial has failed.
            KeyboardInterrupt: the search was stopped before its end.
            Terminated: the process was asked to end.
        """
        from ..experiment.run import terminable
        from ..search.crew import Crew
        from ..search.strategy import EvolutionStrategy

        quieten_libraries()
        self.ranks.tell(search_plan(self.searcher, len(self.source), self.evaluation))
        crew = Crew(self.ranks) if self.ranks.world_size > 1 else None
        strategy = EvolutionStrategy(
            self.searcher,
            output,
            retries=self.engine.retries,
            on_answer=self.report,
            crew=crew,
        )
        experiment = None
        if self.engine.engine == "sequential":
            with terminable():
                self._here(output, strategy, crew)
        else:
            experiment = self._as_trials(output, strategy)
        self._tell_all()
        if not self.searcher.done:
            require_room(output)
            raise KeyboardInterrupt
        assert strategy.folder is not None
        kept = experiment if self.engine.keep_ui else None
        files, count = strategy.folder, len(self.source)
        return Searched(output, self.searcher, files, count, experiment=kept)

    def finished(self, output: Path) -> Searched:
        """The complete search that a folder holds."""
        files = SearchFolder(output, self.searcher)
        self.ranks.on_main(files.resume)
        self._tell_all()
        return Searched(output, self.searcher, files, len(self.source), fresh=False)

    def _here(self, output: Path, strategy: EvolutionStrategy, crew: Crew | None) -> None:
        from ..experiment import run_experiment
        from ..search.parts import PartEvaluator

        progress, ranks = "decode selection images" if self.ranks.main else None, self.ranks
        decoded = ranks.agree(lambda: self.images.decoded(self.header, progress, self.source))
        evaluator, supernet = self.evaluation.evaluator(self.header, decoded), self._supernet
        assert supernet is not None
        if crew is None:
            run_experiment(supernet, evaluator, strategy, output)
            return
        crew.require_same(supernet, decoded)
        if ranks.main:
            with crew.ended():
                run_experiment(supernet, evaluator, strategy, output)
        else:
            crew.serve(PartEvaluator(supernet, evaluator))

    def _tell_all(self) -> None:
        """Let every rank know what the main one has found."""
        searcher = self.searcher
        known = searcher.state_dict(), [entry.details for entry in searcher.ledger]
        state, details = self.ranks.on_main(lambda: known)
        if not self.ranks.main:
            searcher.load_state_dict(state)
            for entry, found in zip(searcher.ledger, details):
                entry.details = found

    def _as_trials(self, output: Path, strategy: EvolutionStrategy) -> NasExperiment:
        import torch

        from ..devices import pick_device
        from ..experiment import run_trials
        from ..model import AutoFormer
        from ..search.trial_evaluator import TrialEvaluator

        images, evaluation, engine = self.images, self.evaluation, self.engine
        if images.store != "none":  # so that the trials find them
            images.decoded(self.header, "decode selection images", self.source)
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
            **self.target.arguments,
        )
        on_gpu = pick_device(evaluation.device).type == "cuda"
        _logger.info("Web UI: http://localhost:%d", engine.port)
        return run_trials(
            AutoFormer(str(space.resolve())),
            evaluator,
            strategy,
            output,
            port=engine.port,
            host=engine.host,
            concurrency=engine.concurrency,
            gpus=torch.cuda.device_count() if on_gpu else 0,
            name=f"search {self.header.space.name}",
            tuner=f"AutoFormer {type(self.searcher).__name__}",
            keep_ui=engine.keep_ui,
        )
