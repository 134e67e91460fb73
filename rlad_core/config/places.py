"""On which nodes of a Ray cluster something may run: by their labels, in Ray's own words."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator

PLACES: Final = "Labels of the Ray nodes that it may run on; none: any node."

# As Ray and Kubernetes have them: another one would be refused where a replica is to start.
_LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]{0,61}[a-zA-Z0-9])?"
_PART: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?"
_NAME: Final = re.compile(rf"(?:(?=[^/]{{1,253}}/){_PART}(?:\.{_PART})*/)?{_LABEL}")
_WANTED: Final = re.compile(rf"!?(?:in)?\({_LABEL}(?:, ?{_LABEL})*\)|!?{_LABEL}|")
_SHAPE: Final = "63 letters, digits, '-', '_' and '.' at most, a letter or digit first and last"


def checked(labels: dict[str, str]) -> dict[str, str]:
    """Labels that nodes can have.

    Raises:
        ValueError: one is none; says what a label is.
    """
    for name, wanted in labels.items():
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"has {name!r}, which is no label: wanted are {_SHAPE}, perhaps behind a domain and "
                "'/'. Write one, such as rlad-role"
            )
        if not _WANTED.fullmatch(wanted):
            raise ValueError(
                f"has {wanted!r} for {name}: wanted are {_SHAPE}. Write them, '!' before what it is not to "
                "be, or in(one, another)"
            )
    return labels


NodeLabels = Annotated[dict[str, str], AfterValidator(checked)]
"""What nodes must have: a label's value by its name."""
