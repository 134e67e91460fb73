"""Layers compiled with torch.compile, which fuses what lies between products of matrices.

On an NVIDIA H200 an update of a model of Qwen3-0.6B's shape takes 0.6 of its time so (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException


def compile_layers(
    layers: Iterable[nn.Module],
    *,
    tell: Callable[[str], None],
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Compile each layer's forward pass for any number of tokens, with its first call.

    Hooks (FSDP2's among them) stay outside, and so does the recomputing of activations. Where compiling fails
    the layers run as they are.

    Args:
        layers: of one model.
        tell: is told, once, why compiling failed.
        backend: see ``torch.compile``.
    """
    failed = False

    def either(forward: Callable[..., Any]) -> Callable[..., Any]:
        compiled = torch.compile(forward, dynamic=True, backend=backend)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal failed
            if not failed:
                try:
                    return compiled(*args, **kwargs)
                except TorchDynamoException as error:
                    failed = True
                    # The backend's name, then what it raised.
                    reason = " ".join(str(error).strip().splitlines()[:2])
                    tell(f"the layers could not be compiled and run as they are: {reason}")
            return forward(*args, **kwargs)

        return call

    for layer in layers:
        layer.forward = either(layer.forward)
