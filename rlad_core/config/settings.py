"""The sections of a recipe that say how a run is carried out. A class's defaults are the vetted setting.

Units are in the names (``_s`` seconds, ``_gib`` GiB, ``length`` and ``tokens`` tokens).
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from rlad_core.config.engines import (
    MODEL_HELP,
    Dtype,
    RolloutEngine,
    SequenceLength,
    Share,
    Transfer,
    UpdateTimeout,
)
from rlad_core.config.learner_memory import LearnerMemory
from rlad_core.config.learner_updates import LearnerUpdates
from rlad_core.config.lora import LoraConfig
from rlad_core.config.places import PLACES, NodeLabels
from rlad_core.language_model.chat import ChatFormat, template_variables
from rlad_core.sections.base import Section, Wait
from rlad_core.sections.paths import ModelReference, TemplateText
from rlad_core.sections.resume import Fixed, Free, Grows


class PolicyConfig(Section):
    """The student: where it starts from and how long a sequence may be."""

    model: Fixed[ModelReference] = Field(
        description=MODEL_HELP + ", or 'tiny:student' / 'tiny:teacher' for an untrained tiny one."
    )
    init: Fixed[Literal["pretrained", "random"]] = Field(
        default="pretrained",
        description="random: fresh weights from the model's config.json, its tokenizer kept.",
    )
    dtype: Fixed[Dtype] = Field(
        default="float32", description="Of the rollout engine and of the learner's forward pass."
    )
    max_length: Grows[SequenceLength] = 4096
    max_prompt_length: Free[PositiveInt | None] = Field(
        default=None,
        description="Tokens of a prompt with its chat template; null: all but one of max_length, so that a "
        "response has one at least.",
    )
    longer_prompts: Fixed[Literal["drop", "truncate_left", "refuse"]] = Field(
        default="drop",
        description="drop: they are left out and named; truncate_left: their longest message loses its "
        "beginning; refuse: the run does not start.",
    )

    stop_token_ids: Fixed[tuple[NonNegativeInt, ...] | None] = Field(
        default=None,
        strict=False,
        min_length=1,
        max_length=64,
        description="Tokens that end a response; null: every end token that tokenizer and generation config "
        "name, the teacher's too.",
    )
    chat_template: Fixed[TemplateText | None] = Field(
        default=None,
        description="A file with a Jinja chat template, or its text; null: the tokenizer's own.",
    )
    chat_template_kwargs: Fixed[Annotated[dict[str, Any], AfterValidator(template_variables)]] = Field(
        default={}, description="Variables of the chat template, such as {enable_thinking: false}."
    )

    @property
    def chat(self) -> ChatFormat:
        """How a chat becomes a prompt."""
        return ChatFormat(self.chat_template, self.chat_template_kwargs)

    @property
    def prompt_limit(self) -> int:
        """Tokens that a prompt may have."""
        most = self.max_length - 1
        return most if self.max_prompt_length is None else min(self.max_prompt_length, most)

    @property
    def cut_at(self) -> int | None:
        """Tokens that a longer prompt keeps; None: it stays as it is, and is left out or refused."""
        return self.prompt_limit if self.longer_prompts == "truncate_left" else None


class RolloutConfig(RolloutEngine):
    """What is sampled for a step, and the engines that sample it.

    Training samples from the whole distribution at temperature 1, the one that log-probs are of; only an
    evaluation has a temperature and a top-p.
    """

    prompts_per_step: Fixed[PositiveInt] = 32
    group_size: Fixed[PositiveInt] = Field(
        default=8, description="Responses to each prompt, of the policy or of a teacher that demonstrates."
    )
    max_response_length: Grows[PositiveInt] = 2048
    drop_uninformative: Fixed[bool] = Field(
        default=True,
        description="Drop groups whose rewards are all equal, where the objective compares rewards.",
    )
    refill_rounds: Fixed[int] = Field(
        default=0,
        ge=0,
        le=10,
        description="How often a step may sample new prompts in place of dropped groups.",
    )
    max_staleness: Fixed[NonNegativeInt] = Field(
        default=0,
        description="Policy versions that a token may lag behind where it is trained on; older ones have "
        "weight 0. 0: strictly on-policy; above, groups are sampled while the learner works.",
    )
    overtake_window: Fixed[Annotated[float, Field(ge=0, le=1)]] = Field(
        default=0.3,
        description="Groups that younger ones may overtake at a time, as a share of the slots, which are "
        "(max_staleness + 1) x prompts_per_step, rounded down, but one at least where it is above 0. At 0 "
        "one slow response stops everybody. Without effect where max_staleness is 0.",
    )
    truncated: Fixed[Literal["keep", "mask", "penalise"]] = Field(
        default="keep",
        description="Responses that were cut off. mask: none of their tokens counts in the loss; penalise: "
        "what comes near the limit loses reward, by DAPO's overlong penalty. A teacher's own that were "
        "cut off are never trained on.",
    )
    overlong_buffer: Fixed[PositiveInt | None] = Field(
        default=None,
        description="Tokens before the limit over which the penalty grows to overlong_penalty (DAPO: 4096 "
        "of 20480).",
    )
    overlong_penalty: Fixed[PositiveFloat] = Field(
        default=1.0, description="Reward that a response loses which is as long as the limit or cut off."
    )

    @property
    def masks(self) -> bool:
        """Whether no token of a response that was cut off counts in the loss."""
        return self.truncated == "mask"


class LearnerConfig(LearnerMemory, LearnerUpdates):
    """The optimizer and the worker group it runs on."""

    workers: Free[PositiveInt] = Field(default=1, description="FSDP2 ranks.")
    lr: Fixed[PositiveFloat] = Field(
        default=1e-6, description="Peak learning rate; a stage may have its own."
    )
    schedule: Fixed[Literal["constant", "linear", "cosine"]] = Field(
        default="constant",
        description="After the warm-up; linear and cosine fall to min_lr at the end of each stage.",
    )
    min_lr: Fixed[NonNegativeFloat] = Field(default=0.0, description="Where linear and cosine schedules end.")
    warmup_steps: Fixed[NonNegativeInt] = Field(
        default=0, description="Steps of linear warm-up at the start of each stage."
    )
    weight_decay: Fixed[NonNegativeFloat] = 0.0
    betas: Annotated[
        Fixed[tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]],
        Field(strict=False, description="AdamW's beta_1 and beta_2."),
    ] = (0.9, 0.999)
    grad_clip: Fixed[PositiveFloat | None] = Field(
        default=1.0, description="Largest norm of the gradient; null for none."
    )
    tokens_per_micro_batch: Free[PositiveInt] = Field(
        default=16384,
        description="Tokens of one forward and backward pass; on CPUs a shared prompt counts once.",
    )
    compile: Free[Literal["auto", "on", "off"]] = Field(
        default="auto",
        description="Layers by torch.compile; auto: on a GPU. Where it fails they run as they are, and the "
        "run says why.",
    )
    checkpoint_every: Free[NonNegativeInt] = Field(
        default=10, description="Steps between checkpoints; 0: only at the end."
    )
    num_cpus: Free[NonNegativeFloat] = 1
    num_gpus: Free[NonNegativeFloat] = Field(
        default=0, description="0: gloo on CPUs; 1: NCCL; a single worker may share."
    )
    node_labels: Free[NodeLabels] = Field(default={}, description=PLACES)
    threads: Free[PositiveInt] = Field(default=1, description="CPU threads one worker computes with.")
    timeout_s: Free[Wait] = Field(
        default=1800.0,
        description="Longest wait for a batch, an evaluation, a checkpoint, or the other ranks.",
    )
    max_failures: Free[NonNegativeInt] = Field(
        default=0,
        description="How often lost ranks, or the run's lost actors, are started again from the last "
        "checkpoint; 0: their loss ends the run.",
    )
    restart_wait_s: Free[NonNegativeFloat] = Field(
        default=5.0,
        description="Wait before that, doubled each time, 60 s at most: what a node lost may be coming back.",
    )

    @property
    def process_group(self) -> str:
        """Backends of the ranks' process group, by torch's names: gloo on CPUs, NCCL on GPUs, and both where
        gradients lie in host memory, whose norm NCCL cannot sum up.
        """
        if not self.num_gpus:
            return "gloo"
        return "cpu:gloo,cuda:nccl" if self.cpu_offload else "nccl"

    @property
    def published_adapter(self) -> LoraConfig | None:
        """What adapters are like that engines get alone; None: they get whole models."""
        return self.lora if self.lora is not None and self.lora.publish == "adapter" else None


class WeightsConfig(Section):
    """How a new policy version reaches the rollout engines."""

    transfer: Free[Transfer] = "object_store"
    timeout_s: Free[UpdateTimeout] = 300.0


class EvaluationConfig(Section):
    """Accuracy on held-out prompts, before the first and after the last step."""

    every: Free[NonNegativeInt] = Field(
        default=0, description="Also after every so many steps; 0: only before and after."
    )
    samples: Fixed[PositiveInt] = Field(
        default=1, description="Responses for each prompt (k of Mean@k and Pass@k)."
    )
    temperature: Fixed[NonNegativeFloat] = Field(default=0.6, le=2, description="0 is greedy.")
    top_p: Fixed[Share] = 0.95
    max_response_length: Grows[PositiveInt | None] = Field(default=None, description="null: as in rollout.")
    overlap: Fixed[Literal["drop", "refuse", "keep"]] = Field(
        default="drop",
        description="Problems that are held out and trained on. drop: they are not trained on; refuse: the "
        "run does not start; keep: they are both.",
    )
