"""The suite in docs/compare.md, and the one of `rlad compare --help`, are suites."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

from pages import page

from rlad_core.config import SHIPPED, parse
from services.cli.compare import compare
from services.compare.comparison import Comparison
from services.compare.suite import Suite, load_suite

PAGE = page("compare.md")


def test_the_suite_of_the_page_can_be_carried_out(tmp_path: Path) -> None:
    [example] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    file = tmp_path / "mine.yaml"
    file.write_text(example)
    suite, _ = load_suite(file)
    comparison = Comparison(suite, tmp_path / "out")
    comparison.check(str(file))
    assert len(comparison.members) == 3 * 3
    assert len(comparison.all_tries) == 3 * 2
    assert parse(example).keys() == Suite.model_fields.keys()


def test_the_suite_of_the_help_can_be_carried_out(tmp_path: Path) -> None:
    text = inspect.getdoc(compare) or ""
    example = textwrap.dedent(text[text.index("    name: mine") : text.index("Exit codes")])
    (tmp_path / "recipe.yaml").write_text((SHIPPED / "recipes" / "kk-tiny-trrd.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(example)
    suite, file = load_suite(tmp_path / "mine.yaml")
    assert suite.recipe == str(tmp_path / "recipe.yaml")
    Comparison(suite, tmp_path / "out").check(str(file))
