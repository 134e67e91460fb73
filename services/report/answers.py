"""The responses that a run or an evaluation left: where they are, and reading them.

RUN/evaluations/000060-after.parquet    ANSWERS of a run's evaluation: policy version, and when
RUN/experience/step-000010.arrows       EXPERIENCE that was kept of a step
FOLDER/responses.parquet, parts/        ANSWERS of `rlad evaluate`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rlad_core.evaluation import PairedRow, latest_of, paired_rows, verdicts_of
from rlad_core.schema import SchemaError, from_ipc, from_parquet
from services.report.asked import asked_of

ANSWERS = "evaluations"
TRAINING = "training"
_WHENS = ("before", "step", "after")


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


def when_of(file: Path) -> tuple[str, int]:
    """The reverse of `answers_name`: when, and the policy version."""
    step, _, when = file.stem.partition("-")
    return when, int(step)


def kept_in(folder: Path) -> list[Kept]:
    """All that a run or an evaluation kept: evaluations in their order, then training step by step."""
    found = [Kept(*when_of(file), (file,)) for file in (folder / ANSWERS).glob("*-*.parquet")]
    found.sort(key=lambda kept: (kept.step, _WHENS.index(kept.when)))
    whole = folder / "responses.parquet"
    alone = (*([whole] if whole.is_file() else []), *sorted((folder / "parts").glob("*.parquet")))
    if alone:
        found.append(Kept("", 0, alone))
    steps = sorted((folder / "experience").glob("step-*.arrows"))
    found += [Kept(TRAINING, int(file.stem.removeprefix("step-")), (file,)) for file in steps]
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
