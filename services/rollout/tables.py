"""Between Arrow and the sampling engine: prompts checked and taken apart, responses put together."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.errors import InvalidRequestError, RowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def check_end_tokens(stop_token_ids: Sequence[int], vocab_size: int) -> None:
    """End tokens that are asked for are tokens.

    Raises:
        InvalidRequestError: one is not; names it.
    """
    if unknown := [token for token in stop_token_ids if token >= vocab_size]:
        raise InvalidRequestError(
            f"{unknown[0]} is no token; the vocabulary has ids 0..{vocab_size - 1}", "stop_token_ids"
        )


@dataclass(frozen=True, eq=False)
class SampledResponse:
    """One sampled response of T tokens, as the engine gives it.

    Args:
        values: what `rlad_core.schema.TOKEN_VALUES` declares of the policy's engine, by column: [T] each, or
            [T, k] where there are k per token. ``response_token_ids`` end with the end token if the policy
            wrote one.
        finish_reason: "stop" (the policy ended its response) or "length" (it was cut off).
    """

    values: Mapping[str, npt.NDArray[Any]]
    finish_reason: str


def group_seed(seed: int, group_id: str) -> int:
    """Seed of a group's first response; vLLM gives the next responses the next seeds."""
    digest = hashlib.sha256(f"{seed}:{group_id}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def check_prompts(
    prompts: pa.Table, *, tokenizer_fingerprint: str, vocab_size: int, max_model_len: int
) -> None:
    """See that prompts can be answered.

    Args:
        prompts: with columns group_id, prompt_id and ``prompt_token_ids``.
        tokenizer_fingerprint: of the policy.
        vocab_size: token ids are below it.
        max_model_len: a prompt has fewer tokens, so that a response has one at least.

    Raises:
        InvalidRequestError: the first prompt that cannot be; names its group.
    """
    found = schema.fingerprint_of(prompts)
    if found is not None and found != tokenizer_fingerprint:
        raise InvalidRequestError(
            f"the prompts were made with tokenizer {found}, the policy has {tokenizer_fingerprint}: "
            "token ids mean nothing across tokenizers"
        )
    values, offsets = schema.flatten(prompts.column("prompt_token_ids"))
    lengths = np.diff(offsets)
    unfit = (lengths == 0) | (lengths >= max_model_len)
    unfit[np.searchsorted(offsets, np.flatnonzero(values >= vocab_size), side="right") - 1] = True
    if not unfit.any():
        return
    row = int(np.argmax(unfit))
    group = prompts.column("group_id")[row].as_py()
    if not lengths[row]:
        what = "has no token"
    elif (highest := int(values[offsets[row] : offsets[row + 1]].max())) >= vocab_size:
        what = f"holds token id {highest}; the vocabulary has ids 0..{vocab_size - 1}"
    else:
        what = f"has {lengths[row]} tokens and leaves none of max_model_len {max_model_len} for a response"
    raise RowError(f"the prompt of group {group!r} {what}", "prompts", row)


def to_prompt_rows(prompts: pa.Table) -> list[dict[str, Any]]:
    """Prompts as rows of group_id, prompt_id and ``prompt_token_ids``, the last as int32 arrays.

    Args:
        prompts: that passed `check_prompts`.
    """
    rows: list[dict[str, Any]] = prompts.select(["group_id", "prompt_id"]).to_pylist()
    values, offsets = schema.flatten(prompts.column("prompt_token_ids"))
    for row, (start, stop) in zip(rows, pairwise(offsets), strict=True):
        row["prompt_token_ids"] = values[start:stop]
    return rows


def to_rollouts(
    rows: Sequence[dict[str, Any]],
    groups: Sequence[Sequence[SampledResponse]],
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_fingerprint: str,
    *,
    asked: Collection[str] = (),
) -> pa.Table:
    """ROLLOUTS of the groups, in order; ROLLOUT_DETAILS where more was asked for.

    Args:
        rows: of `to_prompt_rows`, one a group.
        groups: the responses to each.
        tokenizer: writes the responses' text.
        asked: columns of ROLLOUT_DETAILS that were.

    Raises:
        SchemaError: the engine left out a value per token, or told one that is not declared.
    """
    samples = [
        (row, index, response)
        for row, responses in zip(rows, groups, strict=True)
        for index, response in enumerate(responses)
    ]
    return _rollouts(samples, tokenizer, tokenizer_fingerprint, asked)


def to_part(
    row: dict[str, Any],
    finished: Sequence[tuple[int, SampledResponse]],
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_fingerprint: str,
    *,
    asked: Collection[str] = (),
) -> pa.Table:
    """The same of some responses of a group, each with its number in the group."""
    samples = [(row, index, response) for index, response in finished]
    return _rollouts(samples, tokenizer, tokenizer_fingerprint, asked)


def _rollouts(
    samples: Sequence[tuple[dict[str, Any], int, SampledResponse]],
    tokenizer: PreTrainedTokenizerBase,
    tokenizer_fingerprint: str,
    asked: Collection[str],
) -> pa.Table:
    values = schema.token_columns("rollout", [response.values for _, _, response in samples], asked=asked)
    responses = values["response_token_ids"]
    # Of no tokens at all it makes one text.
    texts = tokenizer.batch_decode(responses, skip_special_tokens=True) if responses else []
    return schema.build(
        schema.ROLLOUT_DETAILS if asked else schema.ROLLOUTS,
        {
            "group_id": [row["group_id"] for row, _, _ in samples],
            "sample_index": [index for _, index, _ in samples],
            "prompt_id": [row["prompt_id"] for row, _, _ in samples],
            "prompt_token_ids": [row["prompt_token_ids"] for row, _, _ in samples],
            **values,
            "finish_reason": [response.finish_reason for _, _, response in samples],
            "response": texts,
        },
        tokenizer_fingerprint=tokenizer_fingerprint,
    )
