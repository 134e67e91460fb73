"""The policy as the learner trains it: each rank reads its own shards, and no rank ever holds the whole."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.language_model.architecture import refusals
from rlad_core.language_model.loading import load_causal_lm
from rlad_core.language_model.plain_forward import compare_with_plain, probe_pairs
from rlad_core.language_model.vocabulary import token_rows
from rlad_core.packing import pack
from services.base.tokenizer import load_tokenizer
from services.learner.adapters import BegunAdapters, name_in_model
from services.learner.sharding import shards
from services.learner.weight_files import WeightFiles, Weights, WholeModel

_ADVICE = "take another policy"


def empty_policy(folder: str, device: torch.device, max_length: int) -> ResponseLogprobs:
    """The model without weights: its parameters are on the device ``meta``, what it computes itself is not.

    Args:
        folder: in Hugging Face layout, or a hub id.
        device: where it is computed.
        max_length: tokens of the longest sequence.

    Raises:
        ValueError: its architecture is refused.
    """
    config = AutoConfig.from_pretrained(folder)
    if reasons := refusals(config.to_dict(), max_length):
        raise ValueError(f"{folder} {'; it '.join(reasons)}; {_ADVICE}")
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=PACKED_ATTENTION
        )
    model.tie_weights()
    _fill_buffers(model, device)
    rows = int(model.get_output_embeddings().weight.shape[0])
    return ResponseLogprobs(model, tokens=token_rows(load_tokenizer(folder).get_vocab(), rows))


def _fill_buffers(model: PreTrainedModel, device: torch.device) -> None:
    """What is no parameter and in no file, such as the frequencies of positions."""
    for module in model.modules():
        if not module._buffers:
            continue
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.zeros_like(buffer, device=device)
        model._init_weights(module)


def load_weights(
    module: ResponseLogprobs, folder: str, device: torch.device, max_length: int, seed: int = 0
) -> int:
    """Fill the shards of a sharded module with those of the folder, in float32.

    Args:
        module: of `empty_policy`, after `services.learner.sharding.shard`.
        folder: see `empty_policy`.
        device: where shards lie.
        max_length: see `empty_policy`.
        seed: of adapters.

    Returns:
        Bytes of weights that this rank read.

    Raises:
        ValueError: the weights are not whole, or no safetensors.
    """
    files = WeightFiles(folder, module.model.base_model_prefix)
    weights: Weights = files
    named = dict(module.model.named_parameters())
    if files.missing(stored for name in named if (stored := name_in_model(name)) is not None):
        # Either they are not there, which is refused here, or they have other names there.
        weights = WholeModel(
            load_causal_lm(
                folder, dtype=torch.float32, attention=PACKED_ATTENTION, max_length=max_length, advice=_ADVICE
            )
        )
    adapters = {name: each.shape for name, each in named.items() if name_in_model(name) is None}
    if adapters:
        weights = BegunAdapters(weights, adapters, seed)
    filled: dict[int, nn.Parameter] = {}
    for name, parameter, first, last in shards(module.model):
        rows = weights.rows(name, first, last).to(device, torch.float32)
        whole = DTensor.from_local(
            rows,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
        filled[id(parameter)] = nn.Parameter(whole, requires_grad=parameter.requires_grad)
    state = {
        name: filled[id(parameter)] for name, parameter in module.named_parameters(remove_duplicate=False)
    }
    module.load_state_dict(state, strict=False, assign=True)
    return files.bytes_read


def make_ready(module: ResponseLogprobs, dtype: torch.dtype, device: torch.device) -> ResponseLogprobs:
    """Compare the module with the model's own forward pass, and make it one to train.

    Args:
        module: with its weights.
        dtype: of the passes.
        device: where they are computed.

    Raises:
        PlainForwardError: packed sequences would give other log-probs than the model's own forward pass.
    """
    assert isinstance(module, FSDPModule)
    pairs = probe_pairs(module.head.tokens)
    module.eval()
    with torch.no_grad():
        compare_with_plain(
            lambda: module(pack(pairs, share_prompts=device.type == "cpu").to(device))[0],
            lambda: module.plain(pairs),
            dtype,
            module.model,
            _ADVICE,
        )
    # Without a backward pass the outermost weights would stay gathered, and be taken for the parameters.
    module.reshard()
    # Recomputing activations asks for training mode, and dropout would make another policy of every pass.
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return module.train()
