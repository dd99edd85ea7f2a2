"""How well latency tables predict subnets that had no part in their fit, on the CPU.

    python -m benchmarks.latency --work DIR   # batch 1 and 16, torch and ONNX Runtime: about 20 minutes
    python -m benchmarks.latency --work DIR --batch-size 1 --runtime torch

For each combination parts, 30 subnets that correct the table and 50 others that judge it are measured in the
same interleaved rounds. Stopped, the same command goes on; a finished combination is only printed. The last
lines are those for RESULTS.md. The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from nni_autoformer import SearchSpace
from nni_autoformer.files import write_json
from nni_autoformer.jobs.latency_state import LatencyState
from nni_autoformer.latency.fit import deviation, table_from
from nni_autoformer.latency.machine import machine, versions
from nni_autoformer.latency.pieces import Piece, parts_of
from nni_autoformer.latency.rounds import measure
from nni_autoformer.latency_table import Conditions
from nni_autoformer.search.random_subnets import draw_subnets

TARGET = "target: median at most 3 %, 95th percentile at most 8 %, Kendall tau at least 0.9"

ROUNDS = {1: 10, 16: 3}
"""By batch size."""


def judged(space: SearchSpace, conditions: Conditions, arguments: argparse.Namespace) -> dict:
    """The deviation of predictions on subnets that the table has not seen; what is known is not measured."""
    name = f"{space.name}-{conditions.runtime}-{conditions.batch_size}"
    result = arguments.work / f"{name}.json"
    if result.is_file():
        return json.loads(result.read_text())
    rounds = arguments.rounds or ROUNDS.get(conditions.batch_size, 3)
    fitted, others = 30, arguments.subnets
    subnets = draw_subnets(space, fitted + others, seed=0)
    parts = parts_of(space)
    pieces = list(dict.fromkeys([*parts, *(Piece("subnet", subnet) for subnet in subnets)]))
    told = {"rounds": rounds, "subnets": others, "threads": conditions.threads}
    state = LatencyState(arguments.work / f"{name}.measuring", told)
    state.open(resume=True, overwrite=False)
    times = measure(pieces, space.model, conditions, rounds=rounds, known=state.turns, record=state.record)
    facts = {"machine": machine(conditions), "versions": versions(conditions), "date": "today"}
    table = table_from(space, conditions, times, parts, subnets[:fitted], **facts)
    table.save(arguments.work / f"{name}.yaml")
    measured = [times[Piece("subnet", subnet)] for subnet in subnets[fitted:]]
    predicted = [table.predicted(subnet) for subnet in subnets[fitted:]]
    found = deviation(predicted, [time.median for time in measured])
    rows = {
        "runtime": conditions.runtime,
        "batch_size": conditions.batch_size,
        "threads": conditions.threads,
        "processor": table.machine["processor"],
        "versions": table.versions,
        "from": min(time.median for time in measured),
        "to": max(time.median for time in measured),
        "spread": sorted(100 * time.spread / time.median for time in measured)[len(measured) // 2],
        "subnets": found.subnets,
        "median": found.median,
        "p95": found.p95,
        "kendall_tau": found.kendall_tau,
        "own": table.error.told,
        "factor": table.factor,
        "offset": table.offset,
    }
    write_json(result, rows)
    state.remove()
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="measurements and results")
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--runtime", nargs="+", default=["torch", "onnxruntime"])
    parser.add_argument("--batch-size", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--subnets", type=int, default=50, help="subnets that judge (default 50)")
    parser.add_argument("--rounds", type=int, help=f"in place of {ROUNDS}, by batch size")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    space = SearchSpace.load(arguments.space)
    lines = []
    for runtime, size in product(arguments.runtime, arguments.batch_size):
        conditions = Conditions(runtime=runtime, batch_size=size, threads=arguments.threads)
        print(conditions.told, flush=True)
        row = judged(space, conditions, arguments)
        lines.append(
            f"| {row['runtime']} | {row['batch_size']} | {row['from']:.1f} to {row['to']:.1f} | "
            f"{row['spread']:.1f} % | {row['median']:.2f} % | {row['p95']:.2f} % | {row['kendall_tau']:.3f} |"
        )
        print(lines[-1], f"(offset {row['offset']:.3f}, factor {row['factor']:.4f}; own: {row['own']})")
    print(f"\n{row['processor']}, {row['threads']} threads, {row['versions']}; {TARGET}\n")
    print("| runtime | batch | ms | spread | median error | 95th percentile | Kendall tau |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
