"""The responses that a run or an evaluation left: where they are, and reading them.

RUN/evaluations/000060-after.parquet    ANSWERS of a run's evaluation: policy version, and when
RUN/experience/step-000010.arrows       EXPERIENCE that was kept of a step
FOLDER/responses.parquet, parts/        ANSWERS of `rlad evaluate`

In a run's two folders a file of any other name, such as a copy of one, is somebody's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rlad_core.evaluation import PairedRow, latest_of, paired_rows, verdicts_of
from rlad_core.schema import SchemaError, from_ipc, from_parquet
from services.report.asked import asked_of

ANSWERS = "evaluations"
TRAINING = "training"
_WHENS = ("before", "step", "after")
_ANSWERS = re.compile(rf"(\d+)-({'|'.join(_WHENS)})\.parquet")
_EXPERIENCE = re.compile(r"step-(\d+)\.arrows")


@dataclass(frozen=True)
class Kept:
    """Responses that were kept together.

    Attributes:
        when: before, step or after, of a run's evaluation; `TRAINING`; "" of an evaluation alone.
        step: of the run: the policy version that was evaluated, the step that was trained.
        files: where they are.
        asked: folder of an evaluation of which only what was asked for last counts, see `asked_of`.
    """

    when: str
    step: int
    files: tuple[Path, ...]
    asked: Path | None = None

    @property
    def label(self) -> str:
        """For people."""
        if not self.when:
            return "evaluation"
        if self.when == TRAINING:
            return f"training, step {self.step}"
        return self.when if self.when != "step" else f"after step {self.step}"

    def read(self) -> pa.Table:
        """ANSWERS, or EXPERIENCE for `TRAINING`; SEQUENCES of a step on worked solutions, see `is_judged`.

        Raises:
            SchemaError: a file is broken; names it.
        """
        if self.when == TRAINING:
            try:
                return from_ipc(self.files[0].read_bytes())
            except SchemaError as error:
                raise SchemaError(f"{self.files[0]}: {error}") from error
        found = latest_of([from_parquet(file).replace_schema_metadata(None) for file in self.files])
        return found if self.asked is None else asked_of(self.asked, found)


def is_judged(table: pa.Table) -> bool:
    """Whether these are responses with verdicts; worked solutions, which are the task's own, are not."""
    return "correct" in table.column_names


def answers_name(when: str, step: int) -> str:
    """The file of a run's evaluation, `when` being before, after or step."""
    return f"{step:06d}-{when}.parquet"


def answers_in(folder: Path) -> list[tuple[Path, str, int]]:
    """The files of a run's evaluations, by their names: when, and the policy version."""
    named = [(file, _ANSWERS.fullmatch(file.name)) for file in (folder / ANSWERS).glob("*.parquet")]
    return [(file, name[2], int(name[1])) for file, name in named if name]


def experience_in(folder: Path) -> list[tuple[Path, int]]:
    """The files of a run's experience, in the order of the steps that their names tell."""
    named = [(file, _EXPERIENCE.fullmatch(file.name)) for file in (folder / "experience").glob("*.arrows")]
    found = [(file, int(name[1])) for file, name in named if name]
    return sorted(found, key=lambda each: each[1])


def kept_in(folder: Path) -> list[Kept]:
    """All that a run or an evaluation kept: evaluations in their order, then training step by step."""
    found = [Kept(when, step, (file,)) for file, when, step in answers_in(folder)]
    found.sort(key=lambda kept: (kept.step, _WHENS.index(kept.when)))
    whole = folder / "responses.parquet"
    alone = (*([whole] if whole.is_file() else []), *sorted((folder / "parts").glob("*.parquet")))
    if alone:
        found.append(Kept("", 0, alone))
    found += [Kept(TRAINING, step, (file,)) for file, step in experience_in(folder)]
    return found


def change_of(folder: Path) -> list[PairedRow]:
    """A run's last evaluation against its first, on the same problems; nothing where there are not two.

    Raises:
        SchemaError: a file is broken; names it.
    """
    evaluations = [kept for kept in kept_in(folder) if kept.when in _WHENS]
    if len(evaluations) < 2 or evaluations[0].when != "before":
        return []
    first, last = (verdicts_of(kept.read()) for kept in (evaluations[0], evaluations[-1]))
    return paired_rows(first, last)
