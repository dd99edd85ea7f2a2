"""Peak memory of the training step, ours against NNI's hub AutoFormer with the same subnet.

Each network trains in a process of its own. Two numbers of it are given. 'step' is the largest sum of live
tensor memory during a step beyond what lives between steps (weights, AdamW's state, the batch), counted from
the profiler's record of every allocation: activations and gradients. 'resident' is the process's peak
resident set less what it was with the network and the libraries loaded: what the machine has to have.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .common import Report, parser, use_threads

NETWORKS = ("ours", "hub", "plain", "timm")


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    flags = parser("memory", __doc__, rounds=1)
    flags.add_argument("--spaces", nargs="+", default=["tiny", "small"], help="search spaces (%(default)s)")
    flags.add_argument("--batch-size", type=int, default=8)
    flags.add_argument("--only", nargs=3, metavar=("NETWORK", "SPACE", "SUBNET"), help=argparse.SUPPRESS)
    options = flags.parse_args(arguments)
    use_threads(options.threads)
    if options.only:
        print(json.dumps(measure(*options.only, options.batch_size)))
        return 0
    from . import networks

    report = Report("memory", options)
    for name, space in networks.spaces(options.spaces, options.tiny).items():
        name = "digits" if options.tiny else name
        for subnet in networks.subnets(space):
            peaks = {network: _in_own_process(network, name, subnet, options) for network in NETWORKS}
            ratios = {
                kind: [peaks["ours"][kind][i] / peaks["hub"][kind][i] for i in range(options.rounds)]
                for kind in ("step", "resident")
            }
            text = ", ".join(
                f"{network} {min(values['step']) / 1e6:.0f} / {min(values['resident']) / 1e6:.0f} MB"
                for network, values in peaks.items()
            )
            report.row(
                f"{name} {subnet}, batch {options.batch_size}, step / resident: {text}; ours over hub "
                f"{min(ratios['step']):.3f}x / {min(ratios['resident']):.3f}x",
                space=name,
                subnet=subnet,
                bytes=peaks,
                ratios=ratios,
            )
    return report.finish()


def _in_own_process(
    network: str, space: str, subnet: str, options: argparse.Namespace
) -> dict[str, list[int]]:
    command = [sys.executable, "-m", "benchmarks.memory", "--only", network, space, subnet]
    command += ["--batch-size", str(options.batch_size), "--threads", str(options.threads)]
    results: dict[str, list[int]] = {"step": [], "resident": []}
    for _ in range(options.rounds):
        root = Path(__file__).parents[1]
        output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout
        for kind, value in json.loads(output.strip().splitlines()[-1]).items():
            results[kind].append(value)
    return results


def measure(network: str, space_name: str, subnet: str, batch_size: int) -> dict[str, int]:
    """Bytes of this process's training step: 'step' and 'resident'."""
    from nni_autoformer import SearchSpace

    from . import networks

    space = SearchSpace.load(space_name)
    architecture = networks.subnets(space)[subnet]
    build = {
        "ours": networks.supernet,
        "hub": networks.hub_supernet,
        "plain": networks.plain_subnet,
        "timm": networks.timm_vit,
    }[network]
    step = networks.training_step(build(space, architecture), *networks.batch(space, batch_size))
    before = _resident("VmRSS")
    for _ in range(2):  # the first makes AdamW's state
        step()
    resident = _resident("VmHWM") - before
    return {"step": peak_of_allocations(step), "resident": resident}


def _resident(field: str) -> int:
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines[field].split()[0]) * 1024


def peak_of_allocations(step: Callable[[], None]) -> int:
    """The highest sum of allocations less frees, in bytes, that the profiler sees in a step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    changes = [
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    total = peak = 0
    for _, change in sorted(changes):
        total += change
        peak = max(peak, total)
    return peak


if __name__ == "__main__":
    sys.exit(main())
