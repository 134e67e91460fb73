"""From pydantic's findings to sentences for the person who wrote the recipe."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from rlad_core.sections.chosen import Chosen
from rlad_core.sections.problems import NOT_SET, Problem
from rlad_core.sections.unions import KEY, best_fit, kinds_in

_REFUSAL = "refusal"
_ALIKE = 0.7
"""How much of a wrong word a right one has to have, to be what was meant."""
_NO_SECTION = "is no section. Write its keys below it, as 'key: value'"

_ADVICE = {
    "int_type": "is no whole number. Write one, such as 8",
    "int_parsing": "is no whole number. Write one, such as 8",
    "int_from_float": "is no whole number. Write one, such as 8",
    "float_type": "is no number. Write one, such as 0.5",
    "float_parsing": "is no number. Write one, such as 0.5",
    "finite_number": "is no finite number. Write one, such as 0.5",
    "bool_type": "is neither true nor false. Write one of them",
    "bool_parsing": "is neither true nor false. Write one of them",
    "string_type": "is no text. Write one, in quotes where it looks like something else",
    "string_pattern_mismatch": "has characters that don't fit. Write letters, digits, '.', '_', '-'; "
    "a letter or digit first",
    "string_unicode": "has bytes that are no UTF-8. Write a text without them; of a file, rename it or its "
    "folder",
    "tuple_type": "is no list. Write one, such as [2, 3]",
    "list_type": "is no list. Write one, such as [2, 3]",
    "dict_type": _NO_SECTION,
    "model_type": _NO_SECTION,
    "model_attributes_type": _NO_SECTION,
    "greater_than": "must be above {gt}. Write a number above {gt}",
    "greater_than_equal": "must be at least {ge}. Write {ge} or more",
    "less_than": "must be below {lt}. Write a number below {lt}",
    "less_than_equal": "must be at most {le}. Write {le} or less",
    "literal_error": "is not known. Write {expected}",
    "too_short": "is empty. Write at least {min_length}",
    "string_too_short": "is empty. Write a text",
    "string_too_long": "is too long. Write at most {max_length} characters",
    "too_long": "has too many entries. Write at most {max_length}",
}


@dataclass(frozen=True)
class _Validated:
    """A section that was validated.

    Attributes:
        root: its class.
        prefix: before the paths in it.
        whole: the section that it lies in, where a key that is unknown here may be; None: itself.
    """

    root: type[BaseModel]
    prefix: str
    whole: _Validated | None = None


def problems_of(error: ValidationError, root: type[BaseModel], prefix: str = "") -> list[Problem]:
    """Turn what validating a recipe as ``root`` raised into problems.

    Args:
        prefix: put before every path, where ``root`` is a part of the recipe.
    """
    return _problems(error, _Validated(root, prefix))


def _problems(error: ValidationError, validated: _Validated) -> list[Problem]:
    root = validated.root
    details = error.errors()
    problems: list[Problem] = []
    of_kinds: dict[tuple[str | int, ...], list[ErrorDetails]] = {}
    for detail in details:
        if kinds := kinds_in(root, detail["loc"]):
            of_kinds.setdefault(detail["loc"][: kinds[0]], []).append(detail)
        else:
            problems += _found([detail], details, validated)
    for field, theirs in of_kinds.items():
        problems += _of_kinds(theirs, len(field), details, validated)
    return problems


def _found(
    some: Sequence[ErrorDetails], details: Sequence[ErrorDetails], validated: _Validated
) -> list[Problem]:
    root, prefix = validated.root, validated.prefix
    problems: list[Problem] = []
    for detail in some:
        kind, context = detail["type"], detail.get("ctx", {})
        here = prefix + "".join(f"{step}." for step in _locate(root, detail["loc"])[0])
        if kind == _REFUSAL:
            problems.append(replace(context["problem"], path=here + context["problem"].path))
        elif kind == "section_refused":
            inner = _Validated(context["section"], here, validated.whole or validated)
            problems += _problems(context["error"], inner)
        elif not _is_echo(detail, details):
            found = _problem(detail, validated)
            problems.append(replace(found, path=prefix + found.path))
    return problems


def _of_kinds(
    theirs: Sequence[ErrorDetails],
    at: int,
    details: Sequence[ErrorDetails],
    validated: _Validated,
) -> list[Problem]:
    """Of a field of several kinds: what is wrong with the value as the kind that it is of; where it
    is of none, all that may be written.

    Args:
        at: place of the kinds in the locations.
    """
    kinds: dict[str | int, list[ErrorDetails]] = {}
    for detail in theirs:
        kinds.setdefault(detail["loc"][at], []).append(detail)
    branches = list(kinds.values())
    if (meant := best_fit(branches, at)) is not None:
        return _found(branches[meant], details, validated)
    first, *others = [problem for branch in branches for problem in _found(branch, details, validated)]
    ways = [way for each in others if (way := each.advice.partition("Write ")[2])]
    return [replace(first, advice=", or ".join([first.advice, *ways]))]


def refusal(problem: Problem) -> PydanticCustomError:
    """What a section's own validator raises, to be told as this problem: `problems_of` takes it out again.

    Args:
        problem: its path is that within the section.
    """
    return PydanticCustomError(_REFUSAL, "{said}", {"said": str(problem), "problem": problem})


def _is_echo(detail: ErrorDetails, details: Sequence[ErrorDetails]) -> bool:
    """Whether a list counts as too short only because its entries were refused."""
    loc = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in details
    )


def _problem(detail: ErrorDetails, validated: _Validated) -> Problem:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    root = validated.root
    steps, section = _locate(root, detail["loc"])
    path = ".".join(map(str, steps)) or "the recipe"
    if kind == "extra_forbidden":
        return Problem(path, value, _unknown_key(steps, section, validated))
    if kind == "missing":
        _, around = _locate(root, detail["loc"][:-1])
        about = _description(around, steps[-1])
        return Problem(path, NOT_SET, f"is needed{': ' + about if about else ''}")
    if kind.startswith("choice_"):
        return _choice(kind, f"{path}.{context['key']}", context, value)
    if kind in ("tuple_type", "list_type") and isinstance(value, str | int | float):
        return Problem(path, value, f"is no list. Write [{value}]")
    if kind in _ADVICE:
        return Problem(
            path, value, _ADVICE[kind].format(**context).replace("'", "" if kind == "literal_error" else "'")
        )
    said = detail["msg"].removeprefix("Value error, ")
    return Problem(path, value, said[:1].lower() + said[1:])


def _choice(kind: str, path: str, context: Mapping[str, Any], value: Any) -> Problem:
    """What is wrong with the key that chooses a section's class, see `rlad_core.sections.chosen`."""
    written = value.get(context["key"], NOT_SET)
    if kind == "choice_refused":
        return Problem(path, written, context["reason"])
    listing = f"Write one of {', '.join(context['known'])}, or a class of your own: file.py:Name"
    if kind == "choice_missing":
        return Problem(path, NOT_SET, f"is needed. {listing}")
    return Problem(path, written, f"is not known{_guess(str(written), context['known'])} {listing}")


def _locate(root: type[BaseModel], loc: Sequence[str | int]) -> tuple[list[str | int], type[BaseModel]]:
    """Follow pydantic's location through the classes.

    Returns:
        The path as the recipe's author wrote it, and the section at its end; for a plain field or an unknown
        key, the section that it is in.
    """
    section = root
    kinds = kinds_in(root, loc)
    written = [step for place, step in enumerate(loc) if place not in kinds]
    for step in written:
        if isinstance(step, str) and step in section.model_fields:
            section = next(_sections_in(section.model_fields[step]), section)
    # A name that is refused has pydantic's word for a key behind it.
    return [step for step in written if step != KEY], section


def _sections_in(field: FieldInfo) -> Iterator[type[BaseModel]]:
    """The sections that a field may hold, alone or in a list; a key that chooses is in its metadata."""
    for choice in (each for each in _metadata(field.annotation, field.metadata) if isinstance(each, Chosen)):
        yield from choice.known.values()
        return
    yield from _models_in(field.annotation)


def _metadata(annotation: Any, own: Sequence[Any]) -> Iterator[Any]:
    yield from own
    yield from getattr(annotation, "__metadata__", ())
    for argument in get_args(annotation):
        yield from _metadata(argument, ())


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _description(section: type[BaseModel], step: str | int) -> str | None:
    field = section.model_fields.get(str(step))
    return field.description if field is not None else None


def _unknown_key(steps: Sequence[str | int], section: type[BaseModel], validated: _Validated) -> str:
    known, key = sorted(section.model_fields), str(steps[-1])
    if "." in key:
        return "no such key. Dots are for --set: in a file each part stands below the one before it"
    guess = _guess(key, known)
    if guess != ".":
        return f"no such key{guess}"
    whole = validated.whole or validated
    elsewhere = dict.fromkeys(
        whole.prefix + path for path in _all_paths(whole.root) if path.rpartition(".")[2] == key
    )
    # A key of another kind of this section is at the same place, which is no advice.
    here = validated.prefix + ".".join(map(str, steps))
    of_another_kind = re.sub(r"\.\d+\b", ".0", here) in elsewhere
    there = f" There is {' and '.join(elsewhere)}." if elsewhere and not of_another_kind else ""
    return f"no such key.{there} Known here: {', '.join(known)}"


def _guess(word: str, known: Sequence[str]) -> str:
    alike = {each: difflib.SequenceMatcher(None, each, word).ratio() for each in known}
    nearest = max([_ALIKE, *alike.values()])
    close = [each for each, ratio in alike.items() if ratio == nearest]
    return f". Did you mean {' or '.join(close)}?" if close else "."


def _all_paths(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        place = ".0" if "tuple[" in str(field.annotation) else ""
        for child in _sections_in(field):
            yield from _all_paths(child, f"{prefix}{name}{place}.")
