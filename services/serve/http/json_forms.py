"""JSON bodies as typed forms, read by msgspec: strictly, and no further than the first fault.

What is wrong costs less than what is right: nothing is built after the first fault, and none of a body that
holds more objects than a request may have. Long lists of token ids stay the bytes that they are
(`msgspec.Raw`) until `token_ids` makes an array of one; as Python integers they would take ten times as much.
"""

import re
from codecs import getincrementaldecoder
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Raw, Struct

from rlad_core.client.errors import LimitError
from services.serve.http.counting import objects_in
from services.serve.http.problems import Fault, ProblemError, shortened

Form = TypeVar("Form", bound=Struct)

_TITLE = "The request cannot be worked on"
_HIGHEST = 2**31 - 1
_IDS = msgspec.json.Decoder(Annotated[list[Annotated[int, Meta(ge=0, le=_HIGHEST)]], Meta(min_length=1)])
_TOKENS = msgspec.json.Decoder(list[int])
_NUMBERS = msgspec.json.Decoder(list[int | float])
_LISTS = Annotated[list[Raw], Meta(min_length=1)]
_NO_LIST_FIRST = re.compile(rb"\s*\[\s*[^\[\],\s]")
_NO_LIST = re.compile(rb"\]\s*,\s*[^\[\],\s]")  # behind a list; no list of numbers has that within
_FIELD = re.compile(r"Object (?:missing required|contains unknown) field `(.{1,64})`$", re.DOTALL)
_NAMED = re.compile(r"([a-z][a-z0-9_]*): (.+)", re.DOTALL)
"""What a form says of several of its fields together: the field at fault comes first."""
_ELEMENT = re.compile(r"^\[(\d+)\]")
_PLACE = " - at `$"
_PIECE, _SHOWN_BYTES = 2**16, 40


def to_form(content: bytes, form: type[Form], max_objects: int) -> Form:
    """A JSON body as `form`.

    Args:
        max_objects: that a request may hold, of all kinds.

    Raises:
        LimitError: it holds more.
        ProblemError: 400 no JSON, 422 not of the documented form; says where.
    """
    if objects_in(content, max_objects) > max_objects:
        raise LimitError(
            "objects", f"the body has more than {max_objects} objects, the most that a request may hold"
        )
    return decode(content, form, "")


def decode(content: bytes | Raw, kind: Any, where: str, first: int = 0) -> Any:
    """JSON as a type.

    Args:
        where: its place in the request, for errors.
        first: of a list that is the rest of another one, the number that its first element has there.

    Raises:
        ProblemError: see `to_form`.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(*_told(str(error), where, first)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        match error:
            case RecursionError():
                said = "too many levels"
            case UnicodeDecodeError():
                said = _no_utf8(bytes(content))
            case _:
                said = str(error)
        raise ProblemError(400, "The body cannot be read", f"Invalid JSON: {said}") from error


def _no_utf8(text: bytes) -> str:
    """Which byte is no UTF-8, by what stands before it; msgspec counts from where its string begins."""
    decoder = getincrementaldecoder("utf-8")()  # as characters all of it may take four times its bytes
    for start in range(0, len(text), _PIECE):
        before = start - len(decoder.getstate()[0])
        try:
            decoder.decode(text[start : start + _PIECE], final=start + _PIECE >= len(text))
        except UnicodeDecodeError as error:
            place = before + error.start
            shown = text[max(0, place - _SHOWN_BYTES) : place].decode(errors="replace")
            return f"byte 0x{text[place]:02x} behind {shown!r} is no UTF-8"
    return "it is no UTF-8"


def token_ids(raw: Raw, where: str, most: int, vocab_size: int) -> npt.NDArray[np.int32]:
    """A list of token ids: int32 [tokens].

    Args:
        where: its place in the request, for errors.
        most: tokens that it may have; counted before they are read.
        vocab_size: that the model has.

    Raises:
        ProblemError: 422, no list of the model's token ids, an empty one, or one that is too long.
    """
    if (count := bytes(raw).count(b",") + 1) > most:
        raise invalid(where, f"has {count} tokens, and {most} are the most")
    try:
        ids = np.array(_IDS.decode(raw), dtype=np.int32)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        ids = _looked_at(raw, where)
    if (unknown := np.flatnonzero(ids >= vocab_size)).size:
        raise invalid(
            f"{where}[{unknown[0]}]",
            f"{ids[unknown[0]]} is no token; the vocabulary has ids 0..{vocab_size - 1}",
        )
    return ids


def _looked_at(raw: Raw, where: str) -> npt.NDArray[np.int32]:
    """`token_ids` that are written as other numbers, or are none: read again, to say which one is wrong."""
    try:
        ids = np.array(_integers(raw), dtype=np.int64)
    except msgspec.ValidationError as error:
        raise invalid(*_told(str(error), where)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(400, "The body cannot be read", f"Invalid JSON: {where}: {error}") from error
    except OverflowError as error:
        raise invalid(where, f"token ids are from 0 to {_HIGHEST}") from error
    if not ids.size:
        raise invalid(where, "Expected `array` of length >= 1")
    if (wrong := np.flatnonzero((ids < 0) | (ids > _HIGHEST))).size:
        raise invalid(f"{where}[{wrong[0]}]", f"{ids[wrong[0]]} is no token id from 0 to {_HIGHEST}")
    return ids.astype(np.int32)


def lists_in(raw: Raw, where: str) -> list[Raw]:
    """The lists in a list, of which none is read further.

    They are not counted here: who asks has done so, by the ``[`` of the whole.

    Args:
        where: its place in the request, for errors.

    Raises:
        ProblemError: see `to_form`; 422 also where something in it is no list. That is seen before anything
            is built: each would take tens of times its bytes.
    """
    content = bytes(raw)
    if wrong := _NO_LIST_FIRST.match(content) or _NO_LIST.search(content):
        # What comes before it is flat, or no list of lists of numbers anyway.
        raise invalid(f"{where}[{content.count(b']', 0, wrong.end())}]", "Expected `array`")
    found: list[Raw] = decode(raw, _LISTS, where)
    return found


def _integers(raw: Raw) -> list[int]:
    try:
        return _TOKENS.decode(raw)
    except msgspec.ValidationError:
        # 5.0 is an integer to JSON Schema, and to clients that know no other numbers.
        numbers = _NUMBERS.decode(raw)
        if not all(number == int(number) for number in numbers):
            raise
        return [int(number) for number in numbers]


def invalid(where: str, what: str) -> ProblemError:
    """The refusal of a request that is readable and cannot be worked on."""
    path = where or "(body)"
    return ProblemError(422, _TITLE, f"{path}: {what}", [Fault(path=path, message=what)])


Whole = Annotated[int, Meta(ge=0, lt=2**31)] | Annotated[float, Meta(ge=0, lt=2**31, multiple_of=1)]
"""A number from 0 on, also one written 5.0, which to JSON Schema is an integer. To be read with `int`."""

TokenIds = Meta(
    extra_json_schema={
        "type": "array",
        "items": {"type": "integer", "minimum": 0, "maximum": _HIGHEST},
        "minItems": 1,
    }
)
"""What the OpenAPI document says of a `Raw` that `token_ids` reads."""
ListsOfTokenIds: dict[str, Any] = {"type": "array", "items": TokenIds.extra_json_schema, "minItems": 1}
"""What it says of one that `lists_in` reads."""


def one_of(*groups: tuple[str, ...]) -> dict[str, Any]:
    """For the OpenAPI document: exactly one of each group of fields is given."""
    return {
        "allOf": [{"oneOf": [{"required": [name]} for name in names]} for names in groups],
    }


def needs(field: str, other: str) -> dict[str, Any]:
    """For the OpenAPI document: the one field is given with the other alone."""
    return {"anyOf": [{"not": {"required": [field]}}, {"required": [other]}]}


def _told(message: str, where: str, first: int = 0) -> tuple[str, str]:
    """Where in the request msgspec found a fault, and which. It quotes unknown names and values whole, which
    may be all of the body: nothing more is made of them than is told.
    """
    # Behind the last mark: what is quoted may hold one too.
    what, mark, place = message.rpartition(_PLACE)
    what, path = (what, place.removesuffix("`")) if mark and place.endswith("`") else (message, "")
    what, path = shortened(what), shortened(path)
    path = where + _ELEMENT.sub(lambda place: f"[{int(place[1]) + first}]", path)
    if field := _FIELD.match(what):
        path += f".{field[1]}"
    elif named := _NAMED.fullmatch(what):
        path, what = f"{path}.{named[1]}", named[2]
    return path.removeprefix("."), what
