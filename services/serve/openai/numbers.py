"""Whole numbers in the forms of other tools. 5.0 is one, too: so says JSON Schema, and so write clients that
know no other numbers. Forms have them as integers, once they are read (`as_integers`).
"""

from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, Struct


def _whole(least: int, most: int) -> Any:
    # The upper bound is exact where numbers are floats, as in the documents: what is no power of two would be
    # rounded where it is large. Of integers msgspec takes none that has more than 63 bits.
    below = {"exclusiveMaximum": most + 1} if most >= 2**53 else {}
    return (
        Annotated[int, Meta(ge=least, le=most, extra_json_schema=below or None)]
        | Annotated[float, Meta(ge=least, lt=most + 1, multiple_of=1)]
    )


if TYPE_CHECKING:
    Zero = int
    One = int
    ZeroOrLess = int
    ZeroOrOne = int
    Count = int
    Positive = int
    TopCount = int
    BestOf = int
    Seed = int
    AnyCount = int
    AnyWhole = int
else:
    Zero, One, ZeroOrLess, ZeroOrOne = _whole(0, 0), _whole(1, 1), _whole(-1, 0), _whole(0, 1)
    Count, Positive = _whole(0, 2**31 - 1), _whole(1, 2**31 - 1)
    TopCount = _whole(0, 20)  # likeliest tokens at a place: as many as OpenAI's API tells
    BestOf = _whole(1, 20)  # as many as OpenAI's API takes
    Seed = _whole(0, 2**63 - 1)
    AnyCount = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0, multiple_of=1)]
    AnyWhole = int | Annotated[float, Meta(multiple_of=1)]


def as_integers(form: Struct, fractions: frozenset[str] = frozenset()) -> None:
    """Make the whole numbers of a form that was read integers.

    Args:
        fractions: fields that are numbers of the other kind.
    """
    for name in form.__struct_fields__:
        value = getattr(form, name)
        if isinstance(value, float) and name not in fractions:
            setattr(form, name, int(value))
