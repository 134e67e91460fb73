"""Adapters of low rank (LoRA) in a policy: put in, begun, merged, written as a folder that peft loads."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlad_core.config.lora import LoraConfig
from rlad_core.language_model.image import ImageLayout, TensorSpec, tensor_bytes
from services.learner.weight_files import Weights

_NAME = "default"
A, B = f".lora_A.{_NAME}.weight", f".lora_B.{_NAME}.weight"
_BASE = ".base_layer."


def add_adapters(model: PreTrainedModel, lora: LoraConfig) -> None:
    """Give the model's linear layers adapters, which alone are trained from now on.

    Args:
        model: its parameters may be on the device ``meta``; the adapters' are there too.

    Raises:
        ModuleNotFoundError: peft is not there; says what to install.
        ValueError: no linear layer is called as one of the modules is; names those that there are.
    """
    try:
        import peft
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "learner.lora is peft's, which is not installed: pip install peft, or write lora: null"
        ) from error
    _check_names(model, lora.modules)
    peft.inject_adapter_in_model(_settings(lora), model, adapter_name=_NAME, low_cpu_mem_usage=True)


def _check_names(model: PreTrainedModel, modules: Sequence[str]) -> None:
    """peft leaves out what it does not find, as long as it finds one of them."""
    head = model.get_output_embeddings()
    linear = [
        name for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head
    ]
    if lacking := [each for each in modules if not any(f".{name}".endswith(f".{each}") for name in linear)]:
        there = dict.fromkeys(name.rpartition(".")[2] for name in linear)
        raise ValueError(
            f"learner.lora.modules: no linear layer of the policy ({model.config.model_type}) is called "
            f"{' or '.join(map(repr, lacking))}. Write some of {', '.join(there)}"
        )


def _settings(lora: LoraConfig) -> Any:
    import peft

    return peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.modules), task_type="CAUSAL_LM"
    )


def name_in_model(name: str) -> str | None:
    """What the model without adapters calls a parameter; None: it is an adapter's."""
    return None if A in name or B in name else name.replace(_BASE, ".")


def name_in_file(name: str) -> str:
    """What peft calls an adapter's parameter in a file."""
    return f"base_model.model.{name.replace(f'.{_NAME}.', '.')}"


class BegunAdapters:
    """Weights of a model without adapters, and adapters that change nothing yet: A uniform as peft's, B zero.

    Args:
        weights: of the model.
        shapes: of the adapters' parameters, by name.
        seed: of the run; each parameter has a stream of its own.
    """

    def __init__(self, weights: Weights, shapes: dict[str, torch.Size], seed: int) -> None:
        self._weights = weights
        self._shapes = shapes
        self._seed = seed

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """See `Weights`."""
        stored = name_in_model(name)
        if stored is not None:
            return self._weights.rows(stored, first, last)
        shape = self._shapes[name]
        if B in name:
            return torch.zeros(last - first, *shape[1:])
        digest = hashlib.sha256(f"{self._seed}:{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        bound = 1 / math.sqrt(shape[1])
        return torch.empty(shape).uniform_(-bound, bound, generator=generator)[first:last]


def write_adapter(tensors: dict[str, Tensor], lora: LoraConfig, source: str, folder: Path) -> None:
    """Write the adapters as peft does.

    Args:
        tensors: each whole, by its name in the model.
        source: the folder or hub id that they belong to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = _settings(lora)
    settings.base_model_name_or_path = source
    settings.save_pretrained(folder)
    named = {name_in_file(name): each for name, each in tensors.items()}
    specs = [TensorSpec(name, each.dtype, tuple(each.shape)) for name, each in named.items()]
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(ImageLayout(specs).header)
        for tensor in named.values():
            file.write(tensor_bytes(tensor.cpu()))
