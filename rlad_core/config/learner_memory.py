"""Settings of the learner that say where weights, gradients and the optimizer's states lie, and how large.

None of them changes what a step computes by more than rounding, but for the optimizer's kind and the
precision in which gradients are summed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from rlad_core.config.engines import Dtype
from rlad_core.config.lora import LoraConfig
from rlad_core.sections.base import Section
from rlad_core.sections.resume import Fixed, Free


class LearnerMemory(Section):
    """What `LearnerConfig` has of it."""

    activation_checkpointing: Free[Literal["auto", "full", "selective", "off"]] = Field(
        default="auto",
        description="Layers compute their activations again in the backward pass. full: all but each layer's "
        "input; selective: not products of matrices and attention; auto: full from 100M parameters on.",
    )
    gradients: Free[Literal["auto", "scattered", "local"]] = Field(
        default="auto",
        description="Between micro-batches. scattered: each rank keeps its part, and every micro-batch "
        "crosses the network; local: all of them in float32 on every rank until the last, which is faster; "
        "auto: scattered from 100M parameters on.",
    )
    fsdp_size: Free[PositiveInt | None] = Field(
        default=None,
        description="Ranks that share one copy of weights and optimizer (hybrid sharding); null: all.",
    )
    reduce_dtype: Fixed[Dtype] = Field(
        default="float32", description="In which gradients of several ranks are added up."
    )
    cpu_offload: Free[bool] = Field(
        default=False,
        description="Weights, gradients and optimizer lie in host memory, and weights are on the GPU only "
        "while they are used; slower.",
    )
    optimizer: Fixed[Literal["adamw", "adamw_8bit"]] = Field(
        default="adamw",
        description="adamw_8bit: both moments in 8 bits, by torchao (the extra 'memory').",
    )
    lora: Fixed[LoraConfig | None] = Field(
        default=None, description="Train adapters of low rank in place of the weights; null: all weights."
    )
    logprobs: Free[Literal["chunked", "fused"]] = Field(
        default="chunked",
        description="chunked: from a chunk of logits at a time; fused: by cut-cross-entropy, on a GPU and "
        "without any logits (the extra 'fused'), where no entropy is measured.",
    )
    entropy_every: Fixed[NonNegativeInt] = Field(
        default=1,
        description="Steps between those whose entropy is measured, which takes a third of the time of "
        "log-probs; 0: never. An objective that needs it has it in every step.",
    )
