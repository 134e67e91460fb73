"""The sections of a recipe that say how a run is carried out. A class's defaults are the vetted setting.

Units are in the names (``_s`` seconds, ``_gib`` GiB, ``length`` and ``tokens`` tokens).
"""

import os
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from rlad_core.config.engines import (
    MODEL_HELP,
    PLACES,
    Dtype,
    RolloutEngine,
    SequenceLength,
    Share,
    Transfer,
    UpdateTimeout,
)
from rlad_core.sections.base import Section
from rlad_core.sections.paths import ModelReference


class PolicyConfig(Section):
    """The student: where it starts from and how long a sequence may be."""

    model: ModelReference = Field(
        description=MODEL_HELP + ", or 'tiny:student' / 'tiny:teacher' for an untrained tiny one."
    )
    init: Literal["pretrained", "random"] = Field(
        default="pretrained",
        description="random: fresh weights from the model's config.json, its tokenizer kept.",
    )
    dtype: Dtype = Field(
        default="float32", description="Of the rollout engine and of the learner's forward pass."
    )
    max_length: SequenceLength = 4096
    max_prompt_length: PositiveInt | None = Field(
        default=None,
        description="Tokens of a prompt with its chat template; null: all but one of max_length, so that a "
        "response has one at least.",
    )
    longer_prompts: Literal["drop", "truncate_left", "refuse"] = Field(
        default="drop",
        description="drop: they are left out and named; truncate_left: their longest message loses its "
        "beginning; refuse: the run does not start.",
    )

    @property
    def prompt_limit(self) -> int:
        """Tokens that a prompt may have."""
        most = self.max_length - 1
        return most if self.max_prompt_length is None else min(self.max_prompt_length, most)


class RolloutConfig(RolloutEngine):
    """What is sampled for a step, and the engines that sample it.

    Training samples from the whole distribution at temperature 1, the one that log-probs are of; only an
    evaluation has a temperature and a top-p.
    """

    prompts_per_step: PositiveInt = 32
    group_size: PositiveInt = Field(default=8, description="Responses for each prompt.")
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
    activation_checkpointing: Literal["auto", "full", "selective", "off"] = Field(
        default="auto",
        description="Layers compute their activations again in the backward pass. full: all but each layer's "
        "input; selective: not products of matrices and attention; auto: full from 100M parameters on.",
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Layers by torch.compile; auto: on a GPU. Where it fails they run as they are.",
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

    transfer: Transfer = "object_store"
    timeout_s: UpdateTimeout = 300.0


class EvaluationConfig(Section):
    """Accuracy on held-out prompts, before the first and after the last step."""

    every: NonNegativeInt = Field(
        default=0, description="Also after every so many steps; 0: only before and after."
    )
    samples: PositiveInt = Field(default=1, description="Responses for each prompt (k of Mean@k and Pass@k).")
    temperature: NonNegativeFloat = Field(default=0.6, description="0 is greedy.")
    top_p: Share = 0.95
    max_response_length: PositiveInt | None = Field(default=None, description="null: as in rollout.")
    overlap: Literal["drop", "refuse", "keep"] = Field(
        default="drop",
        description="Problems that are held out and trained on. drop: they are not trained on; refuse: the "
        "run does not start; keep: they are both.",
    )


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

    @property
    def is_joined(self) -> bool:
        """Whether it is another's, on machines that may have files which this one lacks."""
        return (self.address or os.environ.get("RAY_ADDRESS") or "local") != "local"
