"""What is asked besides log-probs: by a request's query, by its body, and by both together.

Each field may stand in either: a body may say how precise the hidden states shall be that the query asks for.
Only a field that has one value here and another there is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Raw, UnsetType

from rlad_core.client.details import Details
from services.serve.http.json_forms import Whole, decode, invalid
from services.teacher.forms import MOST_END_TOKENS, DetailsQuery, ScoreSettings

_LISTS = ("end_token_ids", "details")


def in_query(query: Mapping[str, list[str]]) -> DetailsQuery:
    """What the query of a URL says, and no more than that (`model_fields_set`).

    Raises:
        pydantic.ValidationError: a value that is none; the route has refused it before.
    """
    given = {name: values if name in _LISTS else values[-1] for name, values in query.items()}
    return DetailsQuery.model_validate(given)


def asked_for(body: ScoreSettings, query: DetailsQuery) -> Details:
    """What body and query ask for together.

    Raises:
        ProblemError: 422, a field has one value here and another there; or no end tokens, or too many.
    """
    here, there = _in_body(body), {name: getattr(query, name) for name in query.model_fields_set}
    for name in here.keys() & there.keys():
        if here[name] != there[name]:
            raise invalid(name, f"{here[name]} in the body, and {there[name]} in the query; leave out one")
    return DetailsQuery.model_construct(**(there | here)).asked


def _in_body(body: ScoreSettings) -> dict[str, Any]:
    """The fields that it has, as `DetailsQuery` holds them."""
    as_there: dict[str, Callable[[Any], Any]] = {
        "top_k": int,
        "end_token_ids": _end_tokens,
        "details": lambda named: [named] if isinstance(named, str) else named,
    }
    given = {name: getattr(body, name) for name in DetailsQuery.model_fields}
    return {
        name: as_there[name](value) if name in as_there else value
        for name, value in given.items()
        if not isinstance(value, UnsetType)
    }


def _end_tokens(given: Raw) -> list[int]:
    """Counted before they are built."""
    if (count := bytes(given).count(b",") + 1) > MOST_END_TOKENS:
        raise invalid("end_token_ids", f"has {count} ids, and {MOST_END_TOKENS} are the most")
    return [int(token_id) for token_id in decode(given, list[Whole], "end_token_ids")]
