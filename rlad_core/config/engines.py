"""What a recipe and the services themselves say of replicas, engines and workers: declared here, once.

A recipe's section has these fields and the run's own; a service's arguments (`RolloutArgs`, ...) have them
and the service's own. ``num_cpus`` and ``num_gpus`` are what Ray reserves for one replica; CPUs are logical
and may exceed the cores.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from rlad_core.config.engine_args import OF_ROLLOUT, OF_TEACHER, checked
from rlad_core.config.places import PLACES, NodeLabels
from rlad_core.sections.base import Section, Wait
from rlad_core.sections.paths import ModelReference
from rlad_core.sections.resume import Fixed, Free

Dtype = Literal["float32", "bfloat16"]
Share = Annotated[float, Field(gt=0, le=1)]
SequenceLength = Annotated[PositiveInt, Field(description="Tokens of prompt and response together.")]
Transfer = Annotated[
    Literal["object_store", "nccl", "sharded_rdt"],
    Field(
        description="How new weights come: object_store works everywhere; nccl and sharded_rdt need GPUs on "
        "both sides."
    ),
]
UpdateTimeout = Annotated[Wait, Field(description="Longest wait until a replica has a new version.")]
MODEL_HELP = (
    "A folder in Hugging Face layout, a hub id, or 'rlad:NAME' for a model that ships with the project "
    "(rlad:kk-student, rlad:kk-teacher, rlad:kk4-teacher)"
)


class ReplicaSettings(Section):
    """Replicas of a service, and what each takes."""

    num_replicas: Free[PositiveInt] = 1
    num_cpus: Free[NonNegativeFloat] = Field(default=1, description="What Ray reserves for one replica.")
    num_gpus: Free[NonNegativeFloat] = Field(default=0, description="0: runs on CPUs; fractions share a GPU.")
    node_labels: Free[NodeLabels] = Field(default={}, description=PLACES)


class EngineSettings(ReplicaSettings):
    """The engine inside a replica."""

    tensor_parallel_size: Free[PositiveInt] = Field(
        default=1, description="GPUs one replica spans (engine vllm)."
    )
    threads: Free[PositiveInt] = Field(default=1, description="CPU threads one replica computes with.")
    kv_cache_memory_gib: Free[PositiveFloat] = Field(
        default=1.0, description="KV cache of a replica on CPUs (engine vllm)."
    )


SLEEP = (
    "While the learner works, weights lie in host memory and keys and values nowhere, for roles that share a "
    "GPU; the weights are compared when it wakes."
)


class RolloutEngine(EngineSettings):
    """An engine that samples.

    Throughput of tiny models comes from concurrency, since a step's fixed cost outweighs its arithmetic:
    keep as many responses in flight as ``max_num_seqs`` admits.
    """

    gpu_memory_utilization: Free[Share] = Field(
        default=0.5, description="Share of a GPU's memory for a replica on GPUs."
    )
    max_num_seqs: Free[PositiveInt] = Field(
        default=256, description="Responses one engine generates at the same time."
    )
    max_num_batched_tokens: Free[PositiveInt] = Field(default=8192, description="Tokens of one engine step.")
    engine_args: Free[Annotated[dict[str, Any], AfterValidator(checked(OF_ROLLOUT))]] = Field(
        default={}, description="Further arguments of vLLM's engine, by vLLM's names: {enforce_eager: true}."
    )
    timeout_s: Free[Wait] = Field(default=1800.0, description="Longest wait for the groups of one call.")
    sleep: Free[bool] = Field(default=False, description=SLEEP)


class TeacherEngine(EngineSettings):
    """An engine that scores."""

    model: Fixed[ModelReference] = Field(description=MODEL_HELP + ".")
    engine: Free[Literal["torch", "vllm"]] = Field(
        default="torch", description="torch: one packed forward, no KV cache."
    )
    dtype: Fixed[Dtype] = "float32"
    max_tokens_per_batch: Free[PositiveInt] = Field(
        default=16384,
        description="Tokens of one forward pass. Bounds memory, and the longest sequence.",
    )
    gpu_memory_utilization: Free[Share] = Field(
        default=0.4, description="Share of a GPU's memory for engine vllm."
    )
    pipeline_parallel_size: Free[PositiveInt] = Field(
        default=1,
        description="Nodes that one replica spans, each with tensor_parallel_size GPUs and a part of the "
        "layers (engine vllm).",
    )
    engine_args: Fixed[Annotated[dict[str, Any], AfterValidator(checked(OF_TEACHER))]] = Field(
        default={}, description="Further arguments of vLLM's engine, by vLLM's names: {quantization: fp8}."
    )
    sleep: Free[bool] = Field(default=False, description=SLEEP)


class VerifierSettings(Section):
    """The processes that judge responses, and the limits of one check."""

    workers: Free[PositiveInt] = Field(
        default=2,
        description="Processes that judge, in each replica; up to three more each while checks are slow.",
    )
    time_limit_s: Free[Wait] = Field(
        default=5.0,
        description="Time of one check, without what it waits for a processor; a longer one counts as wrong.",
    )
    memory_limit_mib: Free[PositiveInt] = Field(
        default=512, le=2**40, description="Memory that one check may take."
    )
