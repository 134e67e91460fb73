"""What the rollout and weight tests share: prompts, and what transformers says about a response."""

import numpy as np
import pyarrow as pa
import torch
from transformers import Qwen3ForCausalLM

TOLERANCE = 1e-4
"""Absolute, on float32 log-probs."""


def prompts(count: int, *, prefix: str = "p", length: int = 12, seed: int = 0) -> pa.Table:
    """``count`` random prompts of the tiny models' vocabulary, the special tokens left out."""
    generator = np.random.default_rng(seed)
    ids = [f"{prefix}{index}" for index in range(count)]
    tokens = [generator.integers(3, 320, size=length, dtype=np.int32) for _ in ids]
    return pa.table(
        {
            "group_id": pa.array([f"{name}#0" for name in ids]),
            "prompt_id": pa.array(ids),
            "prompt_token_ids": pa.array(tokens, type=pa.list_(pa.int32())),
        }
    )


@torch.no_grad()
def reference_logprobs(model: Qwen3ForCausalLM, prompt: list[int], response: list[int]) -> np.ndarray:
    """float32 [len(response)], by a plain transformers forward."""
    ids = torch.tensor([prompt + response])
    logprobs = torch.log_softmax(model(ids).logits[0].float(), dim=-1)
    chosen = logprobs[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None])
    return chosen[:, 0].numpy()


def largest_difference(model: Qwen3ForCausalLM, rollouts: pa.Table) -> float:
    """Between the table's log-probs and the model's, over all tokens."""
    return max(
        float(
            np.abs(
                reference_logprobs(model, row["prompt_token_ids"], row["response_token_ids"])
                - np.asarray(row["rollout_logprobs"], dtype=np.float32)
            ).max()
        )
        for row in rollouts.to_pylist()
    )
