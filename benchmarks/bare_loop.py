"""An update as a plain loop would have it: transformers and AdamW, whole logits, padded sequences."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, Qwen3ForCausalLM

from rlad_core.activations import recompute_activations
from rlad_core.compiled import compile_layers
from rlad_core.forward import decoder_layers
from rlad_core.large import Recompute


def bare_loop(
    folder: Path,
    table: pa.Table,
    device: torch.device,
    dtype: torch.dtype,
    *,
    tokens: int,
    recompute: Recompute,
    compiled: bool,
    entropy: bool,
) -> Callable[[], Any]:
    """One update of all sequences, which have prompts of one length.

    Args:
        folder: of the model.
        table: experience.
        dtype: of the passes; weights are float32.
        tokens: of a micro-batch, padding included.
        recompute: which activations are computed again, `compiled`: whether the layers are, both in the
            learner's way.
        entropy: measure that of each response token's distribution.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
    model.to(device).train()
    layers = decoder_layers(model)
    recompute_activations(model, recompute)
    if compiled:
        compile_layers(layers, tell=Console().print)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)
    prompts = table.column("prompt_token_ids").to_pylist()
    responses = table.column("response_token_ids").to_pylist()
    advantages = table.column("advantage").to_pylist()
    order = sorted(range(len(prompts)), key=lambda row: len(responses[row]))
    scored, before = sum(map(len, responses)), len(prompts[0])
    mixed = torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)

    def update() -> None:
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and (end - start + 1) * (before + len(responses[order[end]])) <= max(
                tokens, before + len(responses[order[start]])
            ):
                end += 1
            rows = order[start:end]
            ids, mask = _padded([prompts[r] for r in rows], [responses[r] for r in rows])
            with mixed:
                losses = _losses(model, ids.to(device), mask.to(device), before, entropy)
            weights = mask[:, before:] * torch.tensor([advantages[r] for r in rows])[:, None]
            ((losses * weights.to(device)).sum() / scored).backward()  # type: ignore[no-untyped-call]
            start = end
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def _padded(prompts: list[list[int]], responses: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and which of them are there, [N, prompt + longest response] both."""
    ids = torch.zeros(len(prompts), len(prompts[0]) + max(map(len, responses)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
        mask[row, : len(prompt) + len(response)] = 1
    return ids, mask


def _losses(model: Qwen3ForCausalLM, ids: Tensor, mask: Tensor, before: int, entropy: bool) -> Tensor:
    """Of each response token, [N, longest response]; with the entropy, which nobody gets."""
    width = ids.shape[1] - before
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=width + 1).logits
    logits = logits[:, :-1].float().flatten(0, 1)
    if entropy:
        with torch.no_grad():
            logprobs = torch.log_softmax(logits, dim=-1)
            -(logprobs.exp() * logprobs).sum(dim=-1)
    losses = functional.cross_entropy(logits, ids[:, before:].flatten(), reduction="none")
    return losses.view(len(ids), width)
