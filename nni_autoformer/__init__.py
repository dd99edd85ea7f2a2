"""AutoFormer (ICCV 2021) for NNI 3.0: train an entangled vision-transformer supernet, search it, keep the
winner.

    from nni_autoformer import Limits, search, test, train

The jobs are the commands' functions, see `nni_autoformer.jobs`. The public names are resolved when they are
first used, so that importing the package loads neither torch nor NNI.
"""

from __future__ import annotations

import types
import warnings
from typing import TYPE_CHECKING, Any

from . import search
from .lazy import lazy

if TYPE_CHECKING:
    from .architecture import Architecture
    from .checkpoints import Checkpoint, load_supernet, save_supernet
    from .errors import ConfigError
    from .jobs import (
        DataSet,
        Engine,
        Evaluation,
        Loading,
        Upkeep,
        demo,
        finetune,
        retrain,
        sample,
        test,
        train,
    )
    from .model import AutoFormer, build_supernet
    from .nn.subnet import Subnet
    from .search.evaluator import SubnetEvaluator
    from .search.evolution import Evolution, EvolutionConfig, Limits
    from .search.strategy import EvolutionStrategy
    from .search.trial_evaluator import TrialEvaluator
    from .search.tuner import EvolutionTuner
    from .space import ModelConfig, SearchSpace
    from .training.module import ImageClassification
    from .training.one_shot import SupernetTraining
    from .training.recipe import Recipe

__version__ = "0.1.0"

# NNI says at its import that it does not know some of the names in today's torch.nn, which nothing here needs
warnings.filterwarnings("ignore", message=".*is found to be not a nn.Module", category=RuntimeWarning)

_HOMES = {
    "Architecture": "architecture",
    "AutoFormer": "model",
    "Checkpoint": "checkpoints",
    "ConfigError": "errors",
    "DataSet": "jobs",
    "Engine": "jobs",
    "Evaluation": "jobs",
    "Evolution": "search.evolution",
    "EvolutionConfig": "search.evolution",
    "EvolutionStrategy": "search.strategy",
    "EvolutionTuner": "search.tuner",
    "ImageClassification": "training.module",
    "Limits": "search.limits",
    "Loading": "jobs",
    "ModelConfig": "space",
    "Recipe": "training.recipe",
    "SearchSpace": "space",
    "Subnet": "nn.subnet",
    "SubnetEvaluator": "search.evaluator",
    "SupernetTraining": "training.one_shot",
    "TrialEvaluator": "search.trial_evaluator",
    "Upkeep": "jobs",
    "build_supernet": "model",
    "demo": "jobs",
    "finetune": "jobs",
    "load_supernet": "checkpoints",
    "retrain": "jobs",
    "sample": "jobs",
    "save_supernet": "checkpoints",
    "test": "jobs",
    "train": "jobs",
}

__all__ = [
    "Architecture",
    "AutoFormer",
    "Checkpoint",
    "ConfigError",
    "DataSet",
    "Engine",
    "Evaluation",
    "Evolution",
    "EvolutionConfig",
    "EvolutionStrategy",
    "EvolutionTuner",
    "ImageClassification",
    "Limits",
    "Loading",
    "ModelConfig",
    "Recipe",
    "SearchSpace",
    "Subnet",
    "SubnetEvaluator",
    "SupernetTraining",
    "TrialEvaluator",
    "Upkeep",
    "build_supernet",
    "demo",
    "finetune",
    "load_supernet",
    "retrain",
    "sample",
    "save_supernet",
    "search",
    "test",
    "train",
]


class _Room(types.ModuleType):
    """The room `search`, which is called as the job of its name: both are `nni_autoformer.search`."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        from .jobs import search

        return search(*arguments, **settings)


search.__class__ = _Room

__getattr__, __dir__ = lazy(__name__, _HOMES)
