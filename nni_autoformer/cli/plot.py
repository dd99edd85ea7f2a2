"""``nni-autoformer plot``: accuracy against any cost of any results, beside other networks'."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..costs import COST_NAMES, KNOWN, Cost
from ..errors import ConfigError
from ..report.results import Series, read_peers, read_series
from ..report.summary import grid

FORMATS = (".png", ".pdf", ".svg")


def add_parser(commands: Any) -> None:
    """Add the command's flags."""
    parser = commands.add_parser("plot", help="draw results beside other networks'", description=__doc__)
    parser.set_defaults(run=run)
    parser.add_argument(
        "results",
        nargs="*",
        metavar="[LABEL=]RESULTS",
        help="the folder of a search, a demo or a sample; or a .jsonl, .json or .csv file with the keys "
        "params (or params_m, in millions), macs (or macs_g, in billions), memory (or memory_mb), latency in "
        "ms, top1 in percent, and where wanted name and family; timm's tables can be read too",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="add published ImageNet results: ViT, DeiT, TinyViT, Swin S3, PreNAS and the paper's AutoFormer",
    )
    parser.add_argument(
        "--against", choices=COST_NAMES, default="params", help="the horizontal axis (default params)"
    )
    parser.add_argument("--log", action="store_true", help="make the horizontal axis logarithmic")
    parser.add_argument("--title", default="", help="above the figure")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("results.png"),
        metavar="FIG",
        help="a .png, .pdf or .svg file, replaced if it is there (default results.png)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the command."""
    output, against = arguments.output, arguments.against
    if output.suffix.lower() not in FORMATS:
        raise ConfigError(f"--output {output}: the name should end in {', '.join(FORMATS[:2])} or .svg.")
    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder; it should be a file.")
    if not arguments.results and not arguments.peers:
        raise ConfigError("there is nothing to draw: name folders or files of results, or give --peers.")
    series = [read_series(word) for word in arguments.results]
    for word, entry in zip(arguments.results, series):
        if not any(against in result.costs for result in entry.results):
            raise ConfigError(f"{word}: no result has {against}, which --against {against} draws.")

    from ..report.figures import draw_comparison

    peers = read_peers() if arguments.peers else []
    try:
        draw_comparison(series, peers, output, against=against, log=arguments.log, title=arguments.title)
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error.strerror}.") from None
    if series:
        known = {name for entry in series for result in entry.results for name in result.costs}
        costs = [cost for name, cost in KNOWN.items() if name in known]
        head = ("results", "networks", "best %", *(cost.title for cost in costs), "accuracy on")
        print(grid(head, [_row(entry, costs) for entry in series]))
    _tell(series, against, bool(peers))
    print(f"The figure is in {output}")


def _row(entry: Series, costs: Iterable[Cost]) -> tuple[str, ...]:
    best = entry.best()
    told = [cost.told(best.costs[cost.name]) if cost.name in best.costs else "?" for cost in costs]
    images = f"{entry.split} images" if entry.split else "as its file says"
    return entry.label, f"{len(entry.results):,}", f"{best.top1:.2f}", *told, images


def _tell(series: list[Series], against: str, peers: bool) -> None:
    """What a reader of the figure has to know."""
    for entry in series:
        count, unknown = len(entry.results), sum(against not in result.costs for result in entry.results)
        if unknown:
            print(f"{entry.label}: {unknown} of {count} results have no {against} and are left out.")
    if peers and series:
        own = ", ".join(entry.label for entry in series)
        print(f"The published accuracies are on ImageNet; compare {own} with them only if those are, too.")
    splits = {entry.split or "test" for entry in series} | ({"test"} if peers else set())
    if "selection" in splits and "test" in splits:
        print(
            "Accuracies on selection images and on test images are not the same measure; nni-autoformer "
            "sample --split test evaluates on the latter."
        )
