"""docs/tutorial.md: every file and command of the page, in its order; the page shows what they print."""

from __future__ import annotations

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from pages import ROOT, Command, check_shown, page, parts, run, sections

from rlad_core.config import load
from services.cli import runs as cli
from services.cli.init import write

PAGE = page("tutorial.md")
HOME = "/home/me"
"""Where the page's folder lies."""
#: Commands that are shown because they are refused, by what they print, and their exit codes.
REFUSED = {"refused: ": 2, "recipe.yaml: 1 problem": 2}


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_page_is_carried_out_and_shows_what_is_printed() -> None:
    # Errors show no more of a path than its first 60 characters.
    with TemporaryDirectory() as home:
        _left(_carried_out(Path(home)))


def _carried_out(home: Path) -> Path:
    """The folder that the page ends in."""
    folder, ran = home, 0
    for part in parts(PAGE):
        if not isinstance(part, Command):
            (folder / part[0]).write_text(part[1])
        elif part.line.startswith("cd "):
            folder /= part.line[3:]
        else:
            code, printed = run(part.line, folder)
            refusals = [expected for said, expected in REFUSED.items() if part.output[0].startswith(said)]
            assert code == (refusals or [0])[0], f"{part.line}: {printed[-4000:]}"
            check_shown(part, printed.replace(str(home), HOME).splitlines())
            ran += 1
    assert ran > 10
    return folder


def _left(folder: Path) -> None:
    """What the run of `rlad init` left beside what the page shows."""
    run_dir = folder / "runs" / folder.name
    steps = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["trained_tokens"] > 0 and row["gradient_norm"] > 0 for row in steps] == [True] * 4
    origin = json.loads((run_dir / "code" / "origin.json").read_text())
    assert [Path(path).name for path in origin] == ["reward.py"]


def test_how_a_run_is_continued_is_what_the_command_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run is stopped for it: tests/e2e/test_interrupted.py does."""
    shown = [line.strip() for line in sections(PAGE)["6. Stopping and going on"].splitlines()]
    write(tmp_path / "puzzles", "prompts")
    cli._say_how_to_resume(
        load(tmp_path / "puzzles" / "recipe.yaml", ["name=stopped"]), "stopped after 2 of 4 steps"
    )
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all(line.strip() in shown for line in said)


def test_what_the_page_refers_to_is_there() -> None:
    links = re.findall(r"\]\(([\w./-]+)", PAGE)
    assert links
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]
    assert "`deploy/recipes/`" in PAGE
    assert (ROOT / "deploy" / "recipes").is_dir()


def test_the_recipe_for_two_gpus_fits_them(tmp_path: Path) -> None:
    recipe = re.findall(r"^```yaml\n(.*?)^```$", sections(PAGE)["9. Your own"], re.MULTILINE | re.DOTALL)
    assert len(recipe) == 1
    (tmp_path / "recipe.yaml").write_text(recipe[0])
    for name, first in (("train", 0), ("test", 100)):
        rows = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(first, first + 32)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, printed = run("rlad plan recipe.yaml --gpu H100", tmp_path)
    assert code == 0, printed
    assert "of 80 GiB of a H100" in printed
