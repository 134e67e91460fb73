"""An evaluation as it was asked for: models, questions, how they are sampled, where it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from rlad_core.config import ClusterConfig, EvaluationRecipe
from rlad_core.prompt_checks import Dropped
from services.evaluate.questions import Questions
from services.evaluate.respondents import Sampling
from services.rollout.settings import RolloutArgs
from services.verifier.settings import VerifierArgs


@dataclass(frozen=True)
class LocalModel:
    """A model that is deployed here.

    label: as the person wrote it.
    recipe: with its lengths.
    engine: how it is deployed; replicas and GPUs are set when the cluster is known, see `Devices`.
    """

    label: str
    recipe: EvaluationRecipe
    engine: RolloutArgs


@dataclass(frozen=True)
class ServedModel:
    """A rollout service of ours at a URL."""

    label: str
    url: str


@dataclass(frozen=True)
class EndpointModel:
    """A model of an OpenAI-compatible endpoint."""

    label: str
    url: str
    model: str


Model = LocalModel | ServedModel | EndpointModel


@dataclass(frozen=True)
class Devices:
    """What the replicas of one model may take; models are deployed one after another.

    gpus: together; None: all that the cluster has, and CPUs where it has none; 0: CPUs.
    replicas: None: as many as the GPUs allow, and one on CPUs.
    """

    gpus: int | None = None
    replicas: int | None = None
    tensor_parallel: int = 1

    def placed(self, engine: RolloutArgs, there: int) -> RolloutArgs:
        """The engine's arguments in a cluster with so many GPUs.

        Raises:
            ValueError: it has fewer than were asked for.
        """
        gpus, spans = there if self.gpus is None else self.gpus, self.tensor_parallel
        if gpus > there:
            raise ValueError(f"--gpus {gpus}: the cluster has {there}")
        if not gpus:
            # On CPUs vLLM splits a model over processes as it does over GPUs.
            return engine.model_copy(
                update={
                    "num_replicas": self.replicas or 1,
                    "num_gpus": 0,
                    "tensor_parallel_size": spans,
                }
            )
        replicas = self.replicas or gpus // spans
        if not replicas or replicas * spans > gpus:
            raise ValueError(
                f"{max(1, replicas)} replicas of {spans} GPUs (--replicas, --tensor-parallel) need "
                f"{max(1, replicas) * spans}, and there are {gpus}"
            )
        return engine.model_copy(
            update={"num_replicas": replicas, "num_gpus": spans, "tensor_parallel_size": spans}
        )


@dataclass(frozen=True)
class EvaluationPlan:
    """Everything that an evaluation does.

    token: sent to models elsewhere.
    concurrency: responses under way at a time, of models elsewhere.
    timeout_s: longest wait for one of them.
    ks: of Pass@k; none: see `rlad_core.evaluation.ks_of`.
    dropped: rows of the data that are no prompts.
    """

    models: tuple[Model, ...]
    questions: Questions
    sampling: Sampling
    verifier: VerifierArgs
    out: Path
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    devices: Devices = Devices()
    token: str | None = None
    concurrency: int = 32
    timeout_s: float = 3600.0
    ks: tuple[int, ...] = ()
    dropped: tuple[Dropped, ...] = ()
