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
    """The backward pass could not be compiled."""


def compile_layers(
    layers: Iterable[nn.Module],
    *,
    tell: Callable[[str], None],
    backend: str | Backend = "inductor",
) -> None:
    """Compile each layer's forward pass for any number of tokens, with its first call.

    Hooks (FSDP2's among them) stay outside, and so does the recomputing of activations. Where compiling fails
    the layers run as they are, also where it is done anew, for inputs of another kind.

    Nothing can be undone in the middle of a backward pass. So each backward pass is compiled together with
    its forward pass; the first is also run once beforehand, on the first layer's input, to catch what only
    running it shows; and a layer's activations are recomputed the way they were computed, whatever has failed
    since.

    Args:
        layers: of one model.
        tell: is told, once, why compiling failed.
        backend: see ``torch.compile``.
    """
    failed = backward_was_tried = False
    with_backward = _with_eager_backward(lookup_backend(backend))

    def either(forward: Callable[..., Any]) -> Callable[..., Any]:
        compiled = torch.compile(forward, dynamic=True, backend=with_backward)
        takes_compiled = True

        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal failed, backward_was_tried, takes_compiled
            if torch._C._current_graph_task_id() == _NO_BACKWARD_PASS:
                takes_compiled = not failed
            if takes_compiled:
                try:
                    if torch.is_grad_enabled() and not backward_was_tried:
                        # In a thread of its own, which does not know which activations are to be kept.
                        with ThreadPoolExecutor(1) as aside:
                            aside.submit(_try_backward, compiled, *args, **kwargs).result()
                        backward_was_tried = True
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


def _with_eager_backward(backend: Backend) -> Backend:
    """The same, but the backward pass is compiled with the forward pass, which raises what fails in it.

    By itself AOTAutograd compiles it when it is first run.
    """

    @wraps(backend)
    def compiling(*args: Any, **kwargs: Any) -> Any:
        with aot_config.patch(force_non_lazy_backward_lowering=True):
            return backend(*args, **kwargs)

    return compiling


def _try_backward(layer: Callable[..., Any], hidden: Tensor, *args: Any, **kwargs: Any) -> None:
    """A layer's forward and backward pass, of which nothing is kept.

    Raises:
        TorchDynamoException: of the compiler, in either pass.
        _BackwardError: what failed in the backward pass.
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
