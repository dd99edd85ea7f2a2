"""AutoFormer (ICCV 2021) for NNI 3.0: train an entangled vision-transformer supernet, search it, keep the
winner.

The public names are resolved when they are first used, so that importing the package loads neither torch nor
NNI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy

if TYPE_CHECKING:
    from .architecture import Architecture
    from .checkpoints import Checkpoint, load_supernet, save_supernet
    from .errors import ConfigError
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

_HOMES = {
    "Architecture": "architecture",
    "AutoFormer": "model",
    "Checkpoint": "checkpoints",
    "ConfigError": "errors",
    "Evolution": "search.evolution",
    "EvolutionConfig": "search.evolution",
    "EvolutionStrategy": "search.strategy",
    "EvolutionTuner": "search.tuner",
    "ImageClassification": "training.module",
    "Limits": "search.evolution",
    "ModelConfig": "space",
    "Recipe": "training.recipe",
    "SearchSpace": "space",
    "Subnet": "nn.subnet",
    "SubnetEvaluator": "search.evaluator",
    "SupernetTraining": "training.one_shot",
    "TrialEvaluator": "search.trial_evaluator",
    "build_supernet": "model",
    "load_supernet": "checkpoints",
    "save_supernet": "checkpoints",
}

__all__ = [
    "Architecture",
    "AutoFormer",
    "Checkpoint",
    "ConfigError",
    "Evolution",
    "EvolutionConfig",
    "EvolutionStrategy",
    "EvolutionTuner",
    "ImageClassification",
    "Limits",
    "ModelConfig",
    "Recipe",
    "SearchSpace",
    "Subnet",
    "SubnetEvaluator",
    "SupernetTraining",
    "TrialEvaluator",
    "build_supernet",
    "load_supernet",
    "save_supernet",
]


__getattr__, __dir__ = lazy(__name__, _HOMES)
