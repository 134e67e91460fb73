"""What a teacher is compared with before a run starts, and the comparisons that more than one of them makes.

Distillation compares log-probs token by token, so both must mean the same by a token id: one map from tokens
to ids, and room for the policy's longest sequence. Prompts reach the teacher as the ids that the policy's own
chat template makes, so the teacher's template may be another; but the text of a prompt must become the same
tokens on both sides, which one map does not promise: a known chat and some prompts of the run are compared. A
known text is then scored. Of the policy no score is asked: it is another model, with others.

Different end tokens and chat templates are the normal case of a Base student with a chat teacher. They are
told, and what follows from the former is the objective's (`rlad_core.objectives.teacher`).
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
from rlad_core.language_model.chat import OWN, ChatFormat
from services.base.tokenizer import load_tokenizer, tokenizer_info

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = [{"role": "user", "content": "Mia is a knight. What is 2 + 2?"}]
REPLY = "Mia is a knight."
_KNOWN_PROMPTS, _KNOWN_TOKENS = 2, 256


class MismatchError(Exception):
    """The teacher cannot teach this policy; says what differs first."""


@dataclass(frozen=True)
class PolicyFacts:
    """The policy, as far as a teacher must agree with it.

    Attributes:
        tokenizer: of the policy.
        max_length: tokens of its longest sequence.
        end_tokens: that end its turn.
        chat: how it is asked.
        prompts: some that will be sent, as text.
        top_k: how many of its likeliest tokens a teacher will be asked for at each place.
        named: about how many of the policy's likeliest ones.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    end_tokens: tuple[int, ...] = ()
    chat: ChatFormat = OWN
    prompts: tuple[str, ...] = ()
    top_k: int = 0
    named: int = 0

    @property
    def info(self) -> TokenizerInfo:
        """Of the policy what a teacher is compared with."""
        return TokenizerInfo(
            vocabulary=self.tokenizer.get_vocab(),
            special_tokens={},
            chat_template=self.chat.read_with(self.tokenizer),
            end_token_ids=list(self.end_tokens),
        )

    @property
    def chat_text(self) -> str:
        """`CHAT` as the policy reads it."""
        return self.chat.text(self.tokenizer, CHAT)

    @property
    def chat_ids(self) -> list[int]:
        """Its tokens."""
        return text_ids(self.chat_text, self.tokenizer)

    @property
    def reply_ids(self) -> list[int]:
        """`REPLY` as the policy would write it."""
        return text_ids(REPLY, self.tokenizer)

    @property
    def known(self) -> list[tuple[str, str, list[int]]]:
        """Texts that both must read alike: what each is, the text, and its tokens to the policy."""
        texts = [("chat", self.chat_text), *(("prompt of the run", text) for text in self.prompts)]
        found = [(what, text, text_ids(text, self.tokenizer)) for what, text in texts]
        return [*found, ("text", REPLY, self.reply_ids)]

    @property
    def fingerprint(self) -> str:
        """Of the tokenizer."""
        return schema.tokenizer_fingerprint(self.tokenizer.get_vocab())

    @property
    def known_pairs(self) -> list[tuple[list[int], list[int]]]:
        """(prompt, response) whose scores a teacher should not change: `REPLY` after `CHAT`, and the second
        halves of some prompts of the run.
        """
        prompts = [text_ids(text, self.tokenizer)[:_KNOWN_TOKENS] for text in self.prompts[:_KNOWN_PROMPTS]]
        halves = [(ids[: len(ids) // 2], ids[len(ids) // 2 :]) for ids in prompts if len(ids) > 1]
        return [(self.chat_ids, self.reply_ids), *halves]

    def known_text(self) -> pa.Table:
        """SEQUENCES of one row, `REPLY` after `CHAT`."""
        return schema.build(
            schema.SEQUENCES,
            {
                "sequence_id": ["probe"],
                "prompt_token_ids": [self.chat_ids],
                "response_token_ids": [self.reply_ids],
            },
            tokenizer_fingerprint=self.fingerprint,
        )


@dataclass(frozen=True)
class Compared:
    """What is known of a teacher that fits.

    Attributes:
        end_tokens: that end its turn; none: they cannot be known.
        tells_end_tokens: whether it can be asked for the probability of several end tokens together.
        remarks: what is different and may be, a sentence each.
        most_top_k: how many of its likeliest tokens it tells at each place.
        most_named: about how many named tokens it tells at each place.
    """

    end_tokens: tuple[int, ...] = ()
    remarks: tuple[str, ...] = ()
    tells_end_tokens: bool = False
    most_top_k: int = 0
    most_named: int = 0


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


def compare_model(policy: PolicyFacts, model: str) -> Compared:
    """A teacher whose folder or hub id is known here, whether it will score or only demonstrate.

    Raises:
        MismatchError: it reads or writes other tokens than the policy.
    """
    theirs = load_tokenizer(model)
    compared = compare_tokenizers(policy.info, tokenizer_info(theirs, model))
    for what, text, ids in policy.known:
        compare_ids(what, ids, text_ids(text, theirs), policy.tokenizer)
    return compared


def compare_tokenizers(policy: TokenizerInfo, teacher: TokenizerInfo) -> Compared:
    """The map from tokens to ids, in which both must agree, and what may differ.

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
    remarks = []
    ends = (policy.end_token_ids, teacher.end_token_ids)
    if all(ends) and set(ends[0]) != set(ends[1]):
        names = [", ".join(f"{each} ({shown(ours.get(each))})" for each in side) for side in ends]
        remarks.append(f"the policy ends a response with {names[0]}, the teacher with {names[1]}")
    if policy.chat_template != teacher.chat_template:
        remarks.append("the chat templates differ; the teacher reads prompts as the policy's makes them")
    return Compared(tuple(teacher.end_token_ids), tuple(remarks))


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


def compare_told(policy: PolicyFacts, teacher: Compared) -> None:
    """It tells as much at each place as the objectives want.

    Raises:
        MismatchError: it does not.
    """
    for wanted, most, what, who in (
        (policy.top_k, teacher.most_top_k, "the teacher's {} likeliest tokens", "of kind serve or http"),
        (policy.named, teacher.most_named, "the policy's {} likeliest tokens", "with engine: torch"),
    ):
        if wanted > most:
            raise MismatchError(
                f"an objective wants its log-probs of {what.format(wanted)} at each place, and it tells "
                + (f"{most}. Write top_k: {most} or less" if most else f"none. Take a teacher {who}")
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
        f"a {what} becomes other tokens on the teacher's side, first at token {first}: "
        f"{_named(ours, first, tokenizer)} to the policy, {_named(theirs, first, tokenizer)} to the teacher. "
        "The tokenizers split texts differently: take a teacher of the policy's model family"
    )


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
