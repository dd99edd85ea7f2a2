"""What entanglement and relative position cost: a supernet step over our own plain subnet without it.

The supernet's step has the slicing, the relative position and AdamW over the largest layers; the plain
subnet of the same sizes has none of them. timm's ViT stands beside: 256 channels and 4 heads for tiny, 448
and 7 for small. All use the fused AdamW.
"""

from __future__ import annotations

import sys

from .common import Report, interleaved, step_parser, use_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    options = step_parser("relative_position", __doc__, rounds=9).parse_args(arguments)
    use_threads(options.threads)
    from nni_autoformer.nn.relative_position import attention_kernel

    from . import networks

    report = Report("relative_position", options)
    for title, space, architecture in networks.chosen(options):
        images, labels = networks.batch(space, options.batch_size)
        ours = networks.supernet(space, architecture)
        step = networks.training_step(ours, images, labels, fused=True)
        others = {
            "subnet": ours.extract(architecture),
            "without": networks.plain_subnet(space, architecture),
            "timm ViT": networks.timm_vit(space, architecture),
        }
        cases = {"supernet": step, "fused kernel": attention_kernel("fused")(step)} | {
            case: networks.training_step(network, images, labels, fused=True)
            for case, network in others.items()
        }
        report.times(title, interleaved(cases, options), over="without")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
