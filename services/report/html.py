"""What the pages have in common: templates, and the responses that they show."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import jinja2

from rlad_core.schema import SchemaError
from services.report.answers import TRAINING, Kept, kept_in
from services.report.colours import CERTAIN, LEGEND, colour
from services.report.responses import Filter, ReadResponse, responses_of, token_texts

WRONG, TRAINED = 20, 10
"""Responses of the last evaluation that are not right, and of the last step that was kept."""
_LONGEST, _COLOURED = 20_000, 2_000
"""Characters of a text on a page, and tokens of a response that get a colour; `rlad show` has all of it."""


def template(name: str) -> jinja2.Template:
    """A template, which may use what the responses' colours are made with."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("services.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "colour": colour,
        "certain": CERTAIN,
        "legend": LEGEND,
        "longest": _LONGEST,
        "most_coloured": _COLOURED,
    }
    return environment.get_template(name)


def kept_responses(
    folder: Path, remarks: list[str], kept: Sequence[Kept] | None = None
) -> list[tuple[str, list[ReadResponse]]]:
    """Responses for a page, with headings: those that are wrong in the last evaluation, some trained on.

    Args:
        remarks: what cannot be read is told here.
        kept: of what is there; None: all.
    """
    kept = kept_in(folder) if kept is None else kept
    tokens, remark = token_texts(folder)
    evaluations = [each for each in kept if each.when != TRAINING]
    training = [each for each in kept if each.when == TRAINING]
    found: list[tuple[str, list[ReadResponse]]] = []

    def take(each: Kept, wanted: Filter, count: int, heading: str) -> None:
        try:
            shown = list(islice(responses_of(each, wanted, tokens), count))
        except SchemaError as error:
            remarks.append(f"Responses are left out: {str(error).rstrip('.')}.")
            return
        if shown:
            found.append((heading, shown))

    for each in evaluations[-1:]:
        take(each, Filter(wrong=True), WRONG, f"Not right ({each.label})")
    for each in training[-1:]:
        take(each, Filter(), TRAINED, f"Trained on (step {each.step})")
    if found and remark:
        remarks.append(f"In the responses {remark}.")
    return found
