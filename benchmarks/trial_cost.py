"""What a trial costs, start to start, beside one that does nothing.

    python -m benchmarks.trial_cost                  # about six minutes
    python -m benchmarks.trial_cost --trials 2 --json trial_cost.json

Experiments on a supernet of the digits, with one trial at a time, so that the time between two starts is the
whole cost of a trial, NNI's share included:

* nnictl: trials take turns, one that evaluates a subnet and one that imports torch and nni and reports a
  constant;
* `NasExperiment`: ours, and an evaluator of NNI's that reports a constant, on the same model space. NNI
  fixes the command of such a trial, so these are experiments of their own, each before and after the other.

Last the split of an nnictl trial, each part timed in processes of their own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

CONSTANT = """
import torch
import nni
nni.get_next_parameter()
nni.report_final_result(0.5)
"""

TURNS = "if [ $((NNI_TRIAL_SEQ_ID % 2)) = 1 ]; then exec {python} constant.py; else exec {ours}; fi\n"

SPLIT = """
import json, sys, time
times = {}
def lap(name):
    global last
    now = time.perf_counter()
    times[name] = now - last
    last = time.perf_counter()
last = time.perf_counter()
import torch
lap("import torch")
import nni
lap("import nni")
from nni_autoformer.cli import build_parser
from nni_autoformer.jobs import evaluate
from nni_autoformer.search import accuracy, subnet_trial
from nni_autoformer import checkpoints
parser = build_parser()
lap("import this package, read the command line")
from pathlib import Path
from nni_autoformer.search.images import EvaluationImages
images = EvaluationImages(sys.argv[1], "digits", store=sys.argv[2])
header = checkpoints.read_header(Path(sys.argv[1]))
architecture = header.space.largest
subnet, header = checkpoints.load_subnet(Path(sys.argv[1]), architecture)
lap("open the checkpoint, build the subnet")
decoded = images.decoded(header)
lap("find the decoded images")
accuracy.measure(subnet.eval(), decoded, header.run["mean"], header.run["std"], batch_size=24)
lap("evaluate 240 images")
print(json.dumps(times))
"""

HEAVY = ("timm", "torchvision", "pytorch_lightning", "nni.nas")


def main(words: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=12, help="of each kind")
    parser.add_argument("--way", choices=WAYS, nargs="+", default=list(WAYS), help="default: both")
    parser.add_argument("--checkpoint", type=Path, help="a supernet of the digits (default: one is trained)")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ |= {"HOME": folder, "NNI_AUTOFORMER_CACHE": f"{folder}/images"}
        checkpoint = (arguments.checkpoint or _train(place)).resolve()
        results = {way: WAYS[way](place, checkpoint, arguments.trials) for way in arguments.way}
        results["split"] = _split(place, checkpoint, min(5, arguments.trials))
    _show(results)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _train(place: Path) -> Path:
    flags = "--space digits --dataset digits --selection 24-per-class --epochs 1 --drop-path 0 --device cpu"
    _run(sys.executable, "-m", "nni_autoformer", "train", *flags.split(), "--output", place / "supernet")
    return place / "supernet" / "supernet.safetensors"


def _run(*words: Any) -> str:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def _free_port() -> int:
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("localhost", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("localhost", port + 1))  # NNI takes the next one too
            except OSError:
                continue
            return port


def _intervals(trials: list[Any]) -> list[float]:
    """Seconds between the starts of consecutive trials, without the first, which finds nothing cached."""
    starts = sorted(trial.startTime for trial in trials)[1:]
    return [(after - before) / 1000 for before, after in itertools.pairwise(starts)]


def _nnictl(place: Path, checkpoint: Path, trials: int) -> dict[str, list[float]]:
    from nni.experiment import Experiment

    from nni_autoformer.checkpoints import own_header

    code = place / "code"
    code.mkdir()
    (code / "constant.py").write_text(CONSTANT)
    flags = f"--split selection --dataset digits --checkpoint {checkpoint}"
    ours = f"{sys.executable} -m nni_autoformer test {flags}"
    (code / "turns.sh").write_text(TURNS.format(python=sys.executable, ours=ours))
    experiment = Experiment("local")
    experiment.config.search_space = own_header(checkpoint).space.to_nni()  # type: ignore[union-attr]
    experiment.config.tuner.name = "Random"
    experiment.config.trial_command = "bash turns.sh"
    experiment.config.trial_code_directory = code
    experiment.config.max_trial_number = 2 * trials + 3
    experiment.config.trial_concurrency = 1
    experiment.run(_free_port())
    gaps = _intervals(experiment.list_trial_jobs())
    experiment.stop()
    # trial 0 is ours, so the first interval that counts is that of trial 1, a constant one
    return {"ours": gaps[1::2][:trials], "constant": gaps[0::2][:trials]}


def report_constant(model: Any) -> None:
    """NNI's empty trial: what a function of a `FunctionalEvaluator` has to do, and nothing else."""
    import nni

    nni.report_final_result(0.5)


def _nas(place: Path, checkpoint: Path, trials: int) -> dict[str, list[float]]:
    from nni.nas.evaluator import FunctionalEvaluator
    from nni.nas.experiment import NasExperiment, NasExperimentConfig
    from nni.nas.strategy import Random

    from nni_autoformer import AutoFormer, TrialEvaluator

    evaluators = {
        "ours": TrialEvaluator(str(checkpoint), "digits"),
        "constant": FunctionalEvaluator(report_constant),
    }
    gaps: dict[str, list[float]] = {"ours": [], "constant": []}
    for turn in range(min(2, trials)):  # each kind once before and once after the other
        for kind in ("ours", "constant") if turn == 0 else ("constant", "ours"):
            config = NasExperimentConfig("ts", "simplified", "local")
            config.max_trial_number, config.trial_concurrency = max(1, trials // 2) + 2, 1
            config.experiment_working_directory = place / f"nas-{kind}-{turn}"
            experiment = NasExperiment(AutoFormer("digits"), evaluators[kind], Random(), config)
            experiment.run(_free_port())
            gaps[kind] += _intervals(experiment.list_trial_jobs())
            experiment.stop()
    return gaps


WAYS = {"nnictl": _nnictl, "NasExperiment": _nas}


def _split(place: Path, checkpoint: Path, rounds: int) -> dict[str, list[float]]:
    script = place / "split.py"
    script.write_text(SPLIT + f"assert not set(sys.modules) & set({HEAVY!r})\n")
    parts: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        found = json.loads(_run(sys.executable, script, checkpoint, place / "images"))
        for name, seconds in found.items():
            parts.setdefault(name, []).append(seconds)
    return {name: seconds[1:] for name, seconds in parts.items()}


def _show(results: dict[str, dict[str, list[float]]]) -> None:
    import nni
    import torch

    print(f"\ntorch {torch.__version__}, nni {nni.__version__}, Python {platform.python_version()}, ", end="")
    print(f"{os.cpu_count()} cores; medians, seconds start to start, one trial at a time")
    for way in (way for way in WAYS if way in results):
        ours, constant = (statistics.median(results[way][kind]) for kind in ("ours", "constant"))
        print(f"{way:14} ours {ours:.2f}  constant {constant:.2f}  ratio {ours / constant:.2f}")
    for part, seconds in results["split"].items():
        print(f"  {part:44} {statistics.median(seconds):.3f}")


if __name__ == "__main__":
    main()
