"""What checks options of the benchmarks: a name that none knows would measure something else, or nothing."""

from collections.abc import Callable, Collection
from typing import Any

import typer


def names_of(known: Collection[str], *, between: str = ", ") -> Callable[[Any], Any]:
    """What checks an option that is one of these names, or several of them; none is fine too.

    Args:
        between: known names, where they are told.
    """

    def check(given: str | list[str] | None) -> str | list[str] | None:
        for name in [given] if isinstance(given, str) else given or ():
            if name and name not in known:
                raise typer.BadParameter(f"{name!r} is none of {between.join(known)}")
        return given

    return check


def lengths_of(*kinds: str) -> Callable[[str], str]:
    """What checks an option that is one of these, or a number of tokens."""

    def check(given: str) -> str:
        if given not in kinds and not (given.isdecimal() and int(given)):
            raise typer.BadParameter(f"{given!r} is none of {', '.join(kinds)}, and no number of tokens")
        return given

    return check
