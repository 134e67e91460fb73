"""Prompts that a model deployed here cannot be asked are left out for all, which answer the same ones."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from rlad_core.config import resolve_model
from rlad_core.prompt_checks import Dropped
from services.evaluate.plan import EvaluationPlan, LocalModel
from services.prompts import check_here


def fitted(plan: EvaluationPlan, console: Console) -> tuple[EvaluationPlan, list[Dropped]]:
    """The plan without them, and why each is left out.

    Raises:
        PromptsRefusedError: nothing is left of a subset; or a model has no tokenizer or chat template.
    """
    left_out: list[Dropped] = []
    kept = list(plan.questions.prompts)
    for model in plan.models:
        if isinstance(model, LocalModel):
            folder = resolve_model(model.recipe.policy.model)
            use = plan.questions.use
            dropped = check_here(model.recipe, folder, console, held_out=kept, use=use).dropped
            left_out += [replace(each, reason=f"{model.label}: {each.reason}") for each in dropped]
            ids = {each.prompt_id for each in dropped}
            kept = [prompt for prompt in kept if prompt.prompt_id not in ids]
    return replace(plan, questions=replace(plan.questions, prompts=kept)), left_out
