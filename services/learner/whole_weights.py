"""The policy's weights, each whole for a moment: what is exported, published and pushed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlad_core.language_model.image import TensorSpec


class WholeWeights:
    """Every parameter under its Hugging Face name, gathered one after the other in the precision wanted.

    Shards are narrowed before they cross the network. Iterating is a collective call: every rank goes through
    all of them, and whoever does not keep one has it no longer.

    Args:
        model: its parameters are FSDP2 shards, or whole.
        dtype: of what comes out.
        device: over which shards are gathered.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
        self._model = model
        self._dtype = dtype
        self._device = device

    def specs(self) -> list[TensorSpec]:
        """What will come, in its order; nothing is gathered."""
        return [
            TensorSpec(name, self._dtype, tuple(parameter.shape))
            for name, parameter in self._model.named_parameters()
        ]

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._model.named_parameters():
            yield name, self._whole(parameter)

    def _whole(self, parameter: Tensor) -> Tensor:
        if not isinstance(parameter, DTensor):
            return parameter.detach().to(self._device, self._dtype)
        local = parameter.to_local().to(self._device, self._dtype)
        narrowed = DTensor.from_local(
            local,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
        return narrowed.full_tensor()
