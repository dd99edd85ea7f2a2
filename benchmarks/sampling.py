"""Everything of a step but the arithmetic: drawing a subnet, setting it, and passing through the layers.

'draw and set' is what stands before a step: ours draws from (seed, step) and sets the supernet, NNI's hub
is resampled as its one-shot module does. 'pass' is what a forward through the supernet's layers, with their
slices, costs beyond the forward of the plain network of the same sizes: measured on one image of four
patches, where the layers compute next to nothing.
"""

from __future__ import annotations

import functools
import statistics
import sys

from .common import Report, interleaved, parser, use_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    flags = parser("sampling", __doc__, rounds=50)
    flags.add_argument("--spaces", nargs="+", default=["tiny", "small"], help="search spaces (%(default)s)")
    options = flags.parse_args(arguments)
    use_threads(options.threads)
    import torch
    from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule

    from nni_autoformer.training.sampling import Uniform

    from . import networks

    report = Report("sampling", options)
    for name, space in networks.spaces(options.spaces, options.tiny).items():
        architecture = space.architectures.get("published", space.largest)
        ours, hub = networks.supernet(space, architecture), networks.hub_supernet(space, architecture)
        hub_modules = [module for module in hub.modules() if isinstance(module, BaseSuperNetModule)]
        step, rule = 0, Uniform(ours.space, 0)

        def set_ours(ours: networks.AutoFormer = ours, rule: Uniform = rule) -> None:
            nonlocal step
            step += 1
            ours.set_architecture(rule.architectures(step)[0])

        def resample_hub(modules: list = hub_modules) -> None:
            memo: dict = {}
            for module in modules:
                memo.update(module.resample(memo))

        seconds = interleaved({"ours": set_ours, "hub": resample_hub}, options, warm_up=3)
        report.times(f"{name}, draw and set", seconds, over="ours")

        side = 2 * space.model.patch_size
        small = space.with_model(img_size=(side, side))
        image = networks.batch(small, 1)[0]
        supernet = networks.supernet(small, architecture).eval()
        hub = networks.hub_supernet(small, architecture).eval()
        cases = {
            "ours": supernet,
            "our subnet": supernet.extract(architecture),
            "hub": hub,
            "hub, frozen": hub.freeze(architecture.to_sample(space.max_depth)).eval(),
        }
        forwards = {case: functools.partial(network, image) for case, network in cases.items()}
        with torch.no_grad():
            passes = interleaved(forwards, options, warm_up=3)
        extra = {
            "ours": [a - b for a, b in zip(passes["ours"], passes["our subnet"])],
            "hub": [a - b for a, b in zip(passes["hub"], passes["hub, frozen"])],
        }
        report.times(f"{name}, pass", extra, over="ours")
        total = statistics.median(seconds["ours"]) + statistics.median(extra["ours"])
        report.row(f"{name}, draw, set and pass: ours {total * 1000:.3f} ms", space=name, ours_s=total)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
