"""A look at a model's folder that costs milliseconds: is it one that can be loaded, sampled from and trained.

Only names, small files and headers are read, and neither torch, transformers nor vLLM is imported. What this
look does not see (weights of another shape, a broken tokenizer) is found when the folder is loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlad_core.language_model.architecture import refusals

WEIGHTS = ("*.safetensors", "*.bin")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json", "spiece.model")
_POINTER = b"version https://git-lfs"
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
_INDEX = "model.safetensors.index.json"
_SIZES = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "vocab_size", "max_position_embeddings"),
)


def settings_of(folder: Path) -> dict[str, Any]:
    """Its config.json.

    Raises:
        ValueError: it is no JSON object; says what is wrong.
    """
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if _is_pointer(folder / "config.json"):
            raise ValueError(f"its config.json is a Git-LFS pointer. {_PULL}") from error
        raise ValueError(f"its config.json is no JSON ({error}). Write another folder") from error
    if not isinstance(settings, dict):
        raise ValueError(f"its config.json is no JSON object: {str(settings)[:40]!r}. Write another folder")
    return settings


def faults(
    folder: Path,
    settings: dict[str, Any],
    *,
    needs_weights: bool,
    trained: bool,
    max_length: int | None = None,
) -> Iterator[str]:
    """What is wrong with the folder, one sentence each.

    Args:
        settings: see `settings_of`.
        needs_weights: it is no folder whose weights are made anew.
        trained: by the learner; else it is only asked.
        max_length: of the longest sequence that is trained on.
    """
    yield from _tokenizer(folder)
    yield from _broken(folder)
    yield from _sizes(settings)
    if needs_weights:
        yield from _weights(folder)
        if trained and not any(folder.glob("*.safetensors")) and any(folder.glob("*.bin")):
            yield (
                "its weights are pickled (*.bin), which the learner does not read. Load it once with "
                "transformers' from_pretrained where you trust it, and write it with save_pretrained"
            )
    yield from _architecture(settings, trained=trained, max_length=max_length)


def _tokenizer(folder: Path) -> Iterator[str]:
    there = [folder / name for name in TOKENIZERS if (folder / name).is_file()]
    if not there:
        yield f"the folder has no tokenizer ({TOKENIZERS[0]}, ...). Copy the tokenizer's files there"
    for file in there:
        if _is_pointer(file):
            yield f"its {file.name} is a Git-LFS pointer. {_PULL}"


def _broken(folder: Path) -> Iterator[str]:
    """Small files beside the weights that are no JSON objects."""
    for name in (*_BESIDE, _INDEX):
        try:
            read = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, RecursionError) as error:
            said = (
                f"a Git-LFS pointer. {_PULL}"
                if _is_pointer(folder / name)
                else f"no JSON ({error}). {_AGAIN}"
            )
            yield f"its {name} is {said}"
            continue
        if not isinstance(read, dict):
            yield f"its {name} is no JSON object: {str(read)[:40]!r}. {_AGAIN}"
        elif name == _INDEX and not isinstance(read.get("weight_map"), dict):
            yield f"its {name} has no weight_map. {_AGAIN}"


def _sizes(settings: dict[str, Any]) -> Iterator[str]:
    for name in _SIZES:
        value = settings.get(name)
        if isinstance(value, str | bool | float) or (isinstance(value, int) and value <= 0):
            yield f"its config.json has {name}: {value!r:.40}, which is no number above 0. {_AGAIN}"


_AGAIN = "Fetch it again"
_PULL = "Fetch the files themselves: git lfs pull"


def _weights(folder: Path) -> Iterator[str]:
    files = sorted(file for pattern in WEIGHTS for file in folder.glob(pattern))
    if not files:
        yield "the folder has no weights (*.safetensors). Write a folder that has"
        return
    pointers = [file.name for file in files if _is_pointer(file)]
    if pointers:
        yield f"its {pointers[0]} is a Git-LFS pointer and no weights. {_PULL}"
    elif empty := [file.name for file in files if file.stat().st_size < 8]:
        yield f"its {empty[0]} is empty. Fetch it again"
    elif cut := [file.name for file in files if file.suffix == ".safetensors" and not _is_whole(file)]:
        yield f"its {cut[0]} is cut short, or no safetensors file. Fetch it again"
    if missing := _missing_parts(folder):
        yield f"its {missing[0]} is not there, which the index of its weights names. Fetch the whole model"


def _is_whole(file: Path) -> bool:
    """Whether a safetensors file is as long as its header says: length, JSON with offsets, values."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > size - 8:
            return False
        try:
            header = json.loads(opened.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return False
    return size == 8 + length + max(ends, default=0)


def _missing_parts(folder: Path) -> list[str]:
    """Files that the index of sharded weights names and the folder lacks."""
    try:
        names = set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return []
    return sorted(name for name in names if isinstance(name, str) and not (folder / name).is_file())


def _architecture(settings: dict[str, Any], *, trained: bool, max_length: int | None) -> Iterator[str]:
    named = settings.get("architectures")
    names = [each for each in named if isinstance(each, str)] if isinstance(named, list) else []
    if settings.get("is_encoder_decoder") is True:
        yield f"{', '.join(names) or 'its model'} is an encoder with a decoder. Write a causal language model"
        return
    if names and not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        yield f"its architecture is {', '.join(names)}. Write a causal language model (...ForCausalLM)"
    elif trained and (reasons := refusals(settings, max_length)):
        yield f"it {'; it '.join(reasons)}, and is not trained here. Write a model of another kind"
    elif names and (known := _vllm_knows()) and not any(name in known for name in names):
        yield f"its architecture is {', '.join(names)}, which the installed vLLM does not know"


@cache
def _vllm_knows() -> frozenset[str]:
    """Architectures of the installed vLLM, from the text of its registry; empty where there is none."""
    spec = find_spec("vllm")
    for place in (spec.submodule_search_locations or []) if spec else []:
        registry = Path(place, "model_executor", "models", "registry.py")
        if registry.is_file():
            return frozenset(re.findall(r'^\s+"(\w+)": ', registry.read_text(encoding="utf-8"), re.MULTILINE))
    return frozenset()


def _is_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(len(_POINTER)) == _POINTER
    except OSError:
        return False
