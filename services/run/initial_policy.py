"""A policy with random weights, for recipes that train from nothing (``policy.init: random``)."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from rlad_core.config import resolve_model
from rlad_core.tasks import write_untrained
from services.base.tokenizer import load_tokenizer


def write_initial_policy(reference: str, seed: int, folder: Path) -> Path:
    """Write a Hugging Face folder with random weights; the same ones for the same seed.

    Args:
        reference: ``tiny:SIZE``, or a model whose config.json and tokenizer are taken.
        folder: written anew.

    Returns:
        The folder.
    """
    if reference.startswith("tiny:"):
        source = write_untrained(reference.removeprefix("tiny:"), folder)
    else:
        source = Path(resolve_model(reference))
        load_tokenizer(str(source)).save_pretrained(folder)
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source), dtype=torch.float32)
    model.save_pretrained(folder)
    return folder
