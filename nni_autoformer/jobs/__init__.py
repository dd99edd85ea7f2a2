"""What the commands do, as functions of configuration objects that return objects; nothing here prints.

    from nni_autoformer.jobs import search, test, train

    supernet = train("cifar", "DIR", "runs/c10", epochs=30)
    found = search(supernet.checkpoint, "DIR", "runs/c10-search", limits=Limits(max_params=2.0))
    print(found.best.architecture, found.best.accuracy)
    print(test(supernet.checkpoint, "DIR", architecture=found.best.architecture).top1)

A command line with the same settings makes the same recipe and gives the same numbers. Sentences for people
go to the logger 'nni_autoformer'.
"""

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from ..data.data_set import DataSet, Loading
    from ..search.evaluation import Evaluation
    from ..training.upkeep import Upkeep
    from .evaluate import Tested, test
    from .latencies import CheckedLatency, MeasuredLatency, Measuring, check_latency, measure_latency
    from .pick_subnet import Picked, pick
    from .sample_subnets import Sampled, sample
    from .search_supernet import Engine, search
    from .searched import Ranked, Searched
    from .started_from import space_from
    from .train_subnet import TrainedSubnet, finetune, retrain
    from .train_supernet import TrainedSupernet, train
    from .whole_job import Demonstrated, demo

_HOMES = {
    "CheckedLatency": "latencies",
    "DataSet": ".data.data_set",
    "Demonstrated": "whole_job",
    "Engine": "search_supernet",
    "Evaluation": ".search.evaluation",
    "Loading": ".data.data_set",
    "MeasuredLatency": "latencies",
    "Measuring": "latencies",
    "Picked": "pick_subnet",
    "Ranked": "searched",
    "Sampled": "sample_subnets",
    "Searched": "searched",
    "Tested": "evaluate",
    "TrainedSubnet": "train_subnet",
    "TrainedSupernet": "train_supernet",
    "Upkeep": ".training.upkeep",
    "check_latency": "latencies",
    "demo": "whole_job",
    "finetune": "train_subnet",
    "measure_latency": "latencies",
    "pick": "pick_subnet",
    "retrain": "train_subnet",
    "sample": "sample_subnets",
    "search": "search_supernet",
    "space_from": "started_from",
    "test": "evaluate",
    "train": "train_supernet",
}

__all__ = [
    "CheckedLatency",
    "DataSet",
    "Demonstrated",
    "Engine",
    "Evaluation",
    "Loading",
    "MeasuredLatency",
    "Measuring",
    "Picked",
    "Ranked",
    "Sampled",
    "Searched",
    "Tested",
    "TrainedSubnet",
    "TrainedSupernet",
    "Upkeep",
    "check_latency",
    "demo",
    "finetune",
    "measure_latency",
    "pick",
    "retrain",
    "sample",
    "search",
    "space_from",
    "test",
    "train",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
