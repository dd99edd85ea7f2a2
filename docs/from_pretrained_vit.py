"""A timm ViT that counts as the pretrained one of docs/from_pretrained.py: a plain one of timm's, trained on
CIFAR-10 with nothing of this package.

    python docs/from_pretrained_vit.py --data CIFAR10/train --output vit.safetensors

Its images are the first 4,000 of each class; the others are left for the one who starts from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 192, "depth": 6, "num_heads": 3, "mlp_ratio": 2.0}
PER_CLASS = 4_000
BATCH, RATE, MARGIN = 128, 1e-3, 4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder per class")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file of the weights")
    parser.add_argument("--epochs", type=int, default=16, help="passes over the images (default 16)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    images, targets = read(arguments.data)
    network = VisionTransformer(**SIZES, num_classes=len(targets.unique()))
    train(network, images, targets, arguments.epochs)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(network.state_dict(), arguments.output)


def read(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """8-bit images (images, 3, 32, 32) and their classes."""
    images, targets = [], []
    for number, place in enumerate(sorted(entry for entry in folder.iterdir() if entry.is_dir())):
        for file in sorted(place.iterdir())[:PER_CLASS]:
            images.append(np.asarray(Image.open(file).convert("RGB")))
            targets.append(number)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(targets)


def train(network: VisionTransformer, images: torch.Tensor, targets: torch.Tensor, epochs: int) -> None:
    """AdamW with a cosine, label smoothing, random crops and flips."""
    optimizer = create_optimizer_v2(network, opt="adamw", lr=RATE, weight_decay=0.05)
    steps = len(images) // BATCH
    schedule, _ = create_scheduler_v2(
        optimizer,
        num_epochs=epochs,
        warmup_epochs=2,
        min_lr=1e-5,
        step_on_epochs=False,
        updates_per_epoch=steps,
    )
    for epoch in range(epochs):
        total = 0.0
        for step, batch in enumerate(torch.randperm(len(images))[: steps * BATCH].split(BATCH)):
            schedule.step_update(epoch * steps + step)
            loss = F.cross_entropy(network(prepared(images[batch])), targets[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch + 1} of {epochs}: loss {total / steps:.3f}", flush=True)


def prepared(images: torch.Tensor) -> torch.Tensor:
    """A batch normalised, each image shifted by up to four pixels, half of them mirrored."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (MARGIN,) * 4)
    corners = torch.randint(2 * MARGIN + 1, (len(images), 2)).tolist()
    crops = [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, corners)]
    batch = torch.stack(crops).float() / 255
    batch = torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, batch.flip(-1), batch)
    view = (1, 3, 1, 1)
    return (batch - torch.tensor(MEAN).view(view)) / torch.tensor(STD).view(view)


if __name__ == "__main__":
    main()
