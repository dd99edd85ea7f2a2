"""The evaluation forward against NNI's hub AutoFormer with the same subnet; timm's ViT stands beside.

'ours' is the live supernet set to the subnet, as the search runs it; 'ours, plain' is the extracted subnet.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from .common import Report, interleaved, step_parser, use_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    flags = step_parser("eval_forward", __doc__)
    flags.set_defaults(batch_size=16)
    options = flags.parse_args(arguments)
    use_threads(options.threads)
    import torch

    from . import networks

    def forward(network: Any, images: Any) -> Callable[[], Any]:
        network.eval()
        return torch.inference_mode()(lambda: network(images))

    report = Report("eval_forward", options)
    for title, space, architecture in networks.chosen(options):
        images, _ = networks.batch(space, options.batch_size)
        ours = networks.supernet(space, architecture)
        cases = {
            "ours": forward(ours, images),
            "ours, plain": forward(ours.extract(architecture), images),
            "hub": forward(networks.hub_supernet(space, architecture), images),
            "timm ViT": forward(networks.timm_vit(space, architecture), images),
        }
        report.times(title, interleaved(cases, options), over="ours")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
