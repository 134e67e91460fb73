"""The check of all prompts, and what is refused by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlad_core.config import EvaluationRecipe
from rlad_core.language_model.vocabulary import token_rows
from rlad_core.prompt_checks.findings import (
    Checked,
    Progress,
    PromptsRefusedError,
    Use,
    counted,
    nothing_left,
    silent,
)
from rlad_core.prompt_checks.look import Look
from rlad_core.tasks import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check(
    config: EvaluationRecipe,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress = silent,
    earlier: Checked | None = None,
    held_out: Sequence[Prompt] | None = None,
    use: Use = "evaluation",
) -> Checked:
    """Look at all prompts that a recipe trains on or holds out.

    Args:
        tokenizer: the policy's.
        earlier: of the run's first start, where it is resumed: the same prompts are used, whatever has become
            of limits and settings.
        held_out: what is evaluated, where that is not what the recipe's tasks hold out.
        use: what `held_out` is called where something is wrong with it.

    Raises:
        PromptsRefusedError: the data cannot be read, the recipe refuses what was found, nothing is left of a
            part; the policy has no chat template or not the end tokens that are named; or a resumed run's
            prompts have changed, or do not fit any more.
    """
    if not config.policy.chat.is_there(tokenizer):
        raise PromptsRefusedError(
            "the policy's tokenizer has no chat template, so nothing can be asked. Take an instruction-tuned "
            "model, or write policy.chat_template"
        )
    if ends := config.policy.stop_token_ids:
        tokens = token_rows(tokenizer.get_vocab(), max(ends) + 1)
        if unknown := [each for each in ends if each >= tokens]:
            raise PromptsRefusedError(
                f"policy.stop_token_ids: {unknown[0]} is no token of the policy, whose vocabulary has ids "
                f"0..{tokens - 1}. Write ids of its end tokens, or null"
            )
    look = Look(config, tokenizer, progress, earlier, held_out, use)
    found = look.all()
    if earlier is not None:
        _refuse_changes(earlier, found, look)
    else:
        _refuse_settings(config, found, look)
    return found


def _refuse_settings(config: EvaluationRecipe, found: Checked, look: Look) -> None:
    """Refuse what the recipe refuses, and data of which nothing is left."""
    if look.empty:
        raise nothing_left(look.empty, found.dropped)
    if found.dropped and config.strict:
        raise PromptsRefusedError(
            f"{counted(len(found.dropped))} cannot be used, and the recipe says strict: true", found.dropped
        )
    if look.too_long and config.policy.longer_prompts == "refuse":
        raise PromptsRefusedError(
            f"too long: {counted(look.too_long)}, and the recipe says policy.longer_prompts: refuse",
            found.dropped,
        )
    if look.overlapping and config.evaluation.overlap == "refuse":
        raise PromptsRefusedError(
            f"trained on and held out: {counted(look.overlapping)}, and the recipe says "
            "evaluation.overlap: refuse",
            found.dropped,
        )


def _used(checked: Checked) -> tuple[int, int, str, str]:
    return checked.training, checked.held_out, checked.digest, checked.solutions


def _refuse_changes(earlier: Checked, found: Checked, look: Look) -> None:
    """A resumed run goes on with the prompts that it began with, or not at all."""
    if _used(found) != _used(earlier):
        raise PromptsRefusedError(
            f"the data have changed since the run began, with {counted(earlier.training)} to train on and "
            f"{earlier.held_out} held out; now there are {found.training} and {found.held_out}, or others. "
            "Bring the files back as they were, or start a new run",
            found.dropped,
        )
    if look.too_long:
        raise PromptsRefusedError(
            f"too long now, and used by the run: {counted(look.too_long)}. policy.max_length or "
            "policy.max_prompt_length is lower than when it began. Write what it was, or more",
            found.dropped[-look.too_long :],
        )
