"""What the command's words are printed on."""

from rich.console import Console

# Without emoji: a place such as file.py:x: is no picture.
out = Console(highlight=False, emoji=False)
err = Console(stderr=True, highlight=False, emoji=False)


def complain(error: object) -> None:
    """A refusal, as it is."""
    err.print(str(error), markup=False, soft_wrap=True)
