"""A published supernet: test its published subnet and a neighbour, and keep one as an ordinary timm model.

    python examples/from_published_checkpoint.py supernet-tiny.pth IMAGENET

Get the file from
https://github.com/silent-chen/AutoFormer-model-zoo/releases/download/v1.0/supernet-tiny.pth
(supernet-small.pth and supernet-base.pth stand beside it; give --space small or base). IMAGENET holds
val/CLASS/*.JPEG.
"""

import argparse
from pathlib import Path

import timm
from safetensors.torch import save_file

import nni_autoformer.registry  # noqa: F401  (registers the models with timm)
from nni_autoformer import SearchSpace, SubnetEvaluator, load_supernet
from nni_autoformer.complexity import official, params
from nni_autoformer.data import decode, eval_transform, in_order_of, open_data


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--space", default="tiny", choices=("tiny", "small", "base"))
    parser.add_argument("--output", type=Path, default=Path("autoformer.safetensors"))
    arguments = parser.parse_args()

    # 1. The supernet, exact for every subnet, and the images as the published code crops them.
    space = SearchSpace.load(arguments.space)
    supernet, header = load_supernet(arguments.checkpoint, space)
    source = in_order_of(open_data("folder", arguments.data, test_only=True).test, header.run.classes)
    images = decode(source, eval_transform(space.model), progress="decode", workers=2)
    evaluator = SubnetEvaluator(images, header.run["mean"], header.run["std"])

    # 2. The published subnet, and one with a single decision changed.
    published = space.architectures["published"]
    for architecture in (published, next(space.neighbours(published))):
        accuracy = evaluator.evaluate(supernet.extract(architecture))
        size, cost = params(architecture, space.model) / 1e6, official(architecture, space.model) / 1e9
        print(architecture)
        print(f"  {size:.3f} M, {cost:.3f} G: top-1 {accuracy.top1:.2f} %, top-5 {accuracy.top5:.2f} %")

    # 3. An ordinary timm model with the subnet's weights.
    save_file(supernet.cpu().extract(published).state_dict(), arguments.output)
    name = f"autoformer_{arguments.space}_patch16_224"
    model = timm.create_model(name, checkpoint_path=str(arguments.output))
    print(f"{arguments.output}: timm.create_model('{name}', checkpoint_path=…), {len(model.blocks)} blocks")


if __name__ == "__main__":
    main()
