"""What a teacher is compared with before a run starts, and the comparisons that more than one of them makes.

Distillation compares log-probs token by token, so both must read the same token ids in the same way: one map
from tokens to ids, the same special tokens, the same chat template, room for the policy's longest sequence. A
known text must become the same tokens on both sides, which one map does not promise, and is then scored. Of
the policy no score is asked: it is another model, with others. A padded vocabulary alone is no mismatch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core import schema
from rlad_core.client import TokenizerInfo
from services.base.tokenizer import load_tokenizer, tokenizer_info

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = [{"role": "user", "content": "Mia is a knight. What is 2 + 2?"}]
REPLY = "Mia is a knight."


class MismatchError(Exception):
    """The teacher cannot teach this policy; says what differs first."""


@dataclass(frozen=True)
class PolicyFacts:
    """The policy, as far as a teacher must agree with it.

    Attributes:
        tokenizer: of the policy.
        max_length: tokens of its longest sequence.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int

    @property
    def chat_ids(self) -> list[int]:
        """`CHAT` as the policy is asked it."""
        return chat_ids(self.tokenizer)

    @property
    def reply_ids(self) -> list[int]:
        """`REPLY` as the policy would write it."""
        return text_ids(REPLY, self.tokenizer)

    def known_text(self) -> pa.Table:
        """SEQUENCES of one row, `REPLY` after `CHAT`."""
        return schema.build(
            schema.SEQUENCES,
            {
                "sequence_id": ["probe"],
                "prompt_token_ids": [self.chat_ids],
                "response_token_ids": [self.reply_ids],
            },
            tokenizer_fingerprint=schema.tokenizer_fingerprint(self.tokenizer.get_vocab()),
        )


def check_scores(scores: pa.Table, policy: PolicyFacts) -> npt.NDArray[np.float32]:
    """A teacher's log-probs of the known text.

    Raises:
        MismatchError: they are none.
    """
    logprobs, _ = schema.flatten(scores.column("teacher_logprobs"))
    wanted = len(policy.reply_ids)
    if logprobs.size != wanted or not np.isfinite(logprobs).all():
        raise MismatchError(f"the teacher answered {logprobs.tolist()} for a text of {wanted} tokens")
    return logprobs


def compare_model(policy: PolicyFacts, model: str) -> None:
    """A teacher whose folder or hub id is known here, whether it will score or only demonstrate.

    Raises:
        MismatchError: it reads or writes other tokens than the policy.
    """
    theirs = load_tokenizer(model)
    compare_tokenizers(tokenizer_info(policy.tokenizer), tokenizer_info(theirs))
    compare_ids("chat", policy.chat_ids, chat_ids(theirs), policy.tokenizer)
    compare_ids("text", policy.reply_ids, text_ids(REPLY, theirs), policy.tokenizer)


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
                f"token id {token_id} is {shown(a)} to the policy and {shown(b)} to the teacher: log-probs "
                "of one mean nothing to the other. Take a teacher of the policy's model family"
            )
    for name in sorted(set(policy.special_tokens) | set(teacher.special_tokens)):
        a, b = policy.special_tokens.get(name), teacher.special_tokens.get(name)
        # Padding never reaches a teacher.
        if a != b and name != "pad_token":
            raise MismatchError(f"{name} is {shown(a)} to the policy and {shown(b)} to the teacher")
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


def chat_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """`CHAT` with the generation prompt of a model's chat template."""
    text = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
    return text_ids(str(text), tokenizer)


def text_ids(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """A text as it is, no special token added."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _by_id(vocabulary: Mapping[str, int]) -> dict[int, str]:
    return {token_id: token for token, token_id in vocabulary.items()}


def shown(token: str | None) -> str:
    """A token in a message."""
    return "nothing" if token is None else repr(token)


def _named(ids: Sequence[int], place: int, tokenizer: PreTrainedTokenizerBase) -> str:
    return f"{ids[place]} ({shown(tokenizer.decode([ids[place]]))})" if place < len(ids) else "no token"


def _first_difference(ours: str, theirs: str) -> str:
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if place is None:
        return f", one has {abs(len(ours) - len(theirs))} characters more"
    return f", first at {ours[place : place + 20]!r} against {theirs[place : place + 20]!r}"
