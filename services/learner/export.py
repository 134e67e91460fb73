"""The trained policy as a folder that transformers and vLLM load: its source's, with the trained weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor
from transformers import AutoConfig, GenerationConfig

from services.base.tokenizer import load_tokenizer

# Tokenizers in all their forms, end tokens, sampling defaults, chat templates, code of the model. Not its
# card, which speaks of other weights.
_KEPT = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")


def export(state: Mapping[str, Tensor], source: str, folder: Path, fallback: torch.dtype) -> None:
    """Write the folder.

    Args:
        state: every parameter by its Hugging Face name, on the CPU.
        source: the folder or hub id that the policy started from.
        folder: made if it is missing.
        fallback: dtype of the weights where the source names none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = AutoConfig.from_pretrained(source)
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else fallback
    if Path(source).is_dir():
        for file in sorted(Path(source).iterdir()):
            if file.is_file() and file.suffix in _KEPT and not file.name.endswith(".index.json"):
                shutil.copyfile(file, folder / file.name)
    else:
        config.save_pretrained(folder)
        load_tokenizer(source).save_pretrained(folder)
        with suppress(OSError):  # it may have none
            GenerationConfig.from_pretrained(source).save_pretrained(folder)
    if not (folder / "generation_config.json").exists():
        tokenizer = load_tokenizer(source)
        ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        GenerationConfig(**ends).save_pretrained(folder)
    weights = {name: tensor.to(dtype).contiguous() for name, tensor in state.items()}
    save_torch_state_dict(weights, folder, metadata={"format": "pt"})
