"""``nni-autoformer search``: search a trained supernet for the best subnet within limits."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..complexity import macs, params
from ..errors import ConfigError
from ..experiment import Trial, current_trial
from ..files import digest
from ..jobs.run_folder import RunFolder, jsonable
from ..report.summary import print_search
from ..search.driver import RETRIES
from ..search.evolution import Evolution, EvolutionConfig
from ..space import SearchSpace
from . import options, quieten_libraries
from .evaluation import Evaluation, images_of

if TYPE_CHECKING:
    from ..checkpoints.header import Header
    from ..data import ImageSource
    from ..model import AutoFormer
    from ..search.images import EvaluationImages
    from ..search.racing import Racing
    from ..search.strategy import EvolutionStrategy

SPACE_FILE = "space.yaml"
ENGINES = ("sequential", "nni")


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("search", help="search a supernet under limits", description=__doc__)
    parser.set_defaults(run=run)
    options.add_checkpoint(parser, "a trained supernet")
    options.add_data(parser)
    options.add_images(parser)
    options.add_limits(parser)
    add_evolution(parser)
    options.add_evaluation(parser)
    add_engine(parser)
    add_racing(parser)
    options.add_output(parser)


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Who runs the candidates."""
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="'sequential': in this process, the fastest on one device (the default); "
        "'nni': each a trial of its own on NNI's training service, shown in its web UI",
    )
    group.add_argument("--port", type=int, default=8080, help="of the web UI (default 8080)")
    group.add_argument("--concurrency", type=int, default=1, metavar="N", help="trials at a time (default 1)")
    group.add_argument(
        "--retries",
        type=int,
        default=RETRIES,
        metavar="N",
        help=f"how often a failing trial is run again before its candidate is given up (default {RETRIES})",
    )


def add_racing(parser: argparse.ArgumentParser) -> None:
    """Whether candidates are stopped early."""
    group = parser.add_argument_group("racing")
    group.add_argument(
        "--racing",
        action="store_true",
        help="evaluate candidates on growing parts of the images, and stop those that a paired test shows to "
        "be out of the best --num-parents; all others, the winner among them, still see every image",
    )
    group.add_argument(
        "--racing-confidence",
        type=float,
        metavar="P",
        help="of each comparison: that a subnet which is not better is not called so (default 0.95)",
    )


def racing_of(arguments: argparse.Namespace) -> Racing | None:
    """What the flags say; None for no racing.

    Raises:
        ConfigError: the confidence is out of its range, or the flags do not go together.
    """
    from ..search.racing import Racing

    confidence = arguments.racing_confidence
    if not arguments.racing:
        if confidence is not None:
            raise ConfigError("--racing-confidence needs --racing.")
        return None
    if arguments.engine != "sequential":
        raise ConfigError("--racing needs --engine sequential: only in one process can candidates race.")
    return Racing() if confidence is None else Racing(confidence)


def add_evolution(parser: argparse.ArgumentParser) -> None:
    """The flags of the evolution; the defaults are the published ones."""
    group = parser.add_argument_group("evolution")
    for name, default, text in (
        ("population-size", 50, "candidates of a generation"),
        ("num-parents", 10, "best candidates that mutate and cross"),
        ("num-mutations", 25, "mutations of a generation"),
        ("num-crossovers", 25, "crossovers of a generation"),
        ("generations", 20, "generations, the first random one included"),
        ("seed", 0, "of every proposal"),
    ):
        group.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} (default {default})"
        )
    for name, probability, text in (
        ("gene-probability", 0.2, "that a layer's ratio or heads are redrawn in a mutation"),
        ("size-probability", 0.4, "that depth or embedding size is redrawn in a mutation"),
    ):
        group.add_argument(
            f"--{name}",
            type=float,
            default=probability,
            metavar="P",
            help=f"{text} (default {probability})",
        )


def evolution_of(arguments: argparse.Namespace) -> EvolutionConfig:
    """The evolution that the flags describe.

    Raises:
        ConfigError: a value is out of its range.
    """
    return EvolutionConfig(
        **{name: getattr(arguments, name) for name in EvolutionConfig.__dataclass_fields__}
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    evaluation = Evaluation.of(arguments)
    images = images_of(arguments, "selection")
    expected = None if arguments.space is None else SearchSpace.load(arguments.space)
    limits, evolution_config = options.limits_of(arguments), evolution_of(arguments)
    if expected is not None:
        limits.require_feasible(expected)
    engine, racing = Engine.of(arguments), racing_of(arguments)
    if engine.name == "nni":
        from ..experiment.preflight import require_host

        require_host(options.output_of(arguments), engine.port)

    from ..checkpoints import read_header, require_space

    header = read_header(arguments.checkpoint, expected)
    require_space(arguments.checkpoint, header, expected)
    source = images.of(header, options.open_splits(arguments, header.space))
    config = {
        "checkpoint": str(arguments.checkpoint.resolve()),
        "selection": digest(source.identifiers),
        "limits": limits.to_dict(),
        "evolution": {name: getattr(evolution_config, name) for name in EvolutionConfig.__dataclass_fields__},
        "precision": evaluation.precision,
        "racing": None if racing is None else racing.confidence,
    }
    evolution = Evolution(header.space, limits, evolution_config)
    trial = current_trial()
    output = options.output_of(arguments)
    folder = RunFolder(output, "search", jsonable(config))
    search = Search(images, header, evolution, evaluation, engine, _reporter(trial), racing)
    if arguments.engine == "sequential":
        search.load(expected)
    if folder.open(resume=arguments.resume, overwrite=arguments.overwrite):
        print(f"{folder.path} holds the finished search already.")
        return
    strategy = search.into(output, source)
    folder.finish()
    print_search(evolution, output, racing_rows(strategy, len(source)))
    if trial is not None:
        trial.report_final(_metric(evolution))


def racing_rows(strategy: EvolutionStrategy, images: int) -> list[tuple[str, str]]:
    """What racing has spared."""
    if strategy.racing is None or strategy.folder is None:
        return []
    ledger, seen = strategy.evolution.ledger, strategy.folder.image_evaluations()
    everything = images * (ledger.told + ledger.stopped)
    return [
        (
            "candidates stopped early",
            f"{ledger.stopped:,}, out of the best {strategy.evolution.keep} "
            f"with {100 * strategy.racing.confidence:g} % confidence",
        ),
        ("image evaluations", f"{seen:,} of {everything:,} ({100 * seen / everything:.1f} %)"),
    ]


def _reporter(trial: Trial | None) -> Callable[[Evolution], Any] | None:
    """As an NNI trial: report the best accuracy so far at the end of every generation."""
    if trial is None:
        return None

    def report(evolution: Evolution) -> None:
        if evolution.told and evolution.answered % evolution.config.population_size == 0:
            trial.report_intermediate(_metric(evolution))

    return report


def _metric(evolution: Evolution) -> dict[str, float]:
    candidate, accuracy = evolution.best()
    model = evolution.space.model
    size, cost = params(candidate.architecture, model), macs(candidate.architecture, model)
    return {
        "default": accuracy,
        "params": size,
        "macs": cost,
        "candidates": evolution.told + evolution.stopped,
    }


@dataclass(frozen=True)
class Engine:
    """Who runs the candidates.

    Attributes:
        name: one of `ENGINES`.
        port: of NNI's web UI.
        concurrency: trials at a time.
        retries: how often a failing trial is run again.
    """

    name: str = ENGINES[0]
    port: int = 8080
    concurrency: int = 1
    retries: int = RETRIES

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Engine:
        """What the flags say.

        Raises:
            ConfigError: a number is too small, the port is taken, or the flags need another engine.
        """
        for flag, least in (("concurrency", 1), ("retries", 0)):
            if getattr(arguments, flag) < least:
                raise ConfigError(f"--{flag} is {getattr(arguments, flag)}; it should be at least {least}.")
        if arguments.engine == "sequential" and arguments.concurrency > 1:
            raise ConfigError("--concurrency needs --engine nni; the sequential engine is one process.")
        return cls(arguments.engine, arguments.port, arguments.concurrency, arguments.retries)


class Search:
    """A search that has been checked and can start.

    Args:
        images: which images candidates are compared on.
        header: of the supernet's checkpoint.
        evolution: what is searched.
        evaluation: how candidates are evaluated.
        engine: who runs them.
        report: called after every answer.
        racing: stop candidates early.
    """

    def __init__(
        self,
        images: EvaluationImages,
        header: Header,
        evolution: Evolution,
        evaluation: Evaluation,
        engine: Engine = Engine(),
        report: Callable[[Evolution], Any] | None = None,
        racing: Racing | None = None,
    ) -> None:
        self.images, self.header, self.evolution = images, header, evolution
        self.evaluation, self.engine, self.report = evaluation, engine, report
        self.racing = racing
        self._supernet: AutoFormer | None = None

    def load(self, expected: SearchSpace | None = None) -> None:
        """Load the supernet, which the sequential engine needs.

        Raises:
            ConfigError: it cannot be loaded.
        """
        from ..checkpoints import load_supernet

        self._supernet, self.header = load_supernet(Path(self.images.checkpoint), expected)

    def into(self, output: Path, source: ImageSource) -> EvolutionStrategy:
        """Search in a folder, or go on with the search whose state the folder holds.

        Args:
            output: the folder.
            source: the selection images.

        Returns:
            The strategy, which knows the search's folder.

        Raises:
            ConfigError: an image cannot be read, or every trial has failed.
            KeyboardInterrupt: the search was stopped before its end.
        """
        from ..search.strategy import EvolutionStrategy

        quieten_libraries()
        strategy = EvolutionStrategy(
            self.evolution,
            output,
            retries=self.engine.retries,
            on_answer=self.report,
            racing=self.racing,
        )
        if self.engine.name == "sequential":
            self._here(output, strategy, source)
        else:
            self._as_trials(output, strategy, source)
        if not self.evolution.done:
            raise KeyboardInterrupt
        return strategy

    def _here(self, output: Path, strategy: EvolutionStrategy, source: ImageSource) -> None:
        from ..experiment import run_experiment

        decoded = self.images.decoded(self.header, "decode selection images", source)
        if self._supernet is None:
            self.load()
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
        evaluator = TrialEvaluator(
            checkpoint=images.checkpoint,
            dataset=images.dataset,
            data=images.data,
            selection=images.selection,
            store=images.store,
            workers=images.workers,
            batch_size=evaluation.batch_size,
            device=evaluation.device,
            precision=evaluation.precision,
        )
        # a trial gets the model space as its constructor's arguments, and a path is the smallest of them
        self.header.space.to_yaml(output / SPACE_FILE)
        on_gpu = pick_device(evaluation.device).type == "cuda"
        print(f"Web UI: http://localhost:{engine.port}")
        run_trials(
            AutoFormer(str((output / SPACE_FILE).resolve())),
            evaluator,
            strategy,
            output,
            port=engine.port,
            concurrency=engine.concurrency,
            gpus=torch.cuda.device_count() if on_gpu else 0,
            name=f"search {self.header.space.name}",
        )
