"""The whole job in Python with NNI's own classes, on scikit-learn's scanned digits.

    python examples/nni_classes.py

Change `open_data("digits", …)` to `open_data("folder", "/path/to/images", …)` and the space's name for images
of your own.
"""

from pathlib import Path

from nni.nas.evaluator.pytorch import DataLoader, Lightning, Trainer
from nni.nas.experiment import NasExperiment
from torch.utils.data import TensorDataset

from nni_autoformer import (
    AutoFormer,
    Evolution,
    EvolutionConfig,
    EvolutionStrategy,
    ImageClassification,
    Limits,
    Recipe,
    SearchSpace,
    SubnetEvaluator,
    SupernetTraining,
)
from nni_autoformer.data import (
    decode,
    draw_selection,
    eval_transform,
    open_data,
    split_selection,
    train_loader,
    train_transform,
)

OUTPUT = Path("runs/nni_classes")


def main() -> None:
    # 1. The images: some of the training images are held out, to compare subnets on.
    space = SearchSpace.load("digits")
    recipe = Recipe.for_space(space, epochs=30, batch_size=64, lr=2e-3, hflip=0.0)
    splits = open_data("digits", None, in_chans=1)
    training, selection = split_selection(splits.train, draw_selection(splits.train, per_class=24, seed=0))
    transform = train_transform(space.model, hflip=recipe.hflip)
    loader = train_loader(training, transform, recipe.batch_size, seed=0, workers=0, loader_class=DataLoader)
    selected = decode(selection, eval_transform(space.model))

    # 2. The supernet: a model space, an evaluator, a one-shot strategy.
    model_space = AutoFormer(space, drop_path_rate=recipe.drop_path)
    evaluator = Lightning(
        ImageClassification(recipe, splits.mean, splits.std),
        Trainer(max_epochs=recipe.epochs, accelerator="cpu", default_root_dir=OUTPUT, logger=False),
        train_dataloaders=loader,
        val_dataloaders=DataLoader(TensorDataset(selected.images, selected.targets), batch_size=256),
    )
    training_strategy = SupernetTraining(seed=0)
    NasExperiment(model_space, evaluator, training_strategy).run()

    # 3. The search: the trained supernet, an evaluator of inherited weights, an evolutionary strategy.
    supernet = training_strategy.supernet
    evolution = Evolution(space, Limits(max_params=0.3), EvolutionConfig(generations=3, seed=0))
    search_strategy = EvolutionStrategy(evolution)
    experiment = NasExperiment(supernet, SubnetEvaluator(selected, splits.mean, splits.std), search_strategy)
    experiment.run()
    print("best sample, as NNI knows it:", experiment.export_top_models(formatter="dict")[0])

    # 4. The winner: a plain PyTorch module, tested on images that neither training nor search has seen.
    best, selection_accuracy = evolution.best()
    subnet = supernet.extract(best.architecture)
    tested = SubnetEvaluator(
        decode(splits.test, eval_transform(space.model)), splits.mean, splits.std
    ).evaluate(subnet)
    print(f"{best.architecture}: {selection_accuracy:.2f} % on selection, {tested.top1:.2f} % on test images")


if __name__ == "__main__":
    main()
