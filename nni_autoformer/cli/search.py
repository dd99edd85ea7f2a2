"""``nni-autoformer search``: search a trained supernet for the best subnet within limits."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..files import digest
from ..search.evolution import Evolution, EvolutionConfig
from ..space import SearchSpace
from . import options, quieten_libraries
from .evaluation import Evaluation
from .run_folder import RunFolder, jsonable
from .summary import print_search

if TYPE_CHECKING:
    from ..checkpoints import Header
    from ..data import ImageSource
    from ..model import AutoFormer


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("search", help="search a supernet under limits", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument(
        "--space", help="name of a packaged space, or a YAML file (default: the checkpoint's)"
    )
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="a trained supernet")
    options.add_data(parser)
    parser.add_argument(
        "--selection",
        metavar="N-per-class|FILE",
        help="training images to select by (default: the list beside the checkpoint, which its training "
        "held out)",
    )
    options.add_limits(parser)
    add_evolution(parser)
    options.add_evaluation(parser)
    options.add_output(parser)


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
    expected = None if arguments.space is None else SearchSpace.load(arguments.space)
    limits, evolution_config = options.limits_of(arguments), evolution_of(arguments)
    if expected is not None:
        limits.require_feasible(expected)

    from ..checkpoints import read_header

    header = read_header(arguments.checkpoint, expected)
    splits = options.open_splits(arguments, header.space)
    options.require_classes(splits.train.classes, header, arguments.checkpoint)
    selection = selection_of(arguments.checkpoint, header, splits.train, arguments.selection)
    config = {
        "checkpoint": str(arguments.checkpoint.resolve()),
        "selection": digest(selection.identifiers),
        "limits": limits.to_dict(),
        "evolution": {name: getattr(evolution_config, name) for name in EvolutionConfig.__dataclass_fields__},
        "precision": evaluation.precision,
    }
    search(
        arguments.checkpoint,
        expected,
        selection,
        Evolution(header.space, limits, evolution_config),
        evaluation,
        RunFolder(arguments.output, "search", jsonable(config)),
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )


def selection_of(checkpoint: Path, header: Header, source: ImageSource, flag: str | None) -> ImageSource:
    """The images that candidates are compared on.

    Args:
        checkpoint: the supernet; its list of held-out images lies beside it.
        header: what the checkpoint says of itself.
        source: the training images.
        flag: 'N-per-class', a file, or None for the checkpoint's own list.

    Raises:
        ConfigError: the list is missing or is not the one that the supernet was trained without.
    """
    from ..data import draw_selection, parse_selection, read_selection, split_selection

    held_out = header.run.get("selection")
    if flag is None:
        if held_out is None:
            raise ConfigError(
                f"{checkpoint}: the supernet was trained without a selection set; give --selection "
                "N-per-class or a file. It may have been trained on these images, which flatters large "
                "subnets."
            )
        path = checkpoint.parent / held_out["file"]
        indices = read_selection(path, source)
        if digest([source.identifiers[i] for i in indices]) != held_out["digest"]:
            raise ConfigError(f"{path}: this is not the list that {checkpoint} was trained without.")
        return source.subset(indices)
    wanted = parse_selection(flag)
    if wanted.none:
        raise ConfigError("--selection none: a search needs images to compare candidates on.")
    indices = (
        read_selection(wanted.file, source)
        if wanted.file
        else draw_selection(source, wanted.per_class, header.run.get("recipe", {}).get("seed", 0))
    )
    chosen = split_selection(source, indices)[1]
    if held_out is None or digest(chosen.identifiers) != held_out["digest"]:
        print("The supernet may have been trained on the selection images, which flatters large subnets.")
    return chosen


def search(
    checkpoint: Path,
    space: SearchSpace | None,
    selection: ImageSource,
    evolution: Evolution,
    evaluation: Evaluation,
    folder: RunFolder,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Search a supernet into a run folder of its own.

    Raises:
        ConfigError: something that the user can put right, before any evaluation.
    """
    from ..checkpoints import load_supernet

    supernet, header = load_supernet(checkpoint, space)
    if folder.open(resume=resume, overwrite=overwrite):
        print(f"{folder.path} holds the finished search already.")
        return
    search_into(folder.path, supernet, header, selection, evolution, evaluation)
    folder.finish()
    print_search(evolution, folder.path)


def search_into(
    output: Path,
    supernet: AutoFormer,
    header: Header,
    selection: ImageSource,
    evolution: Evolution,
    evaluation: Evaluation,
) -> None:
    """Run a search in a folder, or go on with the search whose state the folder holds."""
    from ..experiment import run_experiment
    from ..search.strategy import EvolutionStrategy

    quieten_libraries()
    evaluator = evaluation.evaluator(header, selection, "decode selection images")
    run_experiment(supernet, evaluator, EvolutionStrategy(evolution, output), output)
