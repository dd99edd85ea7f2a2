"""The search space in an ordinary NNI experiment (HPO style), with any of NNI's tuners.

nni-autoformer demo                  # leaves runs/demo/supernet.safetensors
python examples/hpo_search.py        # then open http://localhost:8080
"""

import argparse
from pathlib import Path

from nni.experiment import Experiment

from nni_autoformer.checkpoints import own_header


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/demo/supernet.safetensors"))
    parser.add_argument("--tuner", default="TPE", help="Evolution, TPE, Random, … (default TPE)")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args()
    checkpoint = arguments.checkpoint.resolve()

    experiment = Experiment("local")
    experiment.config.experiment_name = "AutoFormer, HPO style"
    experiment.config.search_space = own_header(checkpoint).space.to_nni()
    experiment.config.tuner.name = arguments.tuner
    if arguments.tuner != "Random":
        experiment.config.tuner.class_args = {"optimize_mode": "maximize"}
    experiment.config.trial_command = (
        f"nni-autoformer test --split selection --checkpoint {checkpoint} --dataset digits"
    )
    experiment.config.max_trial_number = arguments.trials
    experiment.config.trial_concurrency = 2
    experiment.run(arguments.port)
    best = max(experiment.export_data(), key=lambda trial: trial.value["default"])
    print(f"best: {best.value['default']:.2f} %, {best.value['params (M)']:.3f} M parameters")
    print(best.parameter)
    experiment.stop()


if __name__ == "__main__":
    main()
