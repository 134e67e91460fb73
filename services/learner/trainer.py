"""The Ray Train trainer of a run: how many learner ranks, with what resources, and where checkpoints go.

Apart from the learner, which its workers import: whoever starts a run has no use for FSDP and transformers.
"""

import math
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, ScalingConfig
from ray.train import RunConfig as TrainRunConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

from rlad_core.config import RunConfig
from services.base.uncollected import uncollected
from services.learner.rank_environment import rank_environment
from services.serve.cluster import joined_address


class _Trainer(TorchTrainer):
    """Without a process that hands out Ray datasets, of which there are none; and on a cluster that ends with
    the run without the one that ends what is left there.
    """

    needless: tuple[type, ...] = (DatasetsCallback,)

    def _create_default_callbacks(self) -> list[Any]:
        return [each for each in super()._create_default_callbacks() if not isinstance(each, self.needless)]


class _TrainerOfOneMachine(_Trainer):
    needless = (DatasetsCallback, PlacementGroupCleanerCallback)


def build_trainer(config: RunConfig, policy_folder: str) -> TorchTrainer:
    """The trainer of a run; its ``fit`` continues from the run's last checkpoint, if any."""
    learner = config.learner
    trainer = _Trainer if joined_address(config.cluster) else _TrainerOfOneMachine
    return trainer(
        _train,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "code": config.code,
            "policy_folder": policy_folder,
            "run_dir": str(Path(config.run_dir).absolute()),  # workers have a current folder of their own
        },
        scaling_config=ScalingConfig(
            num_workers=learner.workers,
            use_gpu=learner.num_gpus > 0,
            resources_per_worker={"CPU": learner.num_cpus, "GPU": learner.num_gpus}
            if learner.num_gpus
            else {"CPU": learner.num_cpus},
            label_selector=learner.node_labels or None,
        ),
        torch_config=TorchConfig(backend=learner.process_group, timeout_s=math.ceil(learner.timeout_s)),
        run_config=TrainRunConfig(
            name=config.name,
            storage_path=str(Path(config.output.dir).absolute()),
            failure_config=FailureConfig(max_failures=learner.max_failures),
            worker_runtime_env={
                "env_vars": rank_environment(learner, shares_cores=config.rollout.max_staleness > 0)
            },
        ),
    )


def _train(settings: dict[str, Any]) -> None:
    with uncollected():
        from services.learner.loop import train_loop
    train_loop(settings)
