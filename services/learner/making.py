"""The policy as a rank trains it: model, adapters, shards and weights, and what makes passes cheaper."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.distributed.device_mesh import DeviceMesh

from rlad_core.activations import recompute_activations
from rlad_core.compiled import compile_layers
from rlad_core.config import RunConfig
from rlad_core.forward import ResponseLogprobs, decoder_layers
from rlad_core.norms import lean_norms
from services.base import telemetry
from services.learner.adapters import add_adapters
from services.learner.loading import empty_policy, load_weights, make_ready
from services.learner.sharding import shard


def make_policy(
    config: RunConfig, folder: str, device: torch.device, mesh: DeviceMesh, tell: Callable[[str], None]
) -> tuple[ResponseLogprobs, int]:
    """The sharded model with its weights, and the bytes of weights that this rank read. A collective call.

    Args:
        config: the run.
        folder: where the policy starts from, in Hugging Face layout.
        device: of this rank.
        mesh: of the ranks.
        tell: is told what whoever watches should know, also later on.

    Raises:
        ValueError: the model is refused, or its weights are not whole.
        PlainForwardError: see `make_ready`.
    """
    learner, dtype = config.learner, getattr(torch, config.policy.dtype)
    module = empty_policy(folder, device, config.learner_reads)
    if learner.logprobs == "fused":
        module.head.fuse()
    if learner.lora is not None:
        add_adapters(module.model, learner.lora)
    layers = decoder_layers(module.model)  # found by the names of their classes, which sharding changes
    recompute_activations(module.model, learner.activation_checkpointing)
    shard(module, learner, dtype, mesh)
    lying = torch.device("cpu") if learner.cpu_offload else device
    bytes_read = load_weights(module, folder, lying, config.learner_reads, config.seed)
    made = make_ready(module, dtype, device)
    if learner.compile == "on" or (learner.compile == "auto" and device.type == "cuda"):

        def say(text: str) -> None:
            telemetry.log(text, level="warning")
            tell(f"learner: {text}")

        compile_layers(layers, tell=say)
    else:  # a compiler fuses them
        lean_norms(module.model)
    return made, bytes_read
