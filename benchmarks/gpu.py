"""Images per second on a GPU: bf16 autocast and compiled blocks, against NNI's hub under autocast and timm's
compiled deit_small_patch16_224.

The training step is forward, backward and fused AdamW; evaluation is the forward. The time that compiling
takes is printed and not counted. A step's memory is that beyond weights, AdamW's state and the last step's
gradients.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import Any

from .common import Report, interleaved, parser, use_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code, 2 without a GPU."""
    flags = parser("gpu", __doc__, rounds=20)
    flags.add_argument("--space", default="small", help="the search space (%(default)s)")
    flags.add_argument("--batch-size", type=int, default=256)
    options = flags.parse_args(arguments)
    use_threads(options.threads)
    import torch

    if not torch.cuda.is_available():
        print("benchmarks.gpu needs a GPU that torch can use, and finds none: nothing was measured.")
        return 2
    import timm

    from nni_autoformer.nn.compiling import compile_blocks

    from . import networks

    report = Report("gpu", options)
    report.row(f"on one {torch.cuda.get_device_name()}", device=torch.cuda.get_device_name())
    device = torch.device("cuda")
    space = next(iter(networks.spaces([options.space], options.tiny).values()))
    images, labels = (tensor.to(device) for tensor in networks.batch(space, options.batch_size))

    def autocast(function: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with torch.autocast("cuda", torch.bfloat16):
                return function()

        return run

    for subnet, architecture in networks.subnets(space).items():
        ours = networks.supernet(space, architecture).to(device)
        compile_blocks(ours)
        eager = networks.supernet(space, architecture).to(device)
        if options.tiny:
            fixed = networks.timm_vit(space, architecture).to(device)
        else:
            fixed = timm.create_model("deit_small_patch16_224", drop_path_rate=networks.DROP_PATH).to(device)
        nets: dict[str, Any] = {
            "ours": ours,
            "ours, uncompiled": eager,
            "hub": networks.hub_supernet(space, architecture).to(device),
            "timm, compiled": fixed,
        }
        compiled = torch.compile(fixed, dynamic=False)
        steps = {
            name: autocast(
                networks.training_step(
                    network, images, labels, fused=True, call=compiled if network is fixed else network
                )
            )
            for name, network in nets.items()
        }
        _rates(report, f"{subnet}, training", steps, options)
        _memory(report, f"{subnet}, training", steps, options)
        for network in nets.values():
            network.eval()
        forwards = {
            name: torch.inference_mode()(autocast(lambda call=(compiled if n is fixed else n): call(images)))
            for name, n in nets.items()
        }
        _rates(report, f"{subnet}, evaluation", forwards, options)
    return report.finish()


def _rates(report: Report, title: str, cases: dict[str, Callable[[], Any]], options: Any) -> None:
    import torch

    seconds = interleaved(cases, options, warm_up=5, wait=torch.cuda.synchronize)
    report.times(f"{title}, batch {options.batch_size}", seconds, over="ours")
    rates = {name: options.batch_size / statistics.median(values) for name, values in seconds.items()}
    text = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    report.row(f"{title}, images/s: {text}", title=title, images_per_second=rates)


def _memory(report: Report, title: str, cases: dict[str, Callable[[], Any]], options: Any) -> None:
    import torch

    peaks = {}
    for name, case in cases.items():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        case()
        peaks[name] = torch.cuda.max_memory_allocated() - before
    text = ", ".join(
        f"{name} {peak / 1e9:.2f} GB ({peak / peaks['ours']:.2f}x)" for name, peak in peaks.items()
    )
    report.row(
        f"{title}, batch {options.batch_size}, peak memory of a step: {text}", title=title, bytes=peaks
    )


if __name__ == "__main__":
    sys.exit(main())
