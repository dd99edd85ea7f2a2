"""The supernet's training step against NNI's hub AutoFormer with the same subnet; timm's ViT stands beside.

Forward, backward and AdamW on one batch. All use torch's default AdamW; 'ours, fused' is our step with the
fused one, which `nni-autoformer train` uses.
"""

from __future__ import annotations

import sys

from .common import Report, interleaved, parser, use_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    flags = parser("train_step", __doc__)
    flags.add_argument("--spaces", nargs="+", default=["tiny", "small"], help="search spaces (%(default)s)")
    flags.add_argument("--subnets", nargs="+", default=["largest", "published"], help="(%(default)s)")
    flags.add_argument("--batch-size", type=int, default=8)
    options = flags.parse_args(arguments)
    use_threads(options.threads)
    from . import networks

    report = Report("train_step", options)
    for name, space in networks.spaces(options.spaces, options.tiny).items():
        images, labels = networks.batch(space, options.batch_size)
        for subnet, architecture in networks.subnets(space).items():
            if subnet not in options.subnets:
                continue
            ours = networks.supernet(space, architecture)
            cases = {
                "ours": networks.training_step(ours, images, labels),
                "ours, fused": networks.training_step(ours, images, labels, fused=True),
                "hub": networks.training_step(networks.hub_supernet(space, architecture), images, labels),
                "timm ViT": networks.training_step(networks.timm_vit(space, architecture), images, labels),
            }
            seconds = interleaved(cases, options)
            report.times(f"{name} {subnet}, batch {options.batch_size}", seconds, over="ours")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
