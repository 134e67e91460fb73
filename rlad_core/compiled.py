"""Layers compiled with torch.compile, which fuses what lies between products of matrices.

On an NVIDIA H200 an update of a model of Qwen3-0.6B's shape takes 0.6 of its time so (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import lookup_backend
from torch._dynamo.exc import TorchDynamoException
from torch._functorch import config as aot_config

Backend = Callable[..., Any]
_NO_BACKWARD_PASS = -1


class _BackwardError(Exception):
    """The way back could not be compiled."""


def compile_layers(
    layers: Iterable[nn.Module],
    *,
    tell: Callable[[str], None],
    backend: str | Backend = "inductor",
) -> None:
    """Compile each layer's forward pass for any number of tokens, with its first call.

    Hooks (FSDP2's among them) stay outside, and so does the recomputing of activations. Where compiling fails
    the layers run as they are, also where it is done anew, for inputs of another kind. In the middle of a
    backward pass nothing could be taken back: so each way back is compiled with its way forward, the first is
    gone once before, with the first layer's input, for what only running it shows, and a layer's activations
    are recomputed in the way in which they were computed, whatever has failed since.

    Args:
        layers: of one model.
        tell: is told, once, why compiling failed.
        backend: see ``torch.compile``.
    """
    failed = has_gone_back = False
    both_ways = _both_ways(lookup_backend(backend))

    def either(forward: Callable[..., Any]) -> Callable[..., Any]:
        compiled = torch.compile(forward, dynamic=True, backend=both_ways)
        takes_compiled = True

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal failed, has_gone_back, takes_compiled
            if torch._C._current_graph_task_id() == _NO_BACKWARD_PASS:
                takes_compiled = not failed
            if takes_compiled:
                try:
                    if torch.is_grad_enabled() and not has_gone_back:
                        # In a thread of its own, which knows of no activations that are to be kept or not.
                        with ThreadPoolExecutor(1) as aside:
                            aside.submit(_go_back, compiled, *args, **kwargs).result()
                        has_gone_back = True
                    return compiled(*args, **kwargs)
                except (TorchDynamoException, _BackwardError) as error:
                    takes_compiled = False
                    if not failed:
                        failed = True
                        # The backend's name, then what it raised.
                        reason = " ".join(str(error).strip().splitlines()[:2])
                        tell(f"the layers could not be compiled and run as they are: {reason}")
            return forward(*args, **kwargs)

        return call

    for layer in layers:
        layer.forward = either(layer.forward)


def _both_ways(backend: Backend) -> Backend:
    """The same, but the way back is compiled with the way forward, and what fails there is raised there.

    By itself AOTAutograd compiles it when it is first gone.
    """

    @wraps(backend)
    def compiling(*args: Any, **kwargs: Any) -> Any:
        with aot_config.patch(force_non_lazy_backward_lowering=True):
            return backend(*args, **kwargs)

    return compiling


def _go_back(layer: Callable[..., Any], hidden: Tensor, *args: Any, **kwargs: Any) -> None:
    """A layer's forward and backward pass, of which nothing is kept.

    Raises:
        TorchDynamoException: of the compiler, on either way.
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
