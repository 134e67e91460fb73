"""What an update has to compute, and what a machine computes in a second."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from benchmarks.models import SHAPES
from rlad_core import schema
from rlad_core.batching import together
from rlad_core.sizing import Shape


@dataclass(frozen=True)
class Work:
    """Of one update.

    Attributes:
        tokens: of prompts and responses, each prompt as often as it has responses.
        counted: floating-point operations for these tokens.
        computed: the same where the responses of a group that are packed together share their prompt.
    """

    tokens: int
    counted: float
    computed: float


def work_of(shape: str, table: pa.Table, token_budget: int) -> Work:
    """Operations of an update: 6 for each token and weight of the layers, 6 for each response token and
    weight of the head, and 12 x layers x width of all heads for each pair of a token and one before it.

    Args:
        table: experience.
        token_budget: of a micro-batch. A group that has more is packed in parts, each with its prompt.
    """
    of = SHAPES[shape]
    prompts = schema.lengths(table.column("prompt_token_ids"))
    responses = schema.lengths(table.column("response_token_ids"))
    groups = np.unique(table.column("prompt_id").to_numpy(zero_copy_only=False), return_inverse=True)[1]
    units = together(groups, prompts, responses, token_budget)
    return Work(
        tokens=int((prompts + responses).sum()),
        counted=_operations(of, zip(prompts, responses[:, None], strict=True)),
        computed=_operations(of, ((prompts[unit[0]], responses[unit]) for unit in units)),
    )


def _operations(of: Shape, streams: Iterable[tuple[float, np.ndarray]]) -> float:
    """Of streams of a prompt and the responses behind it."""
    tokens = scored = pairs = 0.0
    for prompt, responses in streams:
        own = float(responses.sum())
        scored += own
        tokens += prompt + own
        pairs += prompt**2 / 2 + prompt * own + float((responses.astype(float) ** 2).sum()) / 2
    products = of.layers * of.layer_parameters * tokens + of.embedding_parameters * scored
    return 6 * products + 12 * of.layers * of.heads * of.head * pairs


def product_rate(shape: str, device: torch.device) -> float:
    """Floating-point operations a second of float32 products of the model's shape; the best of twelve."""
    of = SHAPES[shape]
    left = torch.randn(8192, of.width, device=device)
    right = torch.randn(of.width, of.mlp, device=device)
    # Written to where the last one was: fresh memory and what reads the result are no part of a product.
    product = torch.empty(8192, of.mlp, device=device)
    best = math.inf
    for _ in range(12):
        wait_for(device)
        clock = time.perf_counter()
        torch.mm(left, right, out=product)
        wait_for(device)
        best = min(best, time.perf_counter() - clock)
    return 2 * 8192 * of.width * of.mlp / best


def wait_for(device: torch.device) -> None:
    """Until it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
