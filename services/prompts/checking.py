"""The check on this machine, and where its findings go."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from rlad_core.config import EvaluationRecipe, RunConfig, is_elsewhere, resolve_model
from rlad_core.prompt_checks import Checked, Dropped, PromptsRefusedError, Use, check, write_dropped
from rlad_core.tasks import Prompt, write_untrained
from services.base.tokenizer import load_tokenizer
from services.prompts.shown import Shown, left_out, summary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def files_elsewhere(config: EvaluationRecipe) -> list[str]:
    """The policy and data files that this machine lacks and the cluster that is joined may have."""
    sections = config.task_sections.values()
    files = [str(problem.value) for section in sections for problem in section.missing_files()]
    return [config.policy.model, *files] if is_elsewhere(config, config.policy.model) else files


@contextmanager
def policy_folder(config: EvaluationRecipe) -> Iterator[str]:
    """The folder or hub id with the policy's tokenizer; that of a tiny model is made for the block."""
    model = config.policy.model
    if not model.startswith("tiny:"):
        yield resolve_model(model)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(write_untrained(model.removeprefix("tiny:"), Path(folder)))


def check_here(
    config: EvaluationRecipe,
    model_folder: str,
    console: Console,
    earlier: Checked | None = None,
    held_out: Sequence[Prompt] | None = None,
    use: Use = "evaluation",
) -> Checked:
    """Check all prompts of a recipe, with a progress bar.

    Args:
        model_folder: where the policy's tokenizer is.
        earlier, held_out, use: see `rlad_core.prompt_checks.check`.

    Raises:
        PromptsRefusedError: see `check`; or there is no tokenizer.
    """
    with Shown(console) as shown:
        shown("loading the tokenizer", 0, 1)
        return check(config, tokenizer_of(model_folder), shown, earlier, held_out, use)


def tokenizer_of(model_folder: str) -> PreTrainedTokenizerBase:
    """The policy's.

    Raises:
        PromptsRefusedError: there is none; says where it was looked for.
    """
    if Path(model_folder).is_absolute() and not Path(model_folder).is_dir():
        raise PromptsRefusedError(f"there is no folder {model_folder} on {socket.gethostname()}")
    try:
        return load_tokenizer(model_folder)
    except (OSError, ValueError, ImportError) as error:
        raise PromptsRefusedError(f"the tokenizer of {model_folder} cannot be loaded: {error}") from error


def tell(checked: Checked, say: Callable[[str], None], file: Path | None) -> None:
    """Say what is used and what is not.

    Args:
        file: where all that is not used is written; None: nowhere.
    """
    say(summary(checked))
    for line in left_out(checked.dropped, file):
        say(line)


def refused(error: PromptsRefusedError, config: EvaluationRecipe) -> str:
    """A refusal in words, with the first reasons; all of them go to a file beside the run's folder."""
    return "\n".join([str(error), *left_out(error.dropped, write_beside(error.dropped, config))])


def write_beside(dropped: Sequence[Dropped], config: EvaluationRecipe) -> Path | None:
    """Write what is not used where no run's folder is; None: there is nothing, or no place for it."""
    if not dropped:
        return None
    folder = Path(config.output.dir if isinstance(config, RunConfig) else ".")
    file = folder / f"dropped-{config.name}.jsonl"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        write_dropped(dropped, file)
        return file
    return None
