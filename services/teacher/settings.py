"""What a teacher service is started with. Imports neither Ray nor vLLM."""

import math
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from rlad_core.client.forms import TeacherLimits
from rlad_core.config import RunConfig, ServeTeacher, TeacherEngine
from services.serve.replica_settings import ReplicaArgs, ServedName
from services.vllm.process import engine_environment


class TeacherArgs(TeacherEngine, ReplicaArgs):
    """Arguments of the application; the defaults suit small models on CPUs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    served_name: ServedName | None = None
    max_model_len: int | None = Field(
        default=None,
        gt=0,
        description="Tokens of prompt and response together; by default what the model reads.",
    )
    logits_memory_gib: float = Field(default=1.0, gt=0, description="Memory that logits may take at a time.")
    limits: TeacherLimits = TeacherLimits()

    @classmethod
    def of_run(cls, config: RunConfig, teacher: ServeTeacher, timeout_s: float) -> Self:
        """A teacher that a run deploys.

        A run waits for its own teacher and is never refused: a request is a group, and all of a step's groups
        may wait at once.

        Args:
            timeout_s: longest wait for one call's scores.
        """
        usual, top_k = TeacherLimits(), max(config.teacher_top_k, config.policy_top_k)
        # What is told of each token counts as tokens do.
        told = top_k + 1 if top_k else 0
        longest = teacher.longest(config.policy.max_length)
        sequences = config.rollout.group_size
        if config.needs_hidden_states:  # a request is a micro-batch, of any groups of a step
            sequences *= config.rollout.prompts_per_step
        group_tokens = config.rollout.group_size * longest * (1 + told)
        shared = teacher.model_dump(include=set(TeacherEngine.model_fields))
        return cls(
            run=config.services_name,
            max_model_len=longest,
            limits=TeacherLimits(
                max_sequences_per_request=max(usual.max_sequences_per_request, sequences),
                max_tokens_per_request=max(usual.max_tokens_per_request, group_tokens, sequences * longest),
                max_queued_tokens=max(usual.max_queued_tokens, config.slots * group_tokens),
                max_top_k=max(usual.max_top_k, top_k),
                max_hidden_bytes=2**40 if config.needs_hidden_states else usual.max_hidden_bytes,
                timeout_s=timeout_s,
            ),
            **shared,
        )

    @property
    def name(self) -> str:
        """What the API calls the model."""
        return self.served_name or self.model

    @property
    def placement(self) -> dict[str, Any]:
        """Options of Serve for a replica that spans nodes; one that is on one node, as an actor is, has none.

        The replica itself goes to the first bundle, vLLM's workers to the others: it wants one for each GPU,
        and numbers them by node, so that a stage's ranks are together. PACK takes as few nodes as have room.
        """
        if self.pipeline_parallel_size == 1:
            return {}
        bundles = [{"CPU": self.num_cpus}, *({"GPU": 1.0} for _ in range(int(self.num_gpus)))]
        return {
            "placement_group_bundles": bundles,
            "placement_group_strategy": "PACK",
            "placement_group_bundle_label_selector": [dict(self.node_labels) for _ in bundles],
            "ray_actor_options": {"num_cpus": self.num_cpus, "num_gpus": 0},
        }

    @property
    def environment(self) -> dict[str, str]:
        """See `ReplicaArgs.environment`."""
        # vLLM on CPUs otherwise pins every engine of a machine to the same cores.
        own = {} if self.num_gpus else {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        if self.engine == "vllm":
            own |= engine_environment(self.num_gpus, self.engine_args)
        return super().environment | own | {"OMP_NUM_THREADS": str(self.threads)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.engine_args and self.engine == "torch":
            raise ValueError(f"engine_args: {sorted(self.engine_args)} are vLLM's; write engine: vllm")
        if self.sleep and self.engine == "vllm" and not self.num_gpus:
            raise ValueError(
                "sleep: vLLM has it on GPUs alone; write sleep: false, engine: torch, or num_gpus: 1"
            )
        spans = {"tensor_parallel_size": self.tensor_parallel_size}
        if self.pipeline_parallel_size > 1:
            spans["pipeline_parallel_size"] = self.pipeline_parallel_size
        if math.prod(spans.values()) > 1:
            said = ", ".join(f"{name}: {size}" for name, size in spans.items())
            if self.engine == "torch":
                raise ValueError(f"{said} needs engine: vllm; torch computes on one device")
            if self.num_gpus != math.prod(spans.values()):
                what = "the same number" if len(spans) == 1 else f"{math.prod(spans.values())}, their product"
                raise ValueError(f"num_gpus: {self.num_gpus:g} does not fit {said}; write {what}")
        if self.max_model_len is not None and self.max_model_len > self.max_tokens_per_batch:
            raise ValueError(
                f"max_model_len: {self.max_model_len} is over max_tokens_per_batch: "
                f"{self.max_tokens_per_batch}, and a sequence is never split; raise the latter"
            )
        return self
