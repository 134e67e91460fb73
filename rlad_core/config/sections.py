"""The sections of a recipe. A class's defaults are the vetted setting; recipes say what differs.

Units are in the names (``_s`` seconds, ``_gib`` GiB, ``length`` and ``tokens`` tokens). ``num_cpus`` and
``num_gpus`` are what Ray reserves for one replica or one worker; CPUs are logical and may exceed the cores.
"""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
)

from rlad_core.config.base import Section

Dtype = Literal["float32", "bfloat16"]
Share = Annotated[float, Field(gt=0, le=1)]
PLACES = "Labels of the Ray nodes that it may run on; none: any node."
MODEL_HELP = (
    "A folder in Hugging Face layout, a hub id, 'rlad:NAME' for a model that ships with the project "
    "(rlad:kk-student, rlad:kk-teacher)"
)


class PolicyConfig(Section):
    """The student: where it starts from and how long a sequence may be."""

    model: str = Field(
        description=MODEL_HELP + ", or 'tiny:student' / 'tiny:teacher' for an untrained tiny one."
    )
    init: Literal["pretrained", "random"] = Field(
        default="pretrained",
        description="random: fresh weights from the model's config.json, its tokenizer kept.",
    )
    dtype: Dtype = Field(
        default="float32", description="Of the rollout engine and of the learner's forward pass."
    )
    max_length: PositiveInt = Field(default=4096, description="Tokens of prompt and response together.")


class TeacherSection(Section):
    """What all teachers have in common."""

    tasks: tuple[str, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        description="Names of the tasks it teaches; null: every task of the recipe.",
    )


class ServeTeacher(TeacherSection):
    """A teacher deployed in the run's own Ray cluster."""

    kind: Literal["serve"] = "serve"
    model: str = Field(description=MODEL_HELP + ".")
    engine: Literal["torch", "vllm"] = Field(
        default="torch", description="torch: one packed forward, no KV cache."
    )
    dtype: Dtype = "float32"
    num_replicas: PositiveInt = 1
    num_cpus: NonNegativeFloat = 1
    num_gpus: NonNegativeFloat = Field(default=0, description="0: runs on CPUs; fractions share a GPU.")
    node_labels: dict[str, str] = Field(default={}, description=PLACES)
    tensor_parallel_size: PositiveInt = Field(default=1, description="GPUs one replica spans (engine vllm).")
    threads: PositiveInt = Field(default=1, description="CPU threads one replica computes with.")
    max_tokens_per_batch: PositiveInt = Field(
        default=16384, description="Tokens of one forward pass; bounds memory."
    )
    kv_cache_memory_gib: PositiveFloat = Field(default=1.0, description="KV cache of engine vllm on CPUs.")
    gpu_memory_utilization: Share = Field(default=0.4, description="Share of a GPU's memory for engine vllm.")
    timeout_s: PositiveFloat = Field(default=600.0, description="Longest wait for one call's scores.")

    @property
    def where(self) -> str:
        """For people: the model."""
        return self.model


def _http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")) or not urlsplit(url).hostname:
        raise ValueError("is no address. Write http://HOST:PORT or https://HOST")
    return url


class RemoteTeacher(TeacherSection):
    """What teachers elsewhere have in common."""

    url: Annotated[str, AfterValidator(_http_url)] = Field(
        description="For instance http://teacher.example:8000"
    )
    token_env: str | None = Field(
        default=None, description="Environment variable of the run that holds the bearer token."
    )
    token_file: str | None = Field(default=None, description="File that holds it.")
    connections: PositiveInt = Field(default=8, description="Requests at a time.")
    call_timeout_s: PositiveFloat = Field(default=120.0, description="Longest wait for one request.")
    timeout_s: PositiveFloat = Field(
        default=1800.0,
        description="Longest wait for it with its repetitions, e.g. while the teacher restarts.",
    )


class HttpTeacher(RemoteTeacher):
    """A teacher behind our REST interface (`rlad serve teacher`), with Arrow on the wire."""

    kind: Literal["http"] = "http"

    @property
    def where(self) -> str:
        """For people: the address."""
        return self.url


class OpenAITeacher(RemoteTeacher):
    """A stock vLLM server."""

    kind: Literal["openai"] = "openai"
    model: str = Field(min_length=1, description="As the server calls it.")
    api: Literal["completions", "generate"] = Field(
        default="completions",
        description="completions: /v1/completions with prompt_logprobs; generate: /inference/v1/generate of "
        "a server that runs with --enable-scale-out.",
    )

    @property
    def where(self) -> str:
        """For people: model and address."""
        return f"{self.model} at {self.url}"


def kind(teacher: object) -> object:
    """Which of the teachers a section is; `serve` may be left out."""
    return teacher.get("kind", "serve") if isinstance(teacher, dict) else getattr(teacher, "kind", None)


Teacher = Annotated[
    Annotated[ServeTeacher, Tag("serve")]
    | Annotated[HttpTeacher, Tag("http")]
    | Annotated[OpenAITeacher, Tag("openai")],
    Discriminator(kind),
]


class RolloutConfig(Section):
    """What is sampled for a step, and the engines that sample it."""

    prompts_per_step: PositiveInt = 32
    group_size: PositiveInt = Field(default=8, description="Responses for each prompt.")
    temperature: PositiveFloat = Field(
        default=1.0, description="Only 1.0 for training: log-probs are those of 1.0."
    )
    top_p: Share = Field(default=1.0, description="Only 1.0 for training.")
    top_k: NonNegativeInt = Field(default=0, description="Only 0 (off) for training.")
    max_response_length: PositiveInt = 2048
    drop_uninformative: bool = Field(
        default=True,
        description="Drop groups whose rewards are all equal, where the objective compares rewards.",
    )
    refill_rounds: int = Field(
        default=0,
        ge=0,
        le=10,
        description="How often a step may sample new prompts in place of dropped groups.",
    )
    max_staleness: Literal[0] = Field(
        default=0, description="Versions a token may lag behind; 0: strictly on-policy."
    )
    num_replicas: PositiveInt = 1
    num_cpus: NonNegativeFloat = 1
    num_gpus: NonNegativeFloat = Field(default=0, description="0: runs on CPUs; fractions share a GPU.")
    node_labels: dict[str, str] = Field(default={}, description=PLACES)
    tensor_parallel_size: PositiveInt = Field(default=1, description="GPUs one replica spans.")
    threads: PositiveInt = Field(default=1, description="CPU threads one replica computes with.")
    max_num_seqs: PositiveInt = Field(
        default=256, description="Responses one engine generates at the same time."
    )
    max_num_batched_tokens: PositiveInt = Field(default=8192, description="Tokens of one engine step.")
    kv_cache_memory_gib: PositiveFloat = Field(default=1.0, description="KV cache of a replica on CPUs.")
    gpu_memory_utilization: Share = Field(
        default=0.5, description="Share of a GPU's memory for a replica on GPUs."
    )
    timeout_s: PositiveFloat = Field(default=1800.0, description="Longest wait for one group of responses.")


class LearnerConfig(Section):
    """The optimizer and the worker group it runs on."""

    workers: PositiveInt = Field(default=1, description="FSDP2 ranks.")
    lr: PositiveFloat = Field(default=1e-6, description="Peak learning rate; a stage may have its own.")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant",
        description="After the warm-up; linear and cosine fall to 0 at the end of each stage.",
    )
    warmup_steps: NonNegativeInt = Field(
        default=0, description="Steps of linear warm-up at the start of each stage."
    )
    weight_decay: NonNegativeFloat = 0.0
    betas: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]],
        Field(strict=False, description="AdamW's two."),
    ] = (0.9, 0.999)
    grad_clip: PositiveFloat | None = Field(
        default=1.0, description="Largest norm of the gradient; null for none."
    )
    tokens_per_micro_batch: PositiveInt = Field(
        default=16384, description="Tokens of one forward and backward pass."
    )
    updates_per_batch: PositiveInt = Field(
        default=1,
        description="Mini-batches of whole groups a step's batch is split into, one optimizer step each. "
        "Above 1 the old policy's log-probs are computed before the first.",
    )
    checkpoint_every: NonNegativeInt = Field(
        default=10, description="Steps between checkpoints; 0: only at the end."
    )
    num_cpus: NonNegativeFloat = 1
    num_gpus: NonNegativeFloat = Field(
        default=0, description="0: gloo on CPUs; 1: NCCL; a single worker may share."
    )
    node_labels: dict[str, str] = Field(default={}, description=PLACES)
    threads: PositiveInt = Field(default=1, description="CPU threads one worker computes with.")
    timeout_s: PositiveFloat = Field(
        default=1800.0, description="Longest wait for a batch or for the other ranks."
    )


class WeightsConfig(Section):
    """How a new policy version reaches the rollout engines."""

    transfer: Literal["object_store", "nccl", "sharded_rdt"] = Field(
        default="object_store",
        description="object_store works everywhere; nccl and sharded_rdt need GPUs on both sides.",
    )
    timeout_s: PositiveFloat = Field(
        default=300.0, description="Longest wait until every replica has the version."
    )


class EvaluationConfig(Section):
    """Accuracy on held-out puzzles, before the first and after the last step."""

    every: NonNegativeInt = Field(
        default=0, description="Also after every so many steps; 0: only before and after."
    )
    samples: PositiveInt = Field(default=1, description="Responses for each puzzle (k of Mean@k and Pass@k).")
    temperature: NonNegativeFloat = Field(default=0.6, description="0 is greedy.")
    top_p: Share = 0.95
    max_response_length: PositiveInt | None = Field(default=None, description="null: as in rollout.")


class TelemetryConfig(Section):
    """What a run tells while it runs."""

    metrics_port: Annotated[int, Field(ge=1024, le=65535)] | None = Field(
        default=None,
        description="Port of an embedded Ray's Prometheus metrics, for this machine only; null: a free one.",
    )
    linger_s: NonNegativeFloat = Field(
        default=0.0,
        description="Seconds that a learner that is done stays, so that Prometheus gets its last numbers: "
        "Ray hands them on every 10 s, and Prometheus asks at its own interval.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    sample_experience_every: NonNegativeInt = Field(
        default=10, description="Steps between saved samples; 0: never."
    )
    sample_experience_rows: PositiveInt = 64


class OutputConfig(Section):
    """Where a run writes: ``dir/NAME/``."""

    dir: str = "runs"
    keep_checkpoints: PositiveInt = 2


class ClusterConfig(Section):
    """The Ray cluster: an embedded one on this machine, or one that is already there."""

    address: str | None = Field(
        default=None,
        description="'auto', 'host:port' or 'ray://...'; null: what RAY_ADDRESS names, else embedded.",
    )
    num_cpus: PositiveInt | None = Field(
        default=None, description="Logical CPUs of an embedded cluster; null: as many as the run asks for."
    )
    num_gpus: NonNegativeInt | None = Field(
        default=None, description="GPUs of an embedded cluster; null: all there are."
    )
    object_store_gib: PositiveFloat = Field(default=1.0, description="Shared memory of an embedded cluster.")
    start_timeout_s: PositiveFloat = Field(
        default=600.0, description="Longest wait until all services are ready."
    )
