"""What a teacher service is started with. Imports neither Ray nor vLLM."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.errors import LimitError
from services.replica_settings import ReplicaArgs


class TeacherLimits(BaseModel):
    """What one request may ask for; shown in ``/v1/info``. A single sequence is limited by the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_sequences_per_request: int = Field(default=4096, gt=0)
    max_tokens_per_request: int = Field(
        default=2**20,
        gt=0,
        description="Of prompts and responses together, and with top_k the likeliest tokens told: top_k for "
        "each response token.",
    )
    max_body_bytes: int = Field(default=64 * 2**20, gt=0, description="Of an HTTP request.")
    max_queued_tokens: int = Field(
        default=2**22,
        gt=0,
        description="Of requests that wait in one replica; what comes on top is refused with 429.",
    )
    max_top_k: int = Field(default=20, ge=0, description="Likeliest tokens for each place.")
    timeout_s: float = Field(default=600.0, gt=0, description="Longest time for one request's scores.")

    def check(self, sequences: int, tokens: int, told: int = 0) -> None:
        """Refuse a request of so many sequences and tokens if that is too many.

        Args:
            sequences, tokens: what is to be scored.
            told: likeliest tokens that the answer is to tell; they take memory as the scored ones do.

        Raises:
            LimitError: says which limit and how much.
        """
        if sequences > (most := self.max_sequences_per_request):
            raise LimitError("sequences", f"{sequences} sequences in one request; at most {most} are taken")
        if tokens + told > (most := self.max_tokens_per_request):
            also = f" and {told} likeliest tokens to tell" if told else ""
            raise LimitError("tokens", f"{tokens} tokens{also} in one request; at most {most} are taken")


class TeacherArgs(ReplicaArgs):
    """Arguments of the application; the defaults suit small models on CPUs."""

    model: str = Field(description="Folder in Hugging Face layout, hub id, or rlad:NAME.")
    served_name: str | None = Field(
        default=None, min_length=1, description="What the API calls the model; by default as in `model`."
    )
    engine: Literal["torch", "vllm"] = "torch"
    dtype: Literal["float32", "bfloat16"] = "float32"
    max_model_len: int | None = Field(
        default=None,
        gt=0,
        description="Tokens of prompt and response together; by default what the model reads.",
    )
    max_tokens_per_batch: int = Field(
        default=16384,
        gt=0,
        description="Tokens of one forward pass. Bounds memory, and the longest sequence.",
    )
    logits_memory_gib: float = Field(default=1.0, gt=0, description="Memory that logits may take at a time.")
    kv_cache_memory_gib: float = Field(default=1.0, gt=0, description="KV cache of engine vllm on CPUs.")
    gpu_memory_utilization: float = Field(
        default=0.4, gt=0, le=1, description="Share of a GPU's memory for engine vllm."
    )
    tensor_parallel_size: int = Field(
        default=1, gt=0, description="GPUs that one replica spans (engine vllm)."
    )
    threads: int = Field(default=1, gt=0, description="CPU threads that one replica computes with.")
    limits: TeacherLimits = TeacherLimits()

    @property
    def name(self) -> str:
        """What the API calls the model."""
        return self.served_name or self.model

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tensor_parallel_size > 1:
            if self.engine == "torch":
                raise ValueError(
                    f"tensor_parallel_size: {self.tensor_parallel_size} needs engine: vllm; "
                    "torch computes on one device"
                )
            if self.num_gpus != self.tensor_parallel_size:
                raise ValueError(
                    f"num_gpus: {self.num_gpus:g} does not fit tensor_parallel_size: "
                    f"{self.tensor_parallel_size}; write the same number"
                )
        if self.max_model_len is not None and self.max_model_len > self.max_tokens_per_batch:
            raise ValueError(
                f"max_model_len: {self.max_model_len} is over max_tokens_per_batch: "
                f"{self.max_tokens_per_batch}, and a sequence is never split; raise the latter"
            )
        return self
