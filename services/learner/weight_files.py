"""Weights of a model's folder, read row by row: a rank takes its own rows and no others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor

_INDEX = "model.safetensors.index.json"


class Weights(Protocol):
    """Where a rank's rows come from."""

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """Rows ``first`` to ``last`` (exclusive) of a parameter, on the CPU, as they are stored."""


class WeightFiles:
    """The safetensors of a folder, one file or several.

    Args:
        folder: a folder in Hugging Face layout, or a hub id, whose files are fetched.
        prefix: of the parameters' names that files saved without a head lack (``model``).

    Attributes:
        bytes_read: of weights, so far.

    Raises:
        ValueError: the folder has none.
    """

    def __init__(self, folder: str, prefix: str = "") -> None:
        here = Path(folder)
        if not here.is_dir():
            here = Path(snapshot_download(folder, allow_patterns=["*.safetensors", "*.json"]))
        self._prefix = f"{prefix}." if prefix else ""
        self._opened: dict[str, Any] = {}
        self.bytes_read = 0
        names = _files(here)
        if not names:
            raise ValueError(without_safetensors(here))
        self._file_of: dict[str, str] = {}
        for name in names:
            self._opened[name] = safe_open(here / name, framework="pt")
            self._file_of |= dict.fromkeys(self._opened[name].keys(), name)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those that no file has under this name."""
        return [name for name in names if self._stored(name) is None]

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """See `Weights`."""
        stored = self._stored(name)
        if stored is None:
            raise KeyError(name)
        whole = self._opened[self._file_of[stored]].get_slice(stored)
        taken: Tensor = whole[first:last] if whole.get_shape() else whole[...]
        self.bytes_read += taken.nbytes
        return taken

    def _stored(self, name: str) -> str | None:
        for each in (name, name.removeprefix(self._prefix)):
            if each in self._file_of:
                return each
        return None


class WholeModel:
    """A model that is here whole, for kinds whose files name their weights in another way than the model."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._parameters = dict(model.named_parameters())

    def rows(self, name: str, first: int, last: int) -> Tensor:
        """See `Weights`."""
        whole = self._parameters[name].detach()
        return whole[first:last].clone() if whole.ndim else whole.clone()


def without_safetensors(folder: Path) -> str:
    """What to do with a folder that has no safetensors."""
    if any(folder.glob("*.bin")):
        return (
            f"the weights in {folder} are pickled (*.bin), which runs code of whoever wrote them and cannot "
            "be read in part. Convert them once where you trust them: "
            f"python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('{folder}')"
            ".save_pretrained('NEW')\", and copy the tokenizer's files"
        )
    return f"the folder {folder} has no weights (*.safetensors). Write a folder that has"


def _files(folder: Path) -> list[str]:
    index = folder / _INDEX
    if index.is_file():
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    return sorted(file.name for file in folder.glob("*.safetensors"))
