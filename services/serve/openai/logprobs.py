"""Log-probs by token string, as completions tell them."""

from collections.abc import Sequence

from services.serve.http.json_forms import invalid
from services.serve.token_texts import TokenTexts


def check_top(field: str, count: int, most: int) -> None:
    """Refuse to tell more of the likeliest tokens than a service does.

    Args:
        field: of the request.
        most: the service's `limits.max_top_k`.

    Raises:
        ProblemError: 422.
    """
    if count > most:
        raise invalid(field, f"{count} is over {most}, the most told here (limits.max_top_k)")


def by_name(
    token_id: int,
    name: str,
    logprob: float,
    top_ids: Sequence[int],
    top_logprobs: Sequence[float],
    texts: TokenTexts | None,
) -> dict[str, float]:
    """A place's entry of ``top_logprobs``: the token that stands there, and the likeliest ones.

    Two tokens may be written alike: the other one goes by its id then, and does not hide the one that stands
    there.

    Args:
        token_id, name, logprob: of the token that stands there.
        top_ids, top_logprobs: likeliest first; the token may be among them.
        texts: names the others; None: by their ids.
    """
    told = {name: logprob}
    for other, its in zip(top_ids, top_logprobs, strict=True):
        if other == token_id:
            continue
        called = by_id(other) if texts is None else texts.name(other)
        told[by_id(other) if called in told else called] = its
    return told


def by_id(token_id: int) -> str:
    """A token's name where names by id are asked for, as vLLM's server has it."""
    return f"token_id:{token_id}"
