"""An older version of the policy on its learner's ranks: their teacher, where the recipe has no other.

    step s:  renewed, where it is due ---> in_place: the teacher's log-probs ---> the policy again: update
                                           passes.py, older_rows.py               trained_policy.py

Each rank keeps its part of the weights that are trained, in float32 (of a policy with adapters, theirs
alone), and changes places with the policy while it is asked: no second model is built, and none is gathered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule


class OlderPolicy:
    """Of one rank. Every rank calls all methods in the same order.

    Args:
        module: the policy, sharded; as it is now, it is the older one too.
        device: on which it computes; weights may lie in host memory.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._module, self._device = module, device
        self._trained = {name: each for name, each in module.named_parameters() if each.requires_grad}
        self.weights: dict[str, Tensor] = {
            name: each.detach().clone() for name, each in self._trained.items()
        }
        """By the names of the parameters, each a shard as theirs is; a checkpoint fills them in place."""

    @torch.no_grad()
    def renew(self) -> None:
        """Be the policy as it is now."""
        for name, parameter in self._trained.items():
            self.weights[name].copy_(parameter)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module computes as the older policy meanwhile, without gradients."""
        self._change_places()
        try:
            with torch.no_grad():
                yield
        finally:
            self._change_places()

    @torch.no_grad()
    def _change_places(self) -> None:
        for each in self._module.modules():
            if isinstance(each, FSDPModule):
                each.reshard()  # what a pass left gathered is the other's
        if self._device.type == "cuda":  # which may be about to copy weights from host memory
            torch.cuda.synchronize(self._device)
        for name, parameter in self._trained.items():
            there = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(there)
