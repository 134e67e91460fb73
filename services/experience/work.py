"""What is done for the groups that the pool begins: prompt, settings, and the way through the services."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pyarrow as pa

from rlad_core.config import RunConfig
from rlad_core.config.run import REFERENCE
from rlad_core.objectives import Objective
from rlad_core.prompt_stream import PromptStream, rows_of
from rlad_core.tasks import Prompt
from services.base import telemetry, tracing
from services.clients.handles import ServiceNames
from services.clients.responses import Responses
from services.clients.teachers import Teacher
from services.clients.teachers.shared import SharedTeacher
from services.experience.ends import EndTokens
from services.experience.groups import Group, GroupWorker, judged_by, unchanged
from services.experience.scorers import Scorer
from services.rollout.settings import SamplingSettings


class GroupWork:
    """Of one run.

    Args:
        config: the run.
        stream: its prompts.
        ends: its end tokens, all of them known.
        teachers: those that are asked, by their place in the recipe.
        objective_of: that of a step.
    """

    def __init__(
        self,
        config: RunConfig,
        stream: PromptStream,
        ends: EndTokens,
        teachers: Mapping[str, Teacher],
        objective_of: Callable[[int], Objective],
    ) -> None:
        self._config = config
        self._services = ServiceNames(config.services_name)
        self._stream = stream
        self._ends = ends
        self._teachers = teachers
        self._shared: dict[str, SharedTeacher] = {}
        self._asked: dict[bool, Responses] = {}
        self._objective_of = objective_of

    def __call__(self, positions: Sequence[int], step: int, version: int) -> list[Coroutine[Any, Any, Group]]:
        """The work on each of the groups.

        Args:
            positions: of their prompts in the stream.
            step: of the stage that they are for.
            version: oldest policy version that may sample.
        """
        config, objective = self._config, self._objective_of(step)
        prompts = self._stream.prompts(positions)
        table = self._stream.table(prompts)
        group_ids = [self._stream.group_id(p, prompt) for p, prompt in zip(positions, prompts, strict=True)]
        groups = rows_of(table, prompts).append_column("group_id", pa.array(group_ids))
        demonstrates = not objective.trains_on_rollouts
        sampling = SamplingSettings(
            group_size=config.rollout.group_size,
            max_tokens=config.rollout.max_response_length,
            seed=config.seed,
            stop_token_ids=self._ends.stop,
        )
        worker = self._worker(objective)

        scorers = [self._scorers(prompt, objective) for prompt in prompts]

        async def work(row: int, position: int) -> Group:
            oldest = 0 if demonstrates else version
            with tracing.span("group", {"group": group_ids[row], "position": position}):
                group = await worker.work(
                    position, groups.slice(row, 1), table, sampling, oldest, scorers[row]
                )
            telemetry.waiting("assemble", len(group.rollouts))
            return group

        return [work(row, position) for row, position in enumerate(positions)]

    def _worker(self, objective: Objective) -> GroupWorker:
        demonstrates = not objective.trains_on_rollouts
        responses = self._responses(demonstrates)
        # What demonstrates is no policy that could learn to be shorter.
        judged = unchanged if demonstrates else judged_by(self._config)
        return GroupWorker(responses, judged, objective.policy_top_k, self._config.mixture)

    def _responses(self, demonstrates: bool) -> Responses:
        """That all groups ask, so that the verifier is asked for several together."""
        if demonstrates not in self._asked:
            names = self._services
            self._asked[demonstrates] = Responses(
                names.demonstrator() if demonstrates else names.rollout(),
                names.verifier(),
                self._config.rollout.timeout_s,
                pushed=self._config.weights.transfer != "object_store",
            )
        return self._asked[demonstrates]

    def _scorers(self, prompt: Prompt, objective: Objective) -> list[Scorer]:
        """Who scores the responses to a prompt."""
        asked = objective.scores_with_teacher and self._config.policy_teacher is None
        shares = self._stream.taught(prompt) if asked else ()
        teachers = [
            Scorer(
                share.place,
                self._shared_teacher(share.place),
                share.weight,
                share.prompt_token_ids,
                self._ends.asked_of(share.place, objective),
                objective.teacher_top_k,
                objective.policy_top_k,
            )
            for share in shares
        ]
        reference = [Scorer(REFERENCE, self._shared_teacher(REFERENCE))] if objective.needs_reference else []
        return [*teachers, *reference]

    def _shared_teacher(self, place: str) -> Teacher:
        """That all groups ask together; the teachers are reached when a run has begun."""
        if place not in self._shared:
            self._shared[place] = SharedTeacher(self._teachers[place])
        return self._shared[place]
