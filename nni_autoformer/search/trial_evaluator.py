"""NNI's evaluator for trials in processes of their own: everything it needs travels as a few names."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import nni
import nni.trial
from nni.nas.evaluator import Evaluator
from nni.nas.space import ExecutableModelSpace

from ..architecture import Architecture
from ..checkpoints import Checkpoint
from ..deployment import Deployment, Target
from ..experiment.fixes import own_record
from ..experiment.model_trial import load_model
from ..space import SearchSpace
from .batch_size import BatchSize
from .images import EvaluationImages
from .subnet_trial import evaluate_subnet


@nni.trace
class TrialEvaluator(Evaluator):
    """Evaluate a subnet with inherited weights in a process of its own.

    ``NasExperiment(AutoFormer(space), TrialEvaluator(checkpoint, "digits"), strategy)`` runs each candidate
    as a trial on NNI's training service. The weights and the decoded images come from files that every worker
    can read; the model space's own weights are not used. A trial reports its running accuracy and at the end
    top-1 as its metric.

    Args:
        checkpoint: a supernet.
        dataset, data, selection, store, workers: which images, see `EvaluationImages`.
        space: YAML file of the search space, for a supernet that does not name its own.
        use_ema: take the moving average of the weights, see `Checkpoint`.
        batch_size: images per forward pass, or 'auto'.
        device: 'auto', 'cpu', 'cuda', …
        precision: 'fp32', 'bf16' or 'fp16'.
        latency_table: file of measured latencies; None for no latency among the reported costs.
        deploy_batch_size, deploy_precision: how a subnet will run, see `Deployment`.
    """

    def __init__(
        self,
        checkpoint: str,
        dataset: str = "folder",
        data: str | None = None,
        selection: str | None = None,
        store: str | None = None,
        workers: int | None = 0,
        space: str | None = None,
        use_ema: bool = False,
        batch_size: BatchSize = "auto",
        device: str = "auto",
        precision: str = "fp32",
        latency_table: str | None = None,
        deploy_batch_size: int | None = None,
        deploy_precision: str | None = None,
    ) -> None:
        self.images = EvaluationImages(
            checkpoint, dataset, data, selection=selection, store=store, workers=workers
        )
        self.space, self.use_ema = space, use_ema
        self.batch_size, self.device, self.precision = batch_size, device, precision
        self.latency_table = latency_table
        self.deployment = Deployment(deploy_batch_size, deploy_precision)

    def _execute(self, model: ExecutableModelSpace) -> Any:
        model = _own_model(model)
        space = None if self.space is None else SearchSpace.load(self.space)
        checkpoint = Checkpoint(self.images.checkpoint, space, use_ema=self.use_ema)
        target = Target.of(self.deployment, self.latency_table)
        metric = evaluate_subnet(
            self.images,
            Architecture.from_sample(model.sample or {}),
            checkpoint=checkpoint,
            costs=target.costs(checkpoint.header.space),
            batch_size=self.batch_size,
            device=self.device,
            precision=self.precision,
            on_progress=nni.report_intermediate_result,
        )
        nni.report_final_result(metric)
        return metric

    def extra_repr(self) -> str:
        """Checkpoint and images, in NNI's logs."""
        return ", ".join(f"{name}={value}" for name, value in asdict(self.images).items())


def _own_model(model: ExecutableModelSpace) -> ExecutableModelSpace:
    """The model that belongs to this trial, see `fixes.own_record`."""
    handed = nni.trial._params
    if "NNI_TRIAL_JOB_ID" not in os.environ or handed is None or handed["parameters"] is not model:
        return model
    own = own_record(dict(handed), load_model)
    if own["parameter_id"] != handed["parameter_id"]:
        nni.trial._params = own  # what is reported from now on counts for this one
    return own["parameters"]
