"""What a rollout service is started with, and what a call to it may ask for. Imports neither Ray nor vLLM."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from rlad_core.client.rollout_forms import RolloutLimits
from rlad_core.config import EvaluationRecipe, LoraConfig, RolloutEngine
from rlad_core.config.engines import MODEL_HELP, Dtype, Transfer, UpdateTimeout
from rlad_core.language_model.chat import ChatFormat, template_variables
from rlad_core.sections.paths import TemplateText
from services.serve.replica_settings import ReplicaArgs, ServedName
from services.vllm.process import engine_environment, on_cpu


class RolloutArgs(RolloutEngine, ReplicaArgs):
    """Arguments of the application; the defaults suit tiny models on CPUs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    model: str = Field(description=MODEL_HELP + "; its weights are version 0.")
    served_name: ServedName | None = None
    policy_store: str | None = Field(
        None, description="Name of the store that versions are pulled from; None: version 0 for ever."
    )
    transfer: Transfer = "object_store"
    adapter: LoraConfig | None = Field(
        default=None, description="Versions are adapters of this kind, and the model stays as it is."
    )
    dtype: Dtype | Literal["auto"] = Field(default="auto", description="auto: what the model was saved in.")
    max_model_len: int | None = Field(
        default=None,
        gt=0,
        description="Tokens of prompt and response together; by default what the model reads, at most "
        "max_num_batched_tokens.",
    )
    chat_template: TemplateText | None = Field(
        default=None, description="A file with a Jinja chat template, or its text; null: the tokenizer's own."
    )
    chat_template_kwargs: Annotated[dict[str, Any], AfterValidator(template_variables)] = Field(
        default={}, description="Variables of the chat template."
    )
    seed: int = Field(
        default=0, ge=0, lt=2**63, description="Of the engine, for requests without a seed of their own."
    )
    max_ongoing_requests: int = Field(
        default=1024, gt=0, description="With max_queued_requests the calls that one replica has."
    )
    update_timeout_s: UpdateTimeout = 300.0
    limits: RolloutLimits = RolloutLimits()

    @classmethod
    def of_run(cls, config: EvaluationRecipe, model: str, **more: Any) -> Self:
        """The rollout service of a run or an evaluation.

        Args:
            model: folder or hub id of the policy.
            more: what only a run that trains has.
        """
        shared = config.rollout.model_dump(include=set(RolloutEngine.model_fields))
        return cls(
            run=config.services_name,
            model=model,
            dtype=config.policy.dtype,
            max_model_len=config.policy.max_length,
            # A run's requests have seeds of their own, so services that runs share are alike for all seeds.
            seed=config.seed if config.cluster.services is None else 0,
            chat_template=config.policy.chat_template,
            chat_template_kwargs=config.policy.chat_template_kwargs,
            **shared,
            **more,
        )

    @property
    def name(self) -> str:
        """What the API calls the model."""
        return self.served_name or self.model

    @property
    def chat(self) -> ChatFormat:
        """How messages become a prompt."""
        return ChatFormat(self.chat_template, self.chat_template_kwargs)

    @property
    def reusable(self) -> bool:
        """A learner that pushes has its engines in a transfer group, which another cannot join."""
        return self.transfer == "object_store"

    @property
    def environment(self) -> dict[str, str]:
        """See `ReplicaArgs.environment`."""
        own = super().environment | engine_environment(self.num_gpus, self.engine_args)
        if self.num_gpus:
            return own
        # Otherwise every engine on a host pins its threads to the same cores.
        threads = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(self.threads)}
        return own | threads

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_gpus and self.tensor_parallel_size > max(1.0, self.num_gpus):
            raise ValueError(
                f"tensor_parallel_size: {self.tensor_parallel_size} needs as many num_gpus, "
                f"not {self.num_gpus:g}"
            )
        if self.sleep and not self.num_gpus:
            raise ValueError("sleep: vLLM has it on GPUs alone; write sleep: false, or num_gpus: 1")
        if self.transfer != "object_store" and self.adapter is not None:
            raise ValueError(f"transfer: {self.transfer} pushes whole models; write object_store")
        if self.transfer != "object_store" and not self.num_gpus:
            raise ValueError(f"transfer: {self.transfer} needs GPUs; write object_store, or num_gpus: 1")
        return self


# What `SamplingSettings._check` refuses, for the OpenAPI document.
_RULES: list[Any] = [
    {
        "anyOf": [
            {"properties": {"training": {"const": False}}, "required": ["training"]},
            {"properties": {"temperature": {"const": 1}, "top_p": {"const": 1}, "top_k": {"const": 0}}},
        ]
    },
    {
        "anyOf": [
            {"not": {"properties": {"temperature": {"const": 0}}, "required": ["temperature"]}},
            {"properties": {"group_size": {"const": 1}}},
        ]
    },
]


class SamplingSettings(BaseModel):
    """How the responses of a group are sampled.

    The log-probs that come back are always those of the untruncated distribution at temperature 1. With
    these settings for training they are exactly those the tokens were sampled with. Elsewhere
    (evaluation, ``training=False``) the tokens come from another distribution, softmax(logits / temperature)
    cut to top-p and top-k, and the log-probs must not be used as those of the behaviour policy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"allOf": _RULES})

    group_size: int = Field(gt=0, lt=2**31, description="Responses for each prompt.")
    max_tokens: int = Field(
        gt=0, lt=2**31, description="Longest response; also cut at the engine's max_model_len."
    )
    temperature: float = Field(default=1.0, ge=0, le=2, description="0 is greedy; vLLM takes no more than 2.")
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, lt=2**31, description="0 is off.")
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="With it a group's responses depend on nothing but weights, seed and group_id.",
    )
    stop_token_ids: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(
        default=(),
        max_length=64,
        description="Exactly these tokens end a response; none: those that the model's own files name.",
    )
    training: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.training:
            for name, wanted in (("temperature", 1.0), ("top_p", 1.0), ("top_k", 0)):
                if (value := getattr(self, name)) != wanted:
                    raise ValueError(
                        f"{name}: {value} is refused for training rollouts, whose log-probs would not be "
                        f"those of the sampled distribution; write {wanted}, or training=False to evaluate"
                    )
        if self.temperature == 0 and self.group_size > 1:
            raise ValueError(f"temperature: 0 gives {self.group_size} equal responses; write group_size: 1")
        return self


def _saved_in(model: str) -> str:
    """The precision that a model was saved in; vLLM's own ``auto`` would narrow float32."""
    from transformers import AutoConfig

    saved = getattr(AutoConfig.from_pretrained(model).get_text_config(), "dtype", None)
    return "auto" if saved is None else str(saved).removeprefix("torch.")


def engine_args(args: RolloutArgs, model: str, max_model_len: int) -> dict[str, Any]:
    """What vLLM is told: the difference between CPUs and GPUs is all here.

    Args:
        model: folder or hub id that ``args.model`` stands for.
        max_model_len: tokens of prompt and response together.
    """
    common: dict[str, Any] = {
        "model": model,
        "dtype": _saved_in(model) if args.dtype == "auto" else args.dtype,
        "max_model_len": max_model_len,
        "max_num_seqs": args.max_num_seqs,
        "max_num_batched_tokens": args.max_num_batched_tokens,
        "tensor_parallel_size": args.tensor_parallel_size,
        "seed": args.seed % 2**32,  # NumPy, which vLLM seeds too, takes no more
        "max_logprobs": args.limits.max_top_k,
        "disable_log_stats": True,
    }
    if args.num_gpus:
        return {
            **common,
            "gpu_memory_utilization": args.gpu_memory_utilization,
            **({"enable_sleep_mode": True} if args.sleep else {}),
            **args.engine_args,
        }
    return common | {
        **on_cpu(args.kv_cache_memory_gib, args.tensor_parallel_size),
        # On GPUs vLLM schedules ahead of what it computes, by another class.
        "scheduler_cls": "services.rollout.holding.HoldingScheduler",
        # A request with a seed of its own whose prompt is split over two steps crashes vLLM on CPUs
        # ("CPU Generator does not use offset"). Whole prompts then have to fit into a step.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(args.max_num_batched_tokens, max_model_len),
        **args.engine_args,
    }
