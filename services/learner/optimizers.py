"""The optimizer of a recipe, over FSDP2's shards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from rlad_core.config import LearnerConfig


def make_optimizer(parameters: Iterable[nn.Parameter], learner: LearnerConfig) -> Optimizer:
    """AdamW with moments in float32, or in 8 bits (Dettmers et al., arXiv 2110.02861).

    Raises:
        ModuleNotFoundError: torchao is not there; says what to install.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    settings: dict[str, Any] = {
        "lr": learner.lr,
        "betas": learner.betas,
        "weight_decay": learner.weight_decay,
    }
    if learner.optimizer == "adamw":
        return torch.optim.AdamW(trained, **settings)
    try:
        from torchao.optim import AdamW8bit
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "learner.optimizer adamw_8bit is torchao's, which is not installed: pip install torchao, or "
            "write adamw"
        ) from error
    made: Optimizer = AdamW8bit(trained, **settings)
    return made


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Set it for all parameters.

    torchao keeps it in a tensor, so that a compiled step need not be compiled again.
    """
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


def forget_steps(optimizer: Optimizer) -> None:
    """Have an optimizer that has only got its state, and made no step, say so.

    torch makes the state that a checkpoint needs by a step with gradients and a rate of 0, and the correction
    of AdamW's moments goes by the number of steps.
    """
    for state in optimizer.state.values():
        if "step" in state:
            state["step"].zero_()
