"""Prompts that a model deployed here cannot read are left out, for all models: they answer the same ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rlad_core.config import resolve_model
from rlad_core.prompt_checks import Dropped
from rlad_core.prompt_stream import PromptTables
from rlad_core.tasks import Prompt
from services.base.tokenizer import load_tokenizer
from services.evaluate.plan import EvaluationPlan, LocalModel
from services.evaluate.questions import Questions


def fitted(plan: EvaluationPlan) -> tuple[EvaluationPlan, list[Dropped]]:
    """The plan without them, and why each is left out.

    Raises:
        ValueError: nothing is left; or a model has no tokenizer or chat template.
    """
    left_out: dict[str, Dropped] = {}
    for model in plan.models:
        if isinstance(model, LocalModel):
            asked = [prompt for prompt in plan.questions.distinct if prompt.prompt_id not in left_out]
            left_out |= {str(each.prompt_id): each for each in _too_long(model, asked)}
    if not left_out:
        return plan, []
    kept = [prompt for prompt in plan.questions.prompts if prompt.prompt_id not in left_out]
    if not kept:
        raise ValueError(f"no prompt fits; {next(iter(left_out.values()))}")
    return replace(plan, questions=Questions(kept, plan.questions.samples)), list(left_out.values())


def _too_long(model: LocalModel, prompts: list[Prompt]) -> Iterable[Dropped]:
    limit = model.engine.max_model_len
    assert limit is not None  # an evaluation's engine is always told
    _, tokens = PromptTables(load_tokenizer(resolve_model(model.engine.model))).read(prompts)
    for prompt, ids in zip(prompts, tokens, strict=True):
        if len(ids) >= limit:
            reason = f"has {len(ids)} tokens for {model.label}, and --max-length {limit} leaves no response"
            where = prompt.where or f"prompt {prompt.prompt_id}"
            yield Dropped(where, "evaluation", prompt.subset, reason, prompt.prompt_id)
