"""The page of an evaluation by itself: its table, and responses to read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rlad_core.evaluation import rows_of
from services.base.whole_files import write_whole
from services.report.answers import kept_in
from services.report.asked import told_in
from services.report.html import kept_responses, template


def is_evaluation(folder: Path) -> bool:
    """Whether it is a folder that `rlad evaluate` keeps a model's responses in."""
    return (folder / "settings.json").is_file() and any(not kept.when for kept in kept_in(folder))


def write_answers_page(folder: Path) -> Path:
    """Write ``report.html`` into the folder of an evaluation, also while it goes on.

    Raises:
        SchemaError: a file of responses is broken; names it.
        ValueError: prompts have different numbers of responses, as they do while it goes on; or a file that
            says what was asked is broken, which it names.
        OSError: the folder cannot be written to.
    """
    settings = told_in(folder / "settings.json")
    [kept] = [replace(each, asked=folder) for each in kept_in(folder) if not each.when]
    answers = kept.read()
    if not len(answers):
        raise ValueError(f"nothing of what was asked for last is answered yet in {folder}. Try again later")
    remarks: list[str] = []
    html = folder / "report.html"
    page = template("answers.html.jinja").render(
        name=settings.get("label", folder.name),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        facts=[(name, str(value)) for name, value in settings.items() if value is not None],
        rows=rows_of(answers),
        kept=kept_responses(folder, remarks, [kept]),
        remarks=remarks,
    )
    write_whole(html, page)
    return html
