"""Two collections in which each member of the one has a member of its own in the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")


def paired(wanted: Iterable[Item], given: Iterable[Item], same: Callable[[Item, Item], bool]) -> bool:
    """Whether each wanted item has one of its own among those given, in any order, and none is left over."""
    rest = list(given)
    for one in wanted:
        found = next((place for place, other in enumerate(rest) if same(one, other)), None)
        if found is None:
            return False
        del rest[found]
    return not rest
