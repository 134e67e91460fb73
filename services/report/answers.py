"""The responses that a run or an evaluation left: where they are, and what of them a person wants to read.

RUN/evaluations/000060-after.parquet    ANSWERS of a run's evaluation: policy version, and when
RUN/experience/step-000010.arrows       EXPERIENCE that was sampled for training
FOLDER/responses.parquet, parts/        ANSWERS of `rlad evaluate`
"""

from __future__ import annotations

from pathlib import Path

ANSWERS = "evaluations"


def answers_name(when: str, step: int) -> str:
    """The file of a run's evaluation, `when` being before, after or step."""
    return f"{step:06d}-{when}.parquet"


def when_of(file: Path) -> tuple[str, int]:
    """The reverse of `answers_name`: when, and the policy version."""
    step, _, when = file.stem.partition("-")
    return when, int(step)
