"""Fields of several kinds, such as a number or one for each task: pydantic refuses a value once for each.

Each time it puts its own name of the kind into the location, which nobody has written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

_OTHER_KIND = ("literal_error", "int_from_float", "is_instance_of")
"""Beside pydantic's many ``..._type``: a value that is of another kind, and not a wrong one of this."""
KEY = "[key]"
"""Pydantic's word behind a name that is refused itself."""


def kinds_in(root: type[BaseModel], loc: Sequence[str | int]) -> list[int]:
    """The places of a location that name a kind of a field, rising."""
    found: list[int] = []
    kinds: list[Any] = [root]
    for place, step in enumerate(loc):
        plain = [each for kind in kinds for each in _plain(kind)]
        if any(len(_members(each)) > 1 for each in plain):
            found.append(place)
            kinds = [member for each in plain for member in _members(each)]
        else:
            kinds = [inner for each in plain for inner in _inside(each, step)]
    return found


def best_fit(branches: Sequence[Sequence[ErrorDetails]], at: int) -> int | None:
    """Which kind a refused value was meant as: the first that it is of, though a wrong one.

    Args:
        branches: what was found for each kind.
        at: place of the kinds in their locations.

    Returns:
        Its place among the branches; None where the value is of no kind.
    """
    for place, found in enumerate(branches):
        if not all(len(each["loc"]) == at + 1 and _is_of_another(each["type"]) for each in found):
            return place
    return None


def _is_of_another(kind: str) -> bool:
    return kind.endswith("_type") or kind in _OTHER_KIND


def _plain(kind: Any) -> Iterator[Any]:
    """Without annotations, and without null where that is all that a field may be besides."""
    if get_origin(kind) is Annotated:
        yield from _plain(get_args(kind)[0])
    elif len(members := _members(kind)) == 1 and members[0] is not kind:
        yield from _plain(members[0])
    else:
        yield kind


def _members(kind: Any) -> list[Any]:
    if get_origin(kind) in (Union, UnionType):
        return [each for each in get_args(kind) if each is not NoneType]
    return [kind]


def _inside(kind: Any, step: str | int) -> Iterator[Any]:
    """What a value of this kind has at a step of the location."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if step in kind.model_fields:
            yield kind.model_fields[str(step)].annotation
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        yield arguments[1]
    elif isinstance(origin, type) and isinstance(step, int):
        yield from (each for each in arguments if each is not Ellipsis)
