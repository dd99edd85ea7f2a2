"""The supernet's training step against NNI's hub AutoFormer with the same subnet; timm's ViT stands beside.

Forward, backward and AdamW on one batch. All use torch's default AdamW; 'ours, fused' is our step with the
fused one, which `nni-autoformer train` uses where Lightning can clip its gradients.
"""

from __future__ import annotations

import sys

from .common import Report, interleaved, step_parser, use_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    options = step_parser("train_step", __doc__).parse_args(arguments)
    use_threads(options.threads)
    from . import networks

    report = Report("train_step", options)
    for title, space, architecture in networks.chosen(options):
        images, labels = networks.batch(space, options.batch_size)
        ours = networks.supernet(space, architecture)
        cases = {
            "ours": networks.training_step(ours, images, labels),
            "ours, fused": networks.training_step(ours, images, labels, fused=True),
            "hub": networks.training_step(networks.hub_supernet(space, architecture), images, labels),
            "timm ViT": networks.training_step(networks.timm_vit(space, architecture), images, labels),
        }
        report.times(title, interleaved(cases, options), over="ours")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
