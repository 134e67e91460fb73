"""A user's data files and reward function as a task: subsets are files, the function judges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from rlad_core.data import Fault
from rlad_core.sections import code
from rlad_core.tasks.base import Prompt, Task, Verdict
from rlad_core.tasks.prompts.reading import PromptReader
from rlad_core.tasks.prompts.reward import PART, Reward
from rlad_core.tasks.rows import FileSource, SourcedFiles


class Prompts(Task):
    """The task with the prompts of some files. Judging needs no files.

    Gold is ``{"gold": what stands in the gold column, "row": all columns}``. Values that JSON does not have
    are texts there: dates as ISO 8601, bytes as UTF-8 or else base64; "nan" and "inf", which gold may not be.

    Args:
        files: by split and subset.
        prompt_column: holds a text, or a chat as messages with role and content; None: a usual name.
        gold_column: what the function gets as gold; None: a usual name.
        system: a system message, where a chat has none.
        reward: place of the function, see `reward`; run when the first response is judged, or by `warm_up`.
        correct_at: the reward from which on a response is correct.
    """

    name: ClassVar[str] = "prompts"
    is_users: ClassVar[bool] = True

    def __init__(
        self,
        *,
        files: Mapping[tuple[str, str], FileSource | str | Path] | None = None,
        prompt_column: str | None = None,
        gold_column: str | None = None,
        system: str | None = None,
        reward: str,
        correct_at: float = 1.0,
    ) -> None:
        reader = PromptReader(prompt_column, gold_column, system)
        self._files = SourcedFiles(
            {
                part: (file if isinstance(file, FileSource) else FileSource(str(file)), reader)
                for part, file in (files or {}).items()
            }
        )
        self._reward = Reward(code.absolute(reward, Path.cwd()), correct_at)

    @property
    def subsets(self) -> tuple[str, ...]:
        """The names of the files."""
        return self._files.subsets

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """`count` prompts of a file drawn with this seed, or all of them, in the file's order.

        Raises:
            ValueError: there is no such file, it cannot be read, or it has fewer different prompts.
        """
        return self._files.of(split, subset).draw(self.name, subset, count, seed)

    def faults(self, split: str, subset: str) -> Sequence[Fault]:
        """Rows of a file that are no prompts."""
        return self._files.of(split, subset).faults

    def warm_up(self) -> None:
        """Load the function's file now, outside of a check's time limit.

        Raises:
            CodeError, RewardError: it cannot be loaded, or not be called.
        """
        self._reward.load()

    def verify(self, response: str, gold: str) -> Verdict:
        """What the function says; it may take any time and raise anything.

        Args:
            gold: of `prompts`; what callers of a service write otherwise, a JSON object or any text, the
                function gets as it is, with an empty row.
        """
        try:
            fields = json.loads(gold)
        except (ValueError, RecursionError):  # the latter of thousands of brackets
            fields = gold
        if isinstance(fields, dict) and "gold" in fields:
            return self._reward(response, fields["gold"], fields.get("row", {}))
        return self._reward(response, fields if isinstance(fields, dict) else gold, {})

    def failed(self, gold: str) -> Verdict:
        """Nothing, whatever the gold."""
        return Verdict(0.0, {PART: 0.0}, False, "")
