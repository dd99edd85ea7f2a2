"""The training loader's images per second beside the training step's: which of them waits for the other.

The loader is that of `nni-autoformer train` with --workers 0: decoding, random transform and collation in one
process. The step is forward, backward and AdamW of the largest subnet on a batch that is there already.
"""

from __future__ import annotations

import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from .common import Report, interleaved, parser, use_threads


def main(arguments: list[str] | None = None) -> int:
    """Measure and report; the exit code."""
    flags = parser("loader", __doc__, rounds=5)
    flags.add_argument("--spaces", nargs="+", default=["digits", "cifar", "tiny"], help="(%(default)s)")
    flags.add_argument("--batch-size", type=int, default=16)
    flags.add_argument(
        "--image-size", type=int, nargs=2, default=(500, 375), help="of the JPEG files above 32 px"
    )
    options = flags.parse_args(arguments)
    use_threads(options.threads)
    if options.tiny:
        options.spaces, options.batch_size = ["digits"], 4
    report = Report("loader", options)
    for name in options.spaces:
        with tempfile.TemporaryDirectory() as folder:
            load, step = _cases(name, Path(folder), options)
            seconds = interleaved({"loader": load, "step": step}, options)
        report.times(f"{name}, batch {options.batch_size}", seconds, over="step")
        rates = {case: options.batch_size / min(values) for case, values in seconds.items()}
        text = ", ".join(f"{case} {rate:.4g} images/s" for case, rate in rates.items())
        report.row(f"  {text}: the step takes {rates['loader'] / rates['step']:.3g} loaders' time", **rates)
    return report.finish()


def _cases(name: str, folder: Path, options: Any) -> tuple[Any, Any]:
    import torch
    import torch.nn.functional as F

    from nni_autoformer import SearchSpace
    from nni_autoformer.data import normalise, open_data, train_loader, train_transform
    from nni_autoformer.model import build_supernet

    space = SearchSpace.load(name)
    model, size = space.model, options.batch_size
    if name == "digits":
        splits = open_data("digits", None, model.in_chans)
    else:
        _write_images(folder, size, model.img_size if max(model.img_size) <= 32 else options.image_size)
        splits = open_data("folder", folder, model.in_chans)
    source = splits.train.subset(list(range(size)))
    loader = train_loader(source, train_transform(model), size)
    images, targets = next(iter(loader))
    net = build_supernet(space).train()
    net.set_architecture(space.architecture("largest"))
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(net(normalise(images, splits.mean, splits.std)), targets).backward()
        optimizer.step()

    return lambda: list(islice(loader, 1)), step


def _write_images(folder: Path, count: int, size: tuple[int, int]) -> None:
    """JPEG files of smooth noise, about as large as photos."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / split / "one").mkdir(parents=True)
        for i in range(count):
            noise = rng.integers(0, 256, (size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
            image = Image.fromarray(noise).resize(tuple(size), Image.Resampling.BICUBIC)
            image.save(folder / split / "one" / f"{i}.jpg", quality=90)


if __name__ == "__main__":
    sys.exit(main())
