"""Options that commands which ask models have in common."""

from collections.abc import Callable
from typing import Annotated

import typer

from rlad_core.sections.addresses import address_of

KeyEnv = Annotated[str, typer.Option(metavar="VARIABLE", help="Environment variable with the key for URLs.")]
TopP = Annotated[float, typer.Option(min=0.01, max=1, help="Share of the distribution.")]
Temperature = Annotated[float, typer.Option(min=0, help="0: the likeliest token each time.")]
MaxLength = Annotated[
    int | None,
    typer.Option(min=2, help="Tokens of prompt and response; by default the model's, at most 4096."),
]
MaxResponseLength = Annotated[
    int | None, typer.Option(min=1, help="Tokens of a response; by default what the prompt leaves.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the sampling.")]
Gpus = Annotated[int | None, typer.Option(min=0, help="Of one model together; by default all. 0: CPUs.")]
TensorParallel = Annotated[int, typer.Option(min=1, help="GPUs that one replica spans.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests at a time to URLs.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds for one response.")]
StartTimeout = Annotated[
    float, typer.Option("--start-timeout", min=1, help="Seconds until a model must be up.")
]


def refuse_odd_url(option: str, url: str, address: Callable[[str], str] = address_of) -> None:
    """Raises typer.BadParameter: an address that nothing can be asked at, before anything is read."""
    try:
        address(url)
    except ValueError as error:
        raise typer.BadParameter(f"{url} {error}", param_hint=option) from error
