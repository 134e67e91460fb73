"""docs/verifiers.md: every example of its tables is judged, from the text of the page."""

from __future__ import annotations

import re

import pytest
from pages import page, sections

from rlad_core.tasks.math.comparing import Tolerance
from rlad_core.tasks.math.judging import Judging
from rlad_core.tasks.math.verifier import verify, warm_up

MATH = sections(page("verifiers.md"))["Math"]
ROW = re.compile(
    r"^\| `(.+?)` \| `(.+?)` \| (?:([\d.]+) \| (rounded|any) \| )?(right|wrong) \|$", re.MULTILINE
)
EXAMPLES = ROW.findall(MATH)
REPLIES = ROW.findall(MATH[: MATH.index("### Numbers")])


@pytest.fixture(scope="module", autouse=True)
def loaded_algebra() -> None:
    warm_up()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: " ~ ".join(filter(None, each)))
def test_an_example_is_judged_as_the_page_says(example: tuple[str, str, str, str, str]) -> None:
    gold, answer, relative, where, verdict = example
    tolerance = Tolerance(float(relative), where) if relative else Tolerance()  # type: ignore[arg-type]
    reply = answer if example in REPLIES else f"So it is $\\boxed{{{answer}}}$."
    judged = verify(reply, gold, tolerance=tolerance)
    assert judged.correct is (verdict == "right"), judged.reason


def test_no_row_of_a_table_is_left_out() -> None:
    rows = [line for line in MATH.splitlines() if re.search(r"\| (?:right|wrong) \|$", line)]
    assert len(rows) == len(EXAMPLES) > 100


def test_the_settings_are_those_that_there_are() -> None:
    said = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| (?!right|wrong)", MATH, re.MULTILINE)
    defaults = {name: str(field.default) for name, field in Judging.model_fields.items()}
    assert {name: value for name, value in said if name in defaults} == defaults
