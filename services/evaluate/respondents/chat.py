"""Any OpenAI-compatible endpoint: chat completions over HTTP."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from rlad_core.client import Endpoint, ServiceError
from rlad_core.client.errors import InvalidRequestError
from services.evaluate.respondents.interface import (
    Answer,
    Respondent,
    Sampling,
    Wanted,
    chat_in_words,
    opened_before,
)

# What a limit of the response is called: by most servers, and by OpenAI for its reasoning models.
_LIMITS = ("max_tokens", "max_completion_tokens")
_UNLISTED = (403, 404, 405)
"""What servers answer that serve models and list none."""


class ChatEndpoint(Respondent):
    """Args:
    endpoint: the server, at what `base_of` makes of its URL.
    model: as the server calls it.
    sampling: without `max_tokens` the server decides how long a response may be.
    concurrency: requests under way at a time.
    """

    part = 1

    def __init__(self, endpoint: Endpoint, model: str, sampling: Sampling, concurrency: int) -> None:
        self.at_most = concurrency
        self._endpoint = endpoint
        self._model = model
        self._sampling = sampling
        self._limit = _LIMITS[0]

    @property
    def identity(self) -> dict[str, Any]:
        """See `Respondent.identity`."""
        # Without /v1, as earlier evaluations were kept: what they have is not asked again.
        return {"endpoint": self._endpoint.url.removesuffix("/v1"), "model": self._model}

    async def answer(self, wanted: Sequence[Wanted]) -> list[Answer]:
        """See `Respondent.answer`."""
        return [await self._answer(each) for each in wanted]

    async def close(self) -> None:
        """See `Respondent.close`."""
        await self._endpoint.close()

    async def _answer(self, wanted: Wanted) -> Answer:
        told = await self._ask(wanted)
        try:
            choice = told["choices"][0]
            message = choice["message"]
            # Both may be left out: then nobody knows how long it is, or whether it was cut off.
            tokens = (told.get("usage") or {}).get("completion_tokens")
            finish = choice.get("finish_reason")
            response = _readable(_text(message))
            return Answer(
                chat_in_words(wanted.prompt),
                response,
                opened_before(response),
                str(finish) if finish else None,
                None if tokens is None else int(tokens),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise ServiceError(
                f"{self._endpoint.url} answered no chat completion: {json.dumps(told)[:300]}"
            ) from error

    async def _ask(self, wanted: Wanted) -> dict[str, Any]:
        limit = self._limit
        try:
            return await self._once(wanted, limit)
        except InvalidRequestError as error:
            # OpenAI's reasoning models refuse the one name and say the other.
            if self._sampling.max_tokens is None or _LIMITS[1] not in str(error) or limit == _LIMITS[1]:
                raise
            self._limit = _LIMITS[1]
            return await self._once(wanted, self._limit)

    async def _once(self, wanted: Wanted, limit: str) -> dict[str, Any]:
        sampling = self._sampling
        body: dict[str, Any] = {
            "model": self._model,
            "messages": wanted.prompt.messages,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # Each sample its own; servers that know no seeds read over it.
            "seed": sampling.seed + wanted.sample,
        }
        if sampling.max_tokens is not None:
            body[limit] = sampling.max_tokens
        answer = await self._endpoint.request(
            "POST",
            "/chat/completions",
            json=body,
            what=f"the response to prompt {wanted.prompt.prompt_id}",
        )
        try:
            told = answer.json()
        except ValueError as error:
            raise ServiceError(f"{self._endpoint.url} answered no JSON: {answer.text[:300]}") from error
        if not isinstance(told, dict):
            raise ServiceError(f"{self._endpoint.url} answered no JSON object: {answer.text[:300]}")
        return told


def base_of(url: str) -> str:
    """The URL that the routes are under: as OpenAI's client takes it, and with /v1 where it has no path."""
    base = url.rstrip("/")
    return base if urlsplit(base).path else f"{base}/v1"


async def check_served(url: str, token: str | None, models: Sequence[str]) -> None:
    """Whether the endpoint is there, takes the key and serves these models, as far as it says.

    Args:
        url: see `base_of`.

    Raises:
        ServiceError, TimeoutError: it does not answer, refuses the key, serves others, or is something else
            than such an endpoint; says what.
    """
    async with Endpoint(url, token=token, call_timeout_s=5, timeout_s=10, connections=1) as probe:
        try:
            answer = await probe.request("GET", "/models", what="the models that are served")
        except ServiceError as error:
            if error.status in _UNLISTED:
                return  # not every server lists them, and not to everyone
            raise
    served = _listed(url, answer.text)
    if unknown := [model for model in models if model not in served]:
        raise ServiceError(
            f"{url} serves {', '.join(served[:20])}, not {', '.join(unknown)}; correct --model"
        )


def _listed(url: str, answer: str) -> list[str]:
    """The models in an answer of /models: an object with `data`, or that list alone, as some servers do."""
    try:
        told = json.loads(answer)
        return [str(each["id"]) for each in (told["data"] if isinstance(told, dict) else told)]
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceError(
            f"{url}/models answered no list of models; correct --endpoint. It answered: {answer[:300]}"
        ) from error


def _readable(text: str) -> str:
    """Half a character, as a server leaves it that cuts answers between UTF-16 units, is one that cannot be
    read (U+FFFD): else no table could hold the response, nor the evaluation go on.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(message: dict[str, Any]) -> str:
    """The message, with the thoughts that some servers tell apart from it."""
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    content = message.get("content") or ""
    if isinstance(content, list):  # parts
        content = "".join(str(part.get("text", "")) for part in content)
    return f"<think>{thoughts}</think>{content}" if isinstance(thoughts, str) and thoughts else str(content)
