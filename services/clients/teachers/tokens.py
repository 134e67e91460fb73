"""With what remote teachers are asked: tokens that the recipe does not hold itself."""

from rlad_core.client.bearer import token_from
from rlad_core.config import RemoteTeacher, RunConfig


def teacher_tokens(config: RunConfig) -> dict[str, str]:
    """Bearer tokens of the remote teachers that the run asks, by their place in the recipe.

    Raises:
        ValueError: a token is not where the recipe says; names the teacher.
    """
    tokens: dict[str, str] = {}
    for place, settings in config.scorers.items():
        if not isinstance(settings, RemoteTeacher):
            continue
        try:
            token = token_from(settings.token_env, settings.token_file)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if token is not None:
            tokens[place] = token
    return tokens
