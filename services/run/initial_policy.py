"""The weights that a run's policy starts from; a recipe that trains from nothing has random ones made here.

transformers and torch are imported where they are made: other runs start without.
"""

from collections.abc import Callable
from pathlib import Path

from rlad_core.config import RunConfig, resolve_model
from rlad_core.tasks import write_untrained
from services.base.tokenizer import load_tokenizer


def starting_folder(config: RunConfig, run_dir: Path, find: Callable[[str], str]) -> str:
    """Folder or hub id that the policy starts from; random weights are written to the run's folder.

    Args:
        find: where a model is that the recipe names.
    """
    if config.policy.init == "pretrained":
        return find(config.policy.model)
    return str(write_initial_policy(config.policy.model, config.seed, run_dir / "initial"))


def write_initial_policy(reference: str, seed: int, folder: Path) -> Path:
    """Write a Hugging Face folder with random weights; the same ones for the same seed.

    Args:
        reference: ``tiny:SIZE``, or a model whose config.json and tokenizer are taken.
        folder: written anew.

    Returns:
        The folder.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

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
