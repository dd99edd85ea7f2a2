"""Search a trained supernet with NNI's own classes, each candidate a trial, with NNI's web UI.

    nni-autoformer demo                  # leaves runs/demo/supernet.safetensors
    python examples/nni_search.py        # then open http://localhost:8080

The same on the command line: nni-autoformer search --engine nni --port 8080 --concurrency 2 …
"""

import argparse
from pathlib import Path

from nni.nas.experiment import NasExperiment, NasExperimentConfig

from nni_autoformer import AutoFormer, Evolution, EvolutionConfig, EvolutionStrategy, Limits, TrialEvaluator
from nni_autoformer.checkpoints import own_header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/demo/supernet.safetensors"))
    parser.add_argument("--output", type=Path, default=Path("runs/nni_search"))
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--population-size", type=int, default=10)
    arguments = parser.parse_args()

    # 1. What is searched: the space stands in the checkpoint's header.
    space = own_header(arguments.checkpoint).space
    size = arguments.population_size
    config = EvolutionConfig(size, 4, size // 2, size // 2, generations=3, seed=0)
    evolution = Evolution(space, Limits(max_params=0.25), config)

    # 2. A model space, an evaluator, a strategy. Only names travel to a trial: the evaluator's checkpoint and
    #    data, and where the space is written. NNI's own strategies take the strategy's place as they are:
    #    nni.nas.strategy.RegularizedEvolution(), nni.nas.strategy.Random().
    arguments.output.mkdir(parents=True, exist_ok=True)
    space.to_yaml(arguments.output / "space.yaml")
    model_space = AutoFormer(str((arguments.output / "space.yaml").resolve()))
    evaluator = TrialEvaluator(str(arguments.checkpoint.resolve()), dataset="digits")
    strategy = EvolutionStrategy(evolution, arguments.output)

    # 3. The experiment, as in any NNI script.
    settings = NasExperimentConfig("ts", "simplified", "local")
    settings.trial_concurrency = 2
    settings.experiment_working_directory = arguments.output.resolve() / "nni"
    experiment = NasExperiment(model_space, evaluator, strategy, settings)
    experiment.run(arguments.port)
    best, accuracy = evolution.best()
    print(f"{best.architecture}: {accuracy:.2f} % on the selection images")
    print("as NNI knows it:", experiment.export_top_models(formatter="dict")[0])
    experiment.stop()


if __name__ == "__main__":
    main()
