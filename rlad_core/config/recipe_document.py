"""The page of all recipe fields: `python -m rlad_core.config.recipe_document > docs/recipe.md`."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from rlad_core.config.run import RunConfig
from rlad_core.page_tables import table
from rlad_core.sections.chosen import Chosen
from rlad_core.sections.problems import shown

_HEAD: Final = """\
# Fields of a recipe

<!-- Written by `python -m rlad_core.config.recipe_document`; edit what the fields themselves say. -->

A recipe is a YAML file. `rlad plan RECIPE` prints it with every default; `--set policy.max_length=8192`
changes a field, and one in a list by its number, `--set stages.0.steps=5`. `extends: NAME` takes what it does
not say from another recipe, of the same folder or shipped. Paths in the file are relative to it. What has no
default is needed. A task, an objective or a teacher of your own has the fields of its class, see
[extending](extending.md).
"""
_ENVIRONMENT: Final = {
    "RAY_ADDRESS": "The Ray cluster to join where `cluster.address` is null.",
    "RLAD_MODELS": "A folder with models as OWNER/NAME, which hub ids then mean before the hub itself.",
    "RLAD_TRACEBACK": "1: a fault ends a command with Python's traceback.",
    "RLAD_API_TOKENS, RLAD_API_TOKENS_FILE": "Tokens that callers of services must send; a file of them.",
    "HF_ENDPOINT, HF_HUB_OFFLINE": "The hub that models come from; 1: it is not asked.",
    "HF_TOKEN, HF_TOKEN_PATH": "The hub's token, or the file that holds it.",
    "HTTPS_PROXY, HTTP_PROXY, NO_PROXY": "Proxies for URLs, and the hosts that are asked without one.",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "The collector that spans are sent to, see `telemetry.traces`.",
}
_PLAIN: Final[Mapping[Any, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Any: "any value",
    type(None): "null",
}
_BOUNDS: Final = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def markdown() -> str:
    """The text of docs/recipe.md."""
    lines = [_HEAD, *_table(RunConfig.model_fields)]
    for name, field in RunConfig.model_fields.items():
        lines += _sections(name, name, _kinds(field.annotation, field.metadata), 2)
    rows = ((f"`{'`, `'.join(names.split(', '))}`", text) for names, text in _ENVIRONMENT.items())
    lines += ["", "## Environment", "", *table(("variable", "what it says"), rows)]
    return "\n".join([*lines, ""])


def _sections(path: str, title: str, kinds: Mapping[str, type[BaseModel]], level: int) -> Iterator[str]:
    """Tables of a field's section, one for each class that it may be of, and of the sections in it.

    Args:
        path: of the field.
        title: of its part of the page.
        kinds: the classes by what the recipe says to choose one; of a single one that is empty.
    """
    if not kinds or title in ("teachers", "reference", "tasks"):  # as the field before, which is one of them
        return
    everywhere = _common(list(kinds.values())) if len(kinds) > 1 else {}
    yield from ("", f"{'#' * level} `{title}`", "")
    if len(kinds) > 1:
        yield from _table(everywhere)
    for said, kind in kinds.items():
        own = {name: field for name, field in kind.model_fields.items() if name not in everywhere}
        if said and own:
            yield from ("", f"{'#' * (level + 1)} `{title}` with `{said}`", "")
        yield from _table(own)
        for name, field in own.items():
            inner = _kinds(field.annotation, field.metadata)
            below = f"{path}.{name}"
            yield from _sections(below, f"{below} ({said})" if said else below, inner, level + 1 + bool(said))


def _common(kinds: Sequence[type[BaseModel]]) -> dict[str, FieldInfo]:
    """Fields that all have, and that mean the same there."""
    first, *others = kinds
    return {
        name: field
        for name, field in first.model_fields.items()
        if not _kinds(field.annotation, field.metadata)
        and all(
            name in other.model_fields and _row(name, other.model_fields[name]) == _row(name, field)
            for other in others
        )
    }


def _kinds(annotation: Any, metadata: Sequence[Any] = ()) -> dict[str, type[BaseModel]]:
    """The classes of the sections that a field holds, by what chooses one; none: it holds a value."""
    if chosen := next((each for each in metadata if isinstance(each, Chosen)), None):
        return {f"{chosen.key}: {name}": kind for name, kind in chosen.known.items()}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {"": annotation}
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _kinds(inner, more)
    found: dict[str, type[BaseModel]] = {}
    for each in get_args(annotation) if get_origin(annotation) is not Literal else ():
        found |= _kinds(each)
    return found


def _table(fields: Mapping[str, FieldInfo]) -> list[str]:
    rows = (_row(name, field) for name, field in fields.items())
    return table(("field", "value", "default", "what it says"), rows)


def _row(name: str, field: FieldInfo) -> tuple[str, str, str, str]:
    default = "" if field.is_required() else _default(field.get_default(call_default_factory=True))
    return f"`{name}`", _type(field.annotation, field.metadata), default, field.description or ""


def _default(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "as below"
    return f"`{shown(list(value) if isinstance(value, tuple) else value)}`"


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A field's type in words, with its bounds."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in _PLAIN:
        bounds = (
            f"{sign} {bound}"
            for name, sign in _BOUNDS.items()
            for each in metadata
            if (bound := getattr(each, name, None)) is not None
        )
        return " ".join([_PLAIN[annotation], " and ".join(bounds)]).strip()
    if origin is Annotated:
        inner, *more = arguments
        return _type(
            inner, [*more, *(each for one in more if isinstance(one, FieldInfo) for each in one.metadata)]
        )
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(each) for each in arguments)
    if origin is tuple:
        return f"list of: {_type(arguments[0])}"
    if origin is dict:
        return f"mapping to: {_type(arguments[1])}"
    return "section"


if __name__ == "__main__":
    print(markdown(), end="")
