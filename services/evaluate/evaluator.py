"""The actor that evaluates in a run: held-out prompts through its rollout service and its verifier."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from rlad_core.config import EvaluationRecipe, RunConfig
from rlad_core.evaluation import ANSWERS, EvaluationRow, rows_of
from rlad_core.prompt_stream import PromptTables, Selection, held_out_prompts, tasks_of
from services.base import telemetry
from services.base.log_lines import configure_logging
from services.base.telemetry import span
from services.base.tokenizer import load_tokenizer
from services.base.uncollected import uncollected
from services.clients.handles import ServiceNames
from services.clients.responses import Responses
from services.evaluate.questions import Questions
from services.evaluate.respondents import Sampling
from services.evaluate.respondents.deployed import DeployedModel
from services.evaluate.session import answer_all


class Evaluator:
    """Actor; its prompts are made with the first evaluation.

    Args:
        recipe: of the run.
        model_folder: where the policy's tokenizer is.
        run_dir: the run's folder, for its log; None: there is none.
        selection: what is left out of its prompts; None: nothing.
    """

    def __init__(
        self,
        recipe: EvaluationRecipe,
        model_folder: str,
        run_dir: str | None = None,
        selection: Selection | None = None,
    ) -> None:
        telemetry.name_run(recipe.name)
        if run_dir is not None:
            configure_logging(Path(run_dir), level=recipe.telemetry.log_level)
        self._recipe = recipe
        names = ServiceNames(recipe.services_name)
        pushed = isinstance(recipe, RunConfig) and recipe.weights.transfer != "object_store"
        self._services = Responses(names.rollout(), names.verifier(), recipe.rollout.timeout_s, pushed=pushed)
        self._answers = ANSWERS.empty_table()
        self._stop_token_ids = recipe.policy.stop_token_ids or ()
        with uncollected():
            self._selection = selection or Selection()
            self._tables = PromptTables(
                load_tokenizer(model_folder), cut_at=self._selection.limit, chat=recipe.policy.chat
            )

    @functools.cached_property
    def _questions(self) -> Questions:
        prompts = held_out_prompts(self._recipe, tasks_of(self._recipe), self._selection)
        return Questions(prompts, self._recipe.evaluation.samples)

    @functools.cached_property
    def _table(self) -> pa.Table:
        return self._tables.table(self._questions.distinct)

    def end_with(self, stop_token_ids: tuple[int, ...]) -> None:
        """Have responses end with these tokens, as those that are trained on do."""
        self._stop_token_ids = stop_token_ids

    async def evaluate(self, version: int) -> list[EvaluationRow]:
        """Accuracy of policy version `version` on the held-out prompts, a row per subset.

        Raises:
            ValueError: a task cannot give its prompts.
            TimeoutError: naming the service that did not answer.
            IncompleteError: a service refused some of them.
        """
        recipe, settings, questions = self._recipe, self._recipe.evaluation, self._questions
        sampling = Sampling(
            settings.temperature, settings.top_p, recipe.evaluation_response_length, recipe.seed
        )
        model = DeployedModel(self._table, sampling, version=version, stop_token_ids=self._stop_token_ids)
        model.begin(self._services, in_flight=recipe.rollout.max_num_seqs * recipe.rollout.num_replicas)
        told: list[dict[str, Any]] = []

        def keep(rows: Sequence[dict[str, Any]]) -> None:
            told.extend(rows)

        with span("evaluation", items=len(self._table) * settings.samples):
            await answer_all(model, self._services, list(questions.wanted()), questions, keep)
        by_key = {(row["prompt_id"], row["subset"], row["sample_index"]): row for row in told}
        self._answers = pa.Table.from_pylist([by_key[key] for key in questions.rows()], schema=ANSWERS)
        return rows_of(self._answers)

    def answers(self) -> pa.Table:
        """ANSWERS of the last evaluation."""
        return self._answers
