"""The policy's weights as publishing and pushing take them: known beforehand, whole one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

from rlad_core.language_model.image import TensorSpec


class GatheredWeights(Protocol):
    """Every parameter of the policy; iterating may be a collective call."""

    def specs(self) -> list[TensorSpec]:
        """What comes, in its order."""

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and tensor, as its spec says."""

    def unnarrowed(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The same, for whoever copies each tensor at once. Its precision may be higher than its spec says,
        where narrowing it here would cost another pass over memory.
        """


class StateDict:
    """A state dict that is here whole.

    A second name of the same memory (a tied head) is left out: the engine ties its own.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        seen: set[tuple[Any, ...]] = set()
        self._tensors: dict[str, torch.Tensor] = {}
        for name, tensor in tensors.items():
            memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
            if memory not in seen:
                seen.add(memory)
                self._tensors[name] = tensor

    def specs(self) -> list[TensorSpec]:
        """See `GatheredWeights`."""
        return [TensorSpec(name, each.dtype, tuple(each.shape)) for name, each in self._tensors.items()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(self._tensors.items())

    def unnarrowed(self) -> Iterator[tuple[str, torch.Tensor]]:
        """See `GatheredWeights`."""
        return iter(self)
