"""Layers compiled with torch.compile, which fuses what lies between products of matrices.

On an NVIDIA H200 an update of a model of Qwen3-0.6B's shape takes 0.6 of its time so (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException


class _BackwardError(Exception):
    """The way back could not be compiled."""


def compile_layers(
    layers: Iterable[nn.Module],
    *,
    tell: Callable[[str], None],
    backend: str | Callable[..., Any] = "inductor",
) -> None:
    """Compile each layer's forward pass for any number of tokens, with its first call.

    Hooks (FSDP2's among them) stay outside, and so does the recomputing of activations. Where compiling fails
    the layers run as they are. Their way back is compiled when it is first gone, in the middle of a backward
    pass, where nothing can be taken back; so it is gone once before, with the first layer's input.

    Args:
        layers: of one model.
        tell: is told, once, why compiling failed.
        backend: see ``torch.compile``.
    """
    failed = has_gone_back = False

    def either(forward: Callable[..., Any]) -> Callable[..., Any]:
        compiled = torch.compile(forward, dynamic=True, backend=backend)

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal failed, has_gone_back
            if not failed:
                try:
                    if torch.is_grad_enabled() and not has_gone_back:
                        # In a thread of its own, which knows of no activations that are to be kept or not.
                        with ThreadPoolExecutor(1) as aside:
                            aside.submit(_go_back, compiled, *args, **kwargs).result()
                        has_gone_back = True
                    return compiled(*args, **kwargs)
                except (TorchDynamoException, _BackwardError) as error:
                    failed = True
                    # The backend's name, then what it raised.
                    reason = " ".join(str(error).strip().splitlines()[:2])
                    tell(f"the layers could not be compiled and run as they are: {reason}")
            return forward(*args, **kwargs)

        return call

    for layer in layers:
        layer.forward = either(layer.forward)


def _go_back(layer: Callable[..., Any], hidden: Tensor, *args: Any, **kwargs: Any) -> None:
    """A layer's forward and backward pass, of which nothing is kept.

    Raises:
        TorchDynamoException: of the compiler on the way forward.
        _BackwardError: what failed on the way back.
    """
    given = hidden.detach().requires_grad_()
    with torch.cuda.device(hidden.device) if hidden.is_cuda else nullcontext():
        made = layer(given, *args, **kwargs)
        made = made if isinstance(made, Tensor) else made[0]
        try:
            torch.autograd.grad(made, given, torch.zeros_like(made))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise _BackwardError(f"{type(error).__name__}: {error}") from error
