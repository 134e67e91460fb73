"""The policy's weights, each whole for a moment: what is exported, published and pushed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlad_core.language_model.image import TensorSpec
from services.learner.adapters import A, B, name_in_file, name_in_model


class WholeWeights:
    """Every parameter under its Hugging Face name, gathered one after the other in the precision wanted.

    Shards are narrowed before they cross the network. Iterating is a collective call: every rank goes through
    all of them, and whoever does not keep one has it no longer.

    Args:
        model: its parameters are FSDP2 shards, or whole.
        dtype: of what comes out.
        device: over which shards are gathered.
        adapter_scale: by which products of adapters count, where the model has any: they are merged.
    """

    def __init__(
        self, model: nn.Module, dtype: torch.dtype, device: torch.device, adapter_scale: float = 1.0
    ) -> None:
        self._model = model
        self._dtype = dtype
        self._device = device
        self._adapter_scale = adapter_scale

    def specs(self) -> list[TensorSpec]:
        """What will come, in its order; nothing is gathered."""
        return [
            TensorSpec(stored, self._dtype, tuple(parameter.shape))
            for name, parameter in self._model.named_parameters()
            if (stored := name_in_model(name)) is not None
        ]

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.unnarrowed():
            yield name, tensor.to(self._dtype)

    @torch.no_grad()
    def unnarrowed(self) -> Iterator[tuple[str, Tensor]]:
        """See `GatheredWeights`: what is not gathered over a network comes as it lies here."""
        parameters = dict(self._model.named_parameters())
        for name, parameter in parameters.items():
            if (stored := name_in_model(name)) is None:
                continue
            local = _local(parameter).to(self._device)
            if (layer := name.removesuffix(".base_layer.weight")) != name:
                # Rows of B lie where those of the layer's weight do.
                first = self._whole(parameters[layer + A], _local(parameters[layer + A]).to(self._device))
                second = _local(parameters[layer + B]).to(self._device)
                local = local + self._adapter_scale * (second @ first)
            yield stored, self._whole(parameter, local if _is_whole(parameter) else local.to(self._dtype))

    @torch.no_grad()
    def adapters(self) -> Iterator[tuple[str, Tensor]]:
        """The adapters alone, each whole, as they are trained."""
        for name, parameter in self._model.named_parameters():
            if name_in_model(name) is None:
                yield name, self._whole(parameter, _local(parameter).to(self._device))

    def _whole(self, parameter: Tensor, local: Tensor) -> Tensor:
        if _is_whole(parameter):
            return local
        assert isinstance(parameter, DTensor)
        sharded = DTensor.from_local(
            local,
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )
        return sharded.full_tensor()


class AdapterWeights:
    """The adapters of a policy alone, under peft's names, gathered one after the other.

    Args:
        model: with adapters.
        whole: gathers them.
        dtype: of what comes out.
    """

    def __init__(self, model: nn.Module, whole: WholeWeights, dtype: torch.dtype) -> None:
        self._model = model
        self._whole = whole
        self._dtype = dtype

    def specs(self) -> list[TensorSpec]:
        """What will come, in its order; nothing is gathered."""
        return [
            TensorSpec(name_in_file(name), self._dtype, tuple(parameter.shape))
            for name, parameter in self._model.named_parameters()
            if name_in_model(name) is None
        ]

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.unnarrowed():
            yield name, tensor.to(self._dtype)

    def unnarrowed(self) -> Iterator[tuple[str, Tensor]]:
        """See `GatheredWeights`."""
        for name, tensor in self._whole.adapters():
            yield name_in_file(name), tensor


def _is_whole(parameter: Tensor) -> bool:
    """Whether this rank has all of it."""
    return not isinstance(parameter, DTensor) or parameter.device_mesh.size() == 1


def _local(parameter: Tensor) -> Tensor:
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter.detach()
