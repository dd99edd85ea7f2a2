"""The evaluation forward against NNI's hub AutoFormer with the same subnet; timm's ViT stands beside.

'ours' is the live supernet set to the subnet, as the search runs it; 'ours, plain' is the extracted subnet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .common import Report, interleaved, parser, use_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    flags = parser("eval_forward", __doc__)
    flags.add_argument("--spaces", nargs="+", default=["tiny", "small"], help="search spaces (%(default)s)")
    flags.add_argument("--batch-size", type=int, default=16)
    options = flags.parse_args(arguments)
    use_threads(options.threads)
    import torch

    from . import networks

    def forward(network: Any) -> Callable[[], Any]:
        network.eval()
        return torch.inference_mode()(lambda: network(images))

    report = Report("eval_forward", options)
    for name, space in networks.spaces(options.spaces, options.tiny).items():
        images, _ = networks.batch(space, options.batch_size)
        for subnet, architecture in networks.subnets(space).items():
            ours = networks.supernet(space, architecture)
            cases = {
                "ours": forward(ours),
                "ours, plain": forward(ours.extract(architecture)),
                "hub": forward(networks.hub_supernet(space, architecture)),
                "timm ViT": forward(networks.timm_vit(space, architecture)),
            }
            seconds = interleaved(cases, options)
            report.times(f"{name} {subnet}, batch {options.batch_size}", seconds, over="ours")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
