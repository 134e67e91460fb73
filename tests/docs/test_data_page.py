"""docs/data.md: its files and its command, and the names that it lists."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from pages import Command, files, page, parts, plain, run, sections

from rlad_core.data import ENDINGS
from rlad_core.tasks.columns import ANSWERED, ASKED

PAGE = page("data.md")


def test_the_check_says_what_the_page_shows() -> None:
    with TemporaryDirectory() as home:
        for name, text in files(PAGE).items():
            Path(home, name).write_text(text)
        [command] = [part for part in parts(PAGE) if isinstance(part, Command)]
        code, printed = run(command.line, Path(home))
    assert code == 0, printed
    said = [plain(line) for line in printed.replace(home, "/home/me").splitlines()]
    shown = [plain(line) for line in command.output[1:]]
    assert said[-len(shown) :] == shown


def test_the_page_lists_what_is_known() -> None:
    columns = sections(PAGE)["Columns"]
    for names in (ASKED, ANSWERED):
        assert ", ".join(f"`{name}`" for name in names) in columns
    assert all(f"{ending}`" in sections(PAGE)["Files"] for ending in ENDINGS)
