"""What ``rlad run``, ``serve`` and ``evaluate`` need and ``pip install rlad`` alone does not bring.

The client, ``rlad plan``, ``rlad report`` and ``rlad doctor`` do without it, so it is looked for here and not
imported.
"""

from importlib.util import find_spec

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
