"""The trained policy as a folder that transformers and vLLM load: its source's, with the trained weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from transformers import AutoConfig, GenerationConfig

from rlad_core.config import RunConfig
from rlad_core.language_model.end_tokens import end_tokens
from rlad_core.language_model.image import TensorSpec, layouts, tensor_bytes
from services.base.tokenizer import load_tokenizer
from services.learner.adapters import write_adapter
from services.learner.exported import note, take_back
from services.learner.whole_weights import WholeWeights

# Tokenizers in all their forms, end tokens, sampling defaults, chat templates, code of the model. Not its
# card, which speaks of other weights.
_KEPT = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")
_LARGEST_FILE = 5 * 10**9


def export_policy(
    config: RunConfig,
    source: str,
    weights_in: Callable[[torch.dtype], WholeWeights],
    folder: Path,
    ends: Sequence[int],
) -> None:
    """Write a run's policy, and adapters, where they are trained, beside it. A collective call: all ranks
    gather, and rank 0 writes.

    Args:
        config: the run.
        source: the folder that the policy started from.
        weights_in: the policy's weights in a precision.
        folder: see `export`.
        ends: tokens that ended a response in the run; none: nobody says.
    """
    if (lora := config.learner.lora) is not None:
        adapters = dict(weights_in(torch.float32).adapters())
        if dist.get_rank() == 0:
            write_adapter(adapters, lora, source, folder.parent / "adapter")
    weights = weights_in(export_dtype(source, getattr(torch, config.policy.dtype)))
    if dist.get_rank() != 0:
        for _ in weights:  # a collective call
            pass
        return
    take_back(folder)
    export(weights.specs(), weights, source, folder)
    if (template := config.policy.chat_template) is not None:
        # What it was trained to read; the template that its source came with is another.
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if ends:
        end_with(ends, folder)
    note(config, folder)


def end_with(ends: Sequence[int], folder: Path) -> None:
    """Have a model's folder name the tokens that it was trained to end with: where those of a teacher were
    among them, what its source names alone would let it write on.
    """
    if set(ends) == set(end_tokens(load_tokenizer(str(folder)), str(folder))):
        return
    file = folder / "generation_config.json"
    named = {**json.loads(file.read_text(encoding="utf-8")), "eos_token_id": sorted(ends)}
    file.write_text(json.dumps(named, indent=2) + "\n", encoding="utf-8")


def export_dtype(source: str, fallback: torch.dtype) -> torch.dtype:
    """The precision that a policy is exported in: its source's, else `fallback`."""
    found = AutoConfig.from_pretrained(source).dtype
    return found if isinstance(found, torch.dtype) else fallback


def export(
    specs: list[TensorSpec],
    tensors: Iterable[tuple[str, Tensor]],
    source: str,
    folder: Path,
    largest_file: int = _LARGEST_FILE,
) -> None:
    """Write the folder, one tensor after the other.

    Args:
        specs: of every parameter by its Hugging Face name.
        tensors: the same, in the same order.
        source: the folder or hub id that the policy started from.
        folder: made if it is missing.
        largest_file: bytes of weights in one file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_around(source, folder)
    coming = iter(tensors)
    files = layouts(specs, largest_file)
    places: dict[str, str] = {}
    for number, layout in enumerate(files, start=1):
        name = "model.safetensors" if len(files) == 1 else f"model-{number:05}-of-{len(files):05}.safetensors"
        with (folder / name).open("wb") as file:
            file.write(layout.header)
            for spec in layout.specs.values():
                arrived, tensor = next(coming)
                if arrived != spec.name:
                    raise RuntimeError(f"expected {spec.name} to be exported next, got {arrived}")
                file.write(tensor_bytes(tensor.cpu()))
                places[spec.name] = name
    if len(files) > 1:
        size = sum(spec.num_bytes for spec in specs)
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def _write_around(source: str, folder: Path) -> None:
    """All but the weights."""
    if Path(source).is_dir():
        for file in sorted(Path(source).iterdir()):
            if file.is_file() and file.suffix in _KEPT and not file.name.endswith(".index.json"):
                shutil.copyfile(file, folder / file.name)
    else:
        AutoConfig.from_pretrained(source).save_pretrained(folder)
        load_tokenizer(source).save_pretrained(folder)
        with suppress(OSError):  # it may have none
            GenerationConfig.from_pretrained(source).save_pretrained(folder)
    if not (folder / "generation_config.json").exists():
        tokenizer = load_tokenizer(source)
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        GenerationConfig(**ends).save_pretrained(folder)
