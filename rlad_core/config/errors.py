"""What is wrong with a recipe, in words: the field's path, its value, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_MISSING = object()


@dataclass(frozen=True)
class Problem:
    """One thing to change in a recipe."""

    path: str
    """The field, as ``--set`` would name it, e.g. ``stages.0.objective.alpha``."""
    value: Any
    """What the recipe says there; None where it says nothing."""
    advice: str
    """What is wrong with it and what to write."""

    def __str__(self) -> str:
        shown = "not set" if self.value is None else _short(self.value)
        return f"{self.path} ({shown}): {self.advice}."


class ConfigError(ValueError):
    """A recipe was refused; ``str(error)`` lists every problem, one a line."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{source}: {count}", *(f"  - {problem}" for problem in problems)]))


def problems_of(error: ValidationError, data: Any, root: type[BaseModel]) -> list[Problem]:
    """Turn pydantic's findings into problems.

    Args:
        error: what validating ``data`` as ``root`` raised.
        data: the recipe as it was read.
        root: the class it was meant to be.
    """
    problems: list[Problem] = []
    for detail in error.errors():
        if detail["type"] == "sections_disagree":
            problems.extend(detail["ctx"]["problems"])
        else:
            problems.append(_problem(detail, data, root))
    return list(dict.fromkeys(problems)) if all(_hashable(p.value) for p in problems) else problems


def _problem(detail: ErrorDetails, data: Any, root: type[BaseModel]) -> Problem:
    steps = _in_data(detail["loc"], data)
    path = ".".join(map(str, steps)) or "the recipe"
    kind, context = detail["type"], detail.get("ctx", {})
    value = None if kind == "missing" else detail["input"]
    if kind == "extra_forbidden":
        return Problem(path, value, _unknown_key(steps, _model_at(root, detail["loc"][:-1]), root))
    if kind == "missing":
        model = _model_at(root, detail["loc"][:-1])
        field = model.model_fields.get(str(detail["loc"][-1])) if model else None
        about = f": {field.description}" if field is not None and field.description else ""
        return Problem(path, None, f"is needed{about.rstrip('.')}")
    if kind == "union_tag_not_found":
        name = context["discriminator"].strip("'")
        return Problem(
            f"{path}.{name}", None, f"is needed. Write one of {_tags(_annotation_at(root, detail['loc']))}"
        )
    if kind == "union_tag_invalid":
        name = context["discriminator"].strip("'")
        written = value.get(name) if isinstance(value, Mapping) else value
        tags = context["expected_tags"].replace("'", "")
        return Problem(
            f"{path}.{name}",
            written,
            f"is not known. Write one of {tags}{_guess(str(written), tags.split(', '))}",
        )
    return Problem(path, value, _advice(kind, context, detail["msg"]))


def _advice(kind: str, context: Mapping[str, Any], message: str) -> str:
    wanted = {
        "int_type": "is no whole number. Write one, such as 8",
        "int_from_float": "is no whole number. Write one, such as 8",
        "float_type": "is no number. Write one, such as 0.5",
        "finite_number": "is no finite number. Write one, such as 0.5",
        "bool_type": "is neither true nor false. Write one of them",
        "string_type": "is no text. Put it in quotes",
        "tuple_type": "is no list. Write one, such as [2, 3]",
        "model_type": "is no section. Write its keys below it, as 'key: value'",
        "model_attributes_type": "is no section. Write its keys below it, as 'key: value'",
        "dict_type": "is no section. Write its keys below it, as 'key: value'",
    }
    if kind in wanted:
        return wanted[kind]
    if kind == "literal_error":
        return f"is not known. Write {context['expected']}".replace("'", "")
    bounds = {
        "greater_than": "must be above {gt}. Write a number above {gt}",
        "greater_than_equal": "must be at least {ge}. Write {ge} or more",
        "less_than": "must be below {lt}. Write a number below {lt}",
        "less_than_equal": "must be at most {le}. Write {le} or less",
    }
    if kind in bounds:
        return bounds[kind].format(**context)
    if kind == "too_short":
        return f"has {context['actual_length']} entries. Write at least {context['min_length']}"
    if kind == "too_long":
        return f"has too many entries. Write at most {context['max_length']}"
    if kind == "string_pattern_mismatch":
        return "has characters that don't fit. Write letters, digits, '.', '_' and '-', with a letter or digit first"
    return message[:1].lower() + message[1:].rstrip(".")


def _unknown_key(steps: Sequence[str | int], here: type[BaseModel] | None, root: type[BaseModel]) -> str:
    key = str(steps[-1])
    known = sorted(here.model_fields) if here else []
    guess = _guess(key, known)
    if not guess:
        elsewhere = [path for path in _all_paths(root) if path.rpartition(".")[2] == key]
        guess = f"; there is {' and '.join(elsewhere)}" if elsewhere else ""
    return f"no such key{guess}. Known here: {', '.join(known)}"


def _guess(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _in_data(loc: Sequence[str | int], data: Any) -> list[str | int]:
    """The part of pydantic's location that the recipe's author wrote: without the tags of unions."""
    steps: list[str | int] = []
    for index, step in enumerate(loc):
        inside = _inside(data, step)
        is_last = index == len(loc) - 1
        if inside is _MISSING and not is_last and isinstance(data, Mapping) and step in data.values():
            continue  # a union's tag: 'trrd' below 'objective', which the recipe has as 'kind: trrd'
        steps.append(step)
        data = inside
    return steps


def _inside(data: Any, step: str | int) -> Any:
    if isinstance(data, Mapping):
        return data.get(step, _MISSING)
    if isinstance(data, list | tuple) and isinstance(step, int) and step < len(data):
        return data[step]
    return _MISSING


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _annotation_at(root: type[BaseModel], loc: Sequence[str | int]) -> Any:
    annotation: Any = root
    for step in loc:
        models = list(_models_in(annotation))
        tagged = [
            m for m in models if any(f.default == step for n, f in m.model_fields.items() if n == "kind")
        ]
        if isinstance(step, int):
            continue
        if len(models) > 1:
            annotation = tagged[0] if tagged else annotation
        elif models and step in models[0].model_fields:
            annotation = models[0].model_fields[step].annotation
    return annotation


def _model_at(root: type[BaseModel], loc: Sequence[str | int]) -> type[BaseModel] | None:
    models = list(_models_in(_annotation_at(root, loc)))
    return models[0] if len(models) == 1 else None


def _tags(annotation: Any) -> str:
    return ", ".join(str(model.model_fields["kind"].default) for model in _models_in(annotation))


def _all_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        is_list = "tuple" in str(field.annotation).lower()
        for child in _models_in(field.annotation):
            yield from _all_paths(child, f"{prefix}{name}.{'0.' if is_list else ''}")


def _hashable(value: Any) -> bool:
    return getattr(type(value), "__hash__", None) is not None


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, int | float) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
