"""The policy cut into FSDP2's shards: which parts are gathered together, in what precision, kept where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from rlad_core.config import LearnerConfig
from rlad_core.forward import ResponseLogprobs, decoder_layers
from rlad_core.large import LARGE_FROM_PARAMETERS


def learner_mesh(device_type: str, ranks: int, fsdp_size: int | None) -> DeviceMesh:
    """The ranks: in a row, or (copies, ranks of a copy) with hybrid sharding."""
    size = fsdp_size or ranks
    if size == ranks:
        return init_device_mesh(device_type, (ranks,))
    return init_device_mesh(device_type, (ranks // size, size), mesh_dim_names=("copies", "shards"))


def shard(module: ResponseLogprobs, learner: LearnerConfig, dtype: torch.dtype, mesh: DeviceMesh) -> None:
    """Cut a module into shards, layer by layer; its weights may still be on the device ``meta``.

    The head, tied or not, is gathered in float32 and narrowed where it is multiplied, so that its gradient is
    not rounded to the passes' precision with each micro-batch. An untied embedding and head are gathered
    on their own, each while it is used.

    Args:
        dtype: of the passes. Weights and optimizer stay float32.
        mesh: see `learner_mesh`.
    """
    model = module.model
    reduce = getattr(torch, learner.reduce_dtype)
    settings: dict[str, Any] = {"mesh": mesh, "offload_policy": _offload(learner, mesh.device_type)}
    passes = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=reduce)
    whole = MixedPrecisionPolicy(param_dtype=torch.float32, reduce_dtype=reduce)
    layers = decoder_layers(model)
    for layer in layers:
        fully_shard(layer, mp_policy=passes, **settings)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = embedding.weight is head.weight
    root = passes
    if not tied:
        fully_shard(embedding, mp_policy=passes, **settings)
        # What it is multiplied with stays as it is: cast to the weight's precision, it would have the product
        # in float32.
        fully_shard(head, mp_policy=replace(whole, cast_forward_inputs=False), **settings)
        module.head.inside = _method_inside(head)
    elif dtype != torch.float32:
        # Embedding and head are one and stay in the outermost group; what else is there goes into its own.
        root = whole
        embedding.register_forward_hook(lambda *call: call[2].to(dtype))
        inside = {id(part) for layer in (embedding, *layers) for part in layer.modules()}
        for part in model.base_model.children():
            if next(part.parameters(), None) is not None and not inside & {id(m) for m in part.modules()}:
                fully_shard(part, mp_policy=passes, **settings)
    if dtype != torch.float32:
        head.register_forward_pre_hook(lambda _, given: (given[0].to(torch.float32), *given[1:]))
    fully_shard(module, mp_policy=root, **settings)
    register_fsdp_forward_method(module, "plain")


def _offload(learner: LearnerConfig, device_type: str) -> OffloadPolicy:
    if not learner.cpu_offload:
        return OffloadPolicy()
    check_backends(device_type, dist.get_backend_config())
    return CPUOffloadPolicy(pin_memory=device_type == "cuda")


def check_backends(device_type: str, backends: str) -> None:
    """Whether what lies in host memory can be summed up over the ranks, as the gradients' norm is.

    Args:
        device_type: of the passes.
        backends: of the process group, as torch tells them: ``cpu:gloo,cuda:nccl``.

    Raises:
        ValueError: it cannot; found here, and not by the first step.
    """
    known = dict(each.split(":") for each in backends.split(","))
    if device_type != "cpu" and "cpu" not in known:
        raise ValueError(
            f"learner.cpu_offload keeps gradients in host memory, where the process group ({backends}) sums "
            "up nothing. Start it with the backends cpu:gloo,cuda:nccl"
        )


def _method_inside(head: nn.Module) -> Any:
    """A call that finds the head's weight whole, with gradient: FSDP2's hooks around a method of it."""

    def inside(hidden: Tensor, compute: Any) -> Any:
        return compute(hidden)

    head.inside = inside  # type: ignore[assignment]
    register_fsdp_forward_method(head, "inside")
    return head.inside


def keeps_gradients_local(module: nn.Module, learner: LearnerConfig) -> bool:
    """Whether gradients stay whole on each rank between micro-batches (``learner.gradients``)."""
    if learner.gradients != "auto":
        return learner.gradients == "local"
    return sum(parameter.numel() for parameter in module.parameters()) < LARGE_FROM_PARAMETERS


def synchronise(module: FSDPModule, *, last: bool, local: bool, copies: bool) -> None:
    """Say before a backward pass what its gradients do.

    Args:
        last: it is that of the last micro-batch.
        local: gradients add up on each rank and cross the network once, with the last.
        copies: with hybrid sharding the sum over copies can wait for the last too.
    """
    if local:
        module.set_requires_gradient_sync(last)
    elif copies:
        module.set_requires_all_reduce(last)


def shards(module: nn.Module) -> Iterator[tuple[str, DTensor, int, int]]:
    """Every parameter once, with its name, the first of this rank's rows and the one after the last."""
    for name, parameter in module.named_parameters():
        assert isinstance(parameter, DTensor)
        shape, offset = compute_local_shape_and_global_offset(
            parameter.shape, parameter.device_mesh, parameter.placements
        )
        rows = shape[0] if shape else 1
        # A rank past the end has no rows, wherever its offset lies.
        first = offset[0] if rows and offset else 0
        yield name, parameter, first, first + rows
