"""What checks options of the benchmarks: a name that none knows would measure something else, or nothing."""

from collections.abc import Callable, Collection
from typing import Annotated, Any

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


def _model(given: str) -> str:
    from rlad_core.config import resolve_model

    try:
        resolve_model(given)
    except ValueError as error:
        raise typer.BadParameter(f"{given!r}: {error}") from error
    return given


Model = Annotated[str, typer.Option(help="A folder, a hub id, or rlad:NAME.", callback=_model)]
"""An option that is a model."""


def device(given: str) -> str:
    """Checks an option that is a device of torch's, which is here."""
    import torch

    kind, _, number = given.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise typer.BadParameter(f"{given!r} is no device. Write cpu, or cuda")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise typer.BadParameter(f"torch {torch.__version__} sees {torch.cuda.device_count()} GPUs here")
    return given


def lengths_of(*kinds: str) -> Callable[[str], str]:
    """What checks an option that is one of these, or a number of tokens."""

    def check(given: str) -> str:
        if given not in kinds and not (given.isdecimal() and int(given)):
            raise typer.BadParameter(f"{given!r} is none of {', '.join(kinds)}, and no number of tokens")
        return given

    return check
