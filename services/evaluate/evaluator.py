"""The actor that evaluates: held-out prompts through the rollout service and the verifier."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.config import EvaluationRecipe
from rlad_core.evaluation import EvaluationRow, evaluation_rows
from rlad_core.prompt_stream import PromptTables, Selection, held_out_prompts, tasks_of
from rlad_core.waiting import all_of
from services.base import telemetry
from services.base.loading import loading
from services.base.telemetry import span
from services.base.tokenizer import load_tokenizer
from services.clients.handles import ServiceNames
from services.clients.responses import Responses
from services.rollout.settings import SamplingSettings


class Evaluator:
    """Actor; its prompts are made with the first evaluation.

    Args:
        recipe: of the run, or of an evaluation alone.
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
            telemetry.configure_logging(Path(run_dir), level=recipe.telemetry.log_level)
        self._recipe = recipe
        names = ServiceNames(recipe.name)
        self._responses = Responses(names.rollout(), names.verifier(), recipe.rollout.timeout_s)
        with loading():
            self._selection = selection or Selection()
            self._tables = PromptTables(load_tokenizer(model_folder), self._selection.limit)

    @functools.cached_property
    def _held_out(self) -> pa.Table:
        return self._tables.table(held_out_prompts(self._recipe, tasks_of(self._recipe), self._selection))

    async def evaluate(self, version: int) -> list[EvaluationRow]:
        """Accuracy of policy version `version` on the held-out prompts, a row per subset.

        Raises:
            ValueError: a task cannot give its prompts.
            TimeoutError: naming the service that did not answer.
        """
        recipe, settings, table = self._recipe, self._recipe.evaluation, self._held_out
        sampling = SamplingSettings(
            group_size=settings.samples,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=recipe.evaluation_response_length,
            seed=recipe.seed,
            training=False,
        )
        with span("evaluation", items=len(table) * settings.samples):
            groups = table.append_column("group_id", table.column("prompt_id"))
            # In parts: a whole evaluation would be more than one request may have, and one replica's work.
            size = max(1, recipe.rollout.max_num_seqs // (4 * settings.samples))

            async def measure(first: int) -> tuple[pa.Table, pa.Table]:
                rollouts = await self._responses.sample(groups.slice(first, size), sampling, version)
                return rollouts, await self._responses.judge(rollouts, table)

            parts = await all_of(
                (measure(first) for first in range(0, len(groups), size)),
                # Twice what the engines work on at a time.
                at_most=8 * recipe.rollout.num_replicas,
            )
            rollouts, rewards = (pa.concat_tables(tables) for tables in zip(*parts, strict=True))
        asked = (table[name].to_pylist() for name in ("prompt_id", "subset"))
        subset_of = dict(zip(*asked, strict=True))
        ids = rollouts.column("prompt_id").to_pylist()
        correct = dict(zip(rewards["sequence_id"].to_pylist(), rewards["correct"].to_pylist(), strict=True))
        return evaluation_rows(
            [subset_of[prompt_id] for prompt_id in ids],
            ids,
            [correct[sequence] for sequence in schema.sequence_ids(rollouts).to_pylist()],
            np.asarray(rollouts["finish_reason"].to_pylist()) == "length",
        )
