"""What this process's replica has, for functions of their own, such as the routes that services share.

Serve copies an application with its routes before there is a replica, so they cannot be its methods. Of each
kind a process has one.
"""

from typing import Any, TypeVar

Part = TypeVar("Part")

_parts: dict[type[Any], Any] = {}


def keep(part: object) -> None:
    """To be called once in a replica for each kind; another one takes the place of the first."""
    _parts[type(part)] = part


def look(kind: type[Part]) -> Part | None:
    """The replica's; None: it has none, or not yet."""
    found: Part | None = _parts.get(kind)
    return found


def part(kind: type[Part]) -> Part:
    """The replica's.

    Raises:
        RuntimeError: it has none; names the kind.
    """
    if (found := look(kind)) is None:
        raise RuntimeError(f"no {kind.__name__} is kept in this process: a replica does so as it begins")
    return found
