"""docs/evaluation.md: its commands are carried out in their order, and print what the page shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, Command, check_shown, page, parts, run
from typer.main import get_command

from rlad_core.evaluation import ANSWERS, fault_of
from rlad_core.suites import SUITES
from services.cli.app import app

PAGE = page("evaluation.md")
#: The command that is shown because it is refused, and its exit code.
REFUSED = {"--suite aime24,gsm8k": 2}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_page_is_carried_out_and_shows_what_is_printed(tmp_path: Path) -> None:
    carried_out = 0
    for part in parts(PAGE):
        assert isinstance(part, Command)
        code, printed = run(part.line, tmp_path)
        expected = next((code for said, code in REFUSED.items() if said in part.line), 0)
        assert code == expected, f"{part.line}: {printed[-4000:]}"
        check_shown(part, printed.splitlines())
        carried_out += 1
    assert carried_out == 5
    # The second command asked for nothing that was there, and the last one wrote a page.
    assert len(list(tmp_path.glob("evaluations/*/responses.parquet"))) == 2
    assert len(list(tmp_path.glob("evaluations/rlad-kk-student-*/report.html"))) == 1


def test_every_suite_and_data_set_is_on_the_page() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE, re.MULTILINE))
    assert set(SUITES) <= set(table)
    for suite in SUITES.values():
        assert all(repository in table[suite.name] for repository in suite.repositories)


def test_every_option_of_the_page_is_one() -> None:
    commands: Any = get_command(app)
    known = {
        name
        for command in ("evaluate", "show", "serve")
        for option in commands.get_command(None, command).params
        for name in option.opts
    }
    shown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", PAGE)) - {"--repo-type", "--local-dir"}
    assert shown
    assert shown <= known


def test_every_column_of_the_files_is_on_the_page() -> None:
    below = PAGE[PAGE.index("The files are Parquet") :]
    assert set(ANSWERS.names) <= set(re.findall(r"`(\w+)`", below))
    for reason in ("no answer: x", "form: x", "unreadable answer", "wrong answer", "took longer", "mine"):
        assert f"`{fault_of(reason, correct=False, finish_reason='stop')}`" in below


def test_what_the_page_refers_to_is_there() -> None:
    links = re.findall(r"\]\(([\w./-]+)", PAGE)
    assert links
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]
