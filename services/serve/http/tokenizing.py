"""`/v1/tokenize` and `/v1/detokenize`: a model's tokens, their strings, and where in the text they stand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Request, Response
from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from pydantic import BaseModel, Field

from services.serve import here
from services.serve.http.bodies import Body, documents, json_answer
from services.serve.http.health import Intake
from services.serve.http.json_forms import TokenIds, invalid, one_of, to_form
from services.serve.http.problems import ProblemError
from services.serve.http.texts import Message, PromptIn, Reader, check_one_given
from services.serve.token_texts import Pieces, TokenTexts, spans_in

_MOST_MESSAGES = 4096


class TokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """A text, or a chat that the model's chat template makes one."""

    text: (
        Annotated[str, Meta(min_length=1, description="As it is; no special token is added.")] | UnsetType
    ) = UNSET
    messages: (
        Annotated[list[Message], Meta(min_length=1, description="With the beginning of the model's turn.")]
        | UnsetType
    ) = UNSET

    def __post_init__(self) -> None:
        check_one_given(self, "text", "messages")


class DetokenizeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Token ids."""

    token_ids: Annotated[Raw, TokenIds]


class Tokens(BaseModel):
    """A text and its tokens."""

    text: str = Field(
        description="As it was sent, or as the chat template made it; of token ids, what they decode to."
    )
    token_ids: list[int]
    tokens: list[str] = Field(
        description="What each stands for; one that is a part of a character is shown as bytes:\\x..."
    )
    offsets: list[Annotated[list[int], Field(min_length=2, max_length=2)]] = Field(
        description="Of each the first character of `text`, and the one behind its last; a part of a "
        "character has the place of the whole."
    )
    count: int


@dataclass(frozen=True)
class _Tokenizing:
    reader: Reader
    texts: TokenTexts
    intake: Intake
    max_body_bytes: int


def serve_tokens(reader: Reader, texts: TokenTexts, intake: Intake, max_body_bytes: int) -> None:
    """To be called once in a replica."""
    here.keep(_Tokenizing(reader, texts, intake, max_body_bytes))


def add_tokenizer_routes(app: FastAPI) -> None:
    """Give a service's application the two routes."""
    form = Annotated[TokenizeRequest, Meta(extra_json_schema=one_of(("text", "messages")))]
    for path, route, asked, example in (
        ("/v1/tokenize", tokenize, form, {"text": "Mia is a knight."}),
        ("/v1/detokenize", detokenize, DetokenizeRequest, {"token_ids": [11, 12, 13]}),
    ):
        documented: dict[str, Any] = documents(asked, Tokens, example, arrow=False)
        app.add_api_route(path, route, methods=["POST"], **documented)


async def tokenize(request: Request) -> Response:
    """The token ids of a text or a chat, with their strings and places."""
    return await _worked_on(_tokenized, request)


async def detokenize(request: Request) -> Response:
    """The text of token ids, with the string and place of each."""
    return await _worked_on(_detokenized, request)


async def _worked_on(how: Callable[[Body, Reader, TokenTexts], Response], request: Request) -> Response:
    its = here.part(_Tokenizing)
    async with its.intake.admit(request, its.max_body_bytes) as body:
        return await its.intake.read(how, _json(body), its.reader, its.texts)


def _tokenized(body: Body, reader: Reader, texts: TokenTexts) -> Response:
    asked = to_form(body.content, TokenizeRequest, 1 + _MOST_MESSAGES)
    if isinstance(asked.text, str):
        text, ids = asked.text, reader.text(asked.text, "text").tolist()
    else:
        ids = reader.prompt(PromptIn(messages=asked.messages), "").tolist()
        chat = [msgspec.structs.asdict(message) for message in asked.messages or []]
        text = reader.chat.text(reader.tokenizer, chat)
    spans = spans_in(reader.encoder, text, ids)
    pieces = texts.pieces(ids) if spans is None else Pieces(text, texts.names(ids, first=True), spans)
    return _told(ids, pieces, body)


def _detokenized(body: Body, reader: Reader, texts: TokenTexts) -> Response:
    asked = to_form(body.content, DetokenizeRequest, 1)
    ids = reader.ids(asked.token_ids, "token_ids").tolist()
    for place, token_id in enumerate(ids):
        if not texts.is_token(token_id):
            raise invalid(
                f"token_ids[{place}]",
                f"{token_id} is no token; the vocabulary has ids 0..{texts.highest}",
            )
    return _told(ids, texts.pieces(ids), body)


def _told(ids: list[int], pieces: Pieces, body: Body) -> Response:
    told = {
        "text": pieces.text,
        "token_ids": ids,
        "tokens": pieces.tokens,
        "offsets": pieces.spans,
        "count": len(ids),
    }
    return json_answer(told, body)


def _json(body: Body) -> Body:
    if body.encoding != "json":
        raise ProblemError(415, "Unsupported media type", "send application/json here")
    return body
