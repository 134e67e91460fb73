"""Whether a teacher speaks the policy's language, asked once, before a run starts.

Distillation compares log-probs token by token, so both must read the same token ids in the same way: one map
from tokens to ids, the same special tokens, the same chat template, room for the policy's longest sequence. A
known text must become the same tokens on both sides, which one map does not promise, and is then scored: by
its ids, and where our REST interface is asked also as text. Of the policy no score is asked: it is another
model, with others. Nor is one of a teacher that only demonstrates. A padded vocabulary alone is no mismatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.config import HttpTeacher, OpenAITeacher, ServeTeacher, resolve_model
from rlad_core.config import Teacher as TeacherConfig
from services.http.teacher_api import TokenizerInfo, tokenizer_info
from services.teachers import RestTeacher, StockServerTeacher, Teacher
from services.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = [{"role": "user", "content": "Mia is a knight. What is 2 + 2?"}]
REPLY = "Mia is a knight."
_IDS_PER_REQUEST = 1000


class MismatchError(Exception):
    """The teacher cannot teach this policy; says what differs first."""


async def probe(
    place: str, settings: TeacherConfig, teacher: Teacher | None, policy_folder: str, max_length: int
) -> None:
    """Compare a run's teacher with its policy.

    Args:
        place: of the teacher in the recipe, for messages.
        teacher: None where it only demonstrates.
        max_length: of the policy.

    Raises:
        MismatchError: they do not fit.
        services.errors.ServiceError, TimeoutError: the teacher does not answer.
    """
    tokenizer = load_tokenizer(policy_folder)
    try:
        await _compare(place, settings, teacher, tokenizer, max_length)
        if teacher is not None:
            await _score_known_text(teacher, tokenizer)
    except MismatchError as error:
        raise MismatchError(f"{place}: {error}") from error


async def _compare(
    place: str,
    settings: TeacherConfig,
    teacher: Teacher | None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> None:
    if isinstance(settings, ServeTeacher):
        theirs = load_tokenizer(resolve_model(settings.model))
        compare_tokenizers(tokenizer_info(tokenizer), tokenizer_info(theirs))
        compare_ids("chat", _chat_ids(tokenizer), _chat_ids(theirs), tokenizer)
        compare_ids("text", _ids(REPLY, tokenizer), _ids(REPLY, theirs), tokenizer)
    elif isinstance(settings, HttpTeacher):
        assert isinstance(teacher, RestTeacher)
        compare_tokenizers(tokenizer_info(tokenizer), await teacher.client.tokenizer())
        compare_lengths(max_length, (await teacher.client.info()).max_model_len)
    elif isinstance(settings, OpenAITeacher):
        assert isinstance(teacher, StockServerTeacher)
        await _compare_stock_server(place, teacher, tokenizer, max_length)


def compare_tokenizers(policy: TokenizerInfo, teacher: TokenizerInfo) -> None:
    """Everything that both must agree in.

    Raises:
        MismatchError: names the first token that differs, by id.
    """
    ours, theirs = _by_id(policy.vocabulary), _by_id(teacher.vocabulary)
    for token_id in sorted(set(ours) | set(theirs)):
        a, b = ours.get(token_id), theirs.get(token_id)
        if a != b:
            raise MismatchError(
                f"token id {token_id} is {_shown(a)} to the policy and {_shown(b)} to the teacher: log-probs "
                "of one mean nothing to the other. Take a teacher of the policy's model family"
            )
    for name in sorted(set(policy.special_tokens) | set(teacher.special_tokens)):
        a, b = policy.special_tokens.get(name), teacher.special_tokens.get(name)
        # Padding never reaches a teacher.
        if a != b and name != "pad_token":
            raise MismatchError(f"{name} is {_shown(a)} to the policy and {_shown(b)} to the teacher")
    if policy.chat_template != teacher.chat_template:
        raise MismatchError(
            "the chat templates of policy and teacher differ"
            f"{_first_difference(policy.chat_template or '', teacher.chat_template or '')}; the teacher "
            "would read prompts in a form it was not trained on. Give both the same chat_template.jinja"
        )


def compare_lengths(wanted: int, taken: int) -> None:
    """The policy's longest sequence fits.

    Raises:
        MismatchError: it does not.
    """
    if wanted > taken:
        raise MismatchError(
            f"policy.max_length is {wanted} and the teacher takes {taken} tokens. Write at most {taken}, or "
            "start the teacher with a larger --max-model-len"
        )


def compare_ids(
    what: str, ours: Sequence[int], theirs: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> None:
    """A text became the same tokens on both sides.

    Args:
        what: the text is.
        tokenizer: the policy's.

    Raises:
        MismatchError: names the first token that differs.
    """
    if list(ours) == list(theirs):
        return
    first = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
        min(len(ours), len(theirs)),
    )
    raise MismatchError(
        f"a known {what} becomes other tokens on the teacher's side, first at token {first}: "
        f"{_named(ours, first, tokenizer)} to the policy, {_named(theirs, first, tokenizer)} to the teacher. "
        "Tokenizer or chat template differ"
    )


async def _compare_stock_server(
    place: str, teacher: StockServerTeacher, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    server = teacher.endpoint
    models = (await server.request("GET", "/v1/models", what="the models that are served")).json()["data"]
    served = {model["id"]: model for model in models}
    if teacher.model not in served:
        raise MismatchError(
            f"{server.url} serves {', '.join(served)}, not {teacher.model!r}; correct {place}.model"
        )
    # The server generates a token that nobody asked for, and counts it.
    compare_lengths(max_length, int(served[teacher.model]["max_model_len"]) - 1)
    await _compare_ids(teacher, tokenizer)
    for what, request, ours in (
        ("chat", {"messages": CHAT}, _chat_ids(tokenizer)),
        ("text", {"prompt": REPLY, "add_special_tokens": False}, _ids(REPLY, tokenizer)),
    ):
        answer = await server.request(
            "POST", "/tokenize", json={"model": teacher.model, **request}, what=f"the token ids of a {what}"
        )
        compare_ids(what, ours, answer.json()["tokens"], tokenizer)


async def _compare_ids(teacher: StockServerTeacher, tokenizer: PreTrainedTokenizerBase) -> None:
    """Every id of the policy's vocabulary stands for the same text; a block that differs is halved."""
    ids = sorted(set(tokenizer.get_vocab().values()))
    blocks = [ids[start : start + _IDS_PER_REQUEST] for start in range(0, len(ids), _IDS_PER_REQUEST)]
    for block in blocks:
        while not await _same_text(teacher, tokenizer, block):
            if len(block) == 1:
                raise MismatchError(
                    f"token id {block[0]} is {_shown(tokenizer.decode(block))} to the policy and something "
                    "else to the teacher. Take a teacher of the policy's model family"
                )
            half = block[: len(block) // 2]
            block = half if not await _same_text(teacher, tokenizer, half) else block[len(half) :]


async def _same_text(teacher: StockServerTeacher, tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> bool:
    answer = await teacher.endpoint.request(
        "POST", "/detokenize", json={"model": teacher.model, "tokens": ids}, what="the text of token ids"
    )
    return bool(answer.json()["prompt"] == tokenizer.decode(ids))


async def _score_known_text(teacher: Teacher, tokenizer: PreTrainedTokenizerBase) -> None:
    prompt, response = _chat_ids(tokenizer), _ids(REPLY, tokenizer)
    table: pa.Table = schema.build(
        schema.SEQUENCES,
        {
            "sequence_id": ["probe"],
            "prompt_token_ids": [prompt],
            "response_token_ids": [response],
        },
        tokenizer_fingerprint=schema.tokenizer_fingerprint(tokenizer.get_vocab()),
    )
    scores = await teacher.score(table)
    logprobs, _ = schema.flatten(scores.column("teacher_logprobs"))
    if logprobs.size != len(response) or not np.isfinite(logprobs).all():
        raise MismatchError(f"the teacher answered {logprobs.tolist()} for a text of {len(response)} tokens")
    if not isinstance(teacher, RestTeacher):
        return
    [as_text] = await teacher.client.score_texts([(CHAT, REPLY)])
    compare_ids("chat", prompt, as_text.prompt_token_ids or [], tokenizer)
    compare_ids("text", response, as_text.response_token_ids or [], tokenizer)
    # With fewer digits they depend on what else is in the batch, and others may be asking too.
    tolerance = 1e-3 if (await teacher.client.info()).dtype == "float32" else 0.1
    if not np.allclose(logprobs, as_text.logprobs, rtol=0, atol=tolerance):
        raise MismatchError(
            f"the teacher says {as_text.logprobs} of a known text, and {logprobs.tolist()} of the same in "
            "token ids: what answers there is not one teacher"
        )


def _chat_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    text = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    return _ids(str(text), tokenizer)


def _ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _by_id(vocabulary: Mapping[str, int]) -> dict[int, str]:
    return {token_id: token for token, token_id in vocabulary.items()}


def _shown(token: str | None) -> str:
    return "nothing" if token is None else repr(token)


def _named(ids: Sequence[int], place: int, tokenizer: PreTrainedTokenizerBase) -> str:
    return f"{ids[place]} ({_shown(tokenizer.decode([ids[place]]))})" if place < len(ids) else "no token"


def _first_difference(ours: str, theirs: str) -> str:
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if place is None:
        return f", one has {abs(len(ours) - len(theirs))} characters more"
    return f", first at {ours[place : place + 20]!r} against {theirs[place : place + 20]!r}"
