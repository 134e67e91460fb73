"""What ``rlad run``, ``serve`` and ``evaluate`` need and ``pip install rlad`` alone does not bring.

The client, ``rlad plan``, ``rlad report`` and ``rlad doctor`` do without it, so it is looked for here and not
imported.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the doctor, which wants a text below, does without a recipe
    from rlad_core.config import RunConfig

INSTALL = "pip install 'rlad[cpu]', or 'rlad[gpu]' on a machine with NVIDIA GPUs"
_NAMES = {"ray": "Ray", "torch": "torch", "vllm": "vLLM"}


def missing() -> list[str]:
    """Those of Ray, torch and vLLM that are not installed."""
    return [name for module, name in _NAMES.items() if find_spec(module) is None]


def needs_services() -> None:
    """Say what to install and end the command, where what the services run on is not installed.

    Raises:
        typer.Exit: with code 2.
    """
    if not (absent := missing()):
        return
    import typer  # here, so that the doctor, which wants the text above, does without it

    *others, last = absent
    names = f"{', '.join(others)} and {last}" if others else last
    verb = "are" if others else "is"
    # Not through a rich console, which would take [cpu] for a style.
    typer.echo(f"This command needs {names}, which {verb} not installed here: {INSTALL}.", err=True)
    raise typer.Exit(2)


def needs_extras(config: RunConfig) -> None:
    """Say what to install and end the command, where the recipe's learner wants a library that is not here.

    A cluster that is joined has its own.

    Raises:
        typer.Exit: with code 2.
    """
    learner = config.learner
    wanted = {
        "learner.lora": ("peft", "lora", learner.lora is not None),
        "learner.optimizer adamw_8bit": ("torchao", "memory", learner.optimizer == "adamw_8bit"),
        "learner.logprobs fused": ("cut_cross_entropy", "fused", learner.logprobs == "fused"),
    }
    absent = {
        what: (module, extra)
        for what, (module, extra, is_wanted) in wanted.items()
        if is_wanted and find_spec(module) is None
    }
    if not absent or config.cluster.is_joined:
        return
    import typer

    for what, (module, extra) in absent.items():
        typer.echo(
            f"{what} needs {module}, which is not installed here: pip install 'rlad[{extra}]'.", err=True
        )
    raise typer.Exit(2)
