"""A safetensors file written tensor by tensor, so that nobody holds all of them beside it.

The format (github.com/huggingface/safetensors): eight bytes with the length of a header, the header as JSON
with each tensor's dtype, shape and place, then the tensors. All that the header says is known beforehand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

_NAMES: Final = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.float64: "F64"}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor before it is there.

    Attributes:
        name: as Hugging Face calls it.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Its size."""
        count = 1
        for each in self.shape:
            count *= each
        return count * self.dtype.itemsize


class ImageLayout:
    """Where each tensor lies in a file.

    Args:
        specs: all of the file's tensors, in the order in which they lie there.

    Attributes:
        header: the first bytes of the file.
        num_bytes: of the file.
    """

    def __init__(self, specs: Iterable[TensorSpec]) -> None:
        entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
        self.specs: dict[str, TensorSpec] = {}
        self._starts: dict[str, int] = {}
        end = 0
        for spec in specs:
            start, end = end, end + spec.num_bytes
            self._starts[spec.name] = start
            self.specs[spec.name] = spec
            entries[spec.name] = {
                "dtype": _NAMES[spec.dtype],
                "shape": list(spec.shape),
                "data_offsets": [start, end],
            }
        text = json.dumps(entries).encode()
        text += b" " * (-len(text) % 8)
        self.header = len(text).to_bytes(8, "little") + text
        self.num_bytes = len(self.header) + end

    def start(self, name: str) -> int:
        """The first byte of a tensor in the file."""
        return len(self.header) + self._starts[name]


def layouts(specs: Iterable[TensorSpec], largest: int) -> list[ImageLayout]:
    """The files that tensors are spread over, in order.

    Args:
        largest: bytes of tensors in a file; one tensor alone may have more.
    """
    files: list[list[TensorSpec]] = [[]]
    filled = 0
    for spec in specs:
        if files[-1] and filled + spec.num_bytes > largest:
            files.append([])
            filled = 0
        files[-1].append(spec)
        filled += spec.num_bytes
    return [ImageLayout(each) for each in files]


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU, without copying a contiguous one."""
    plain: Any = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
    return memoryview(plain)
