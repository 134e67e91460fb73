"""The sequences of a request in JSON as the rows of a table."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Raw

from rlad_core import schema
from rlad_core.client.forms import TeacherLimits
from rlad_core.turn import without_opening
from services.serve.http.elements import Elements, OwnIds, TokenLists
from services.serve.http.json_forms import invalid, lists_in, token_ids
from services.serve.http.problems import ProblemError
from services.serve.http.texts import Reader, letters_of
from services.serve.http.token_columns import TokenColumn
from services.serve.token_sum import TokenSum
from services.serve.token_texts import spans_in
from services.teacher.forms import SequenceIn
from services.teacher.shared_prompts import SharedPrompts

_OWN = -1


class _Rows:
    """The sequences of a request as they become columns.

    Args:
        limits: of tokens, and of those that are named for one place.
    """

    def __init__(
        self, sequences: Elements[SequenceIn], shared: SharedPrompts, reader: Reader, limits: TeacherLimits
    ) -> None:
        self._sequences, self._shared, self._reader, self._limits = sequences, shared, reader, limits
        count = len(sequences)
        self._ids, self._named = OwnIds("sequences"), TokenLists()
        self._prompts, self._responses = TokenColumn(count), TokenColumn(count)
        self._naming_none: int | None = None
        # Of each row's own texts.
        self._letters = np.zeros(count, np.int64)
        # Of each row the shared prompt that it names, if it names one.
        self._shared_of = np.full(count, _OWN, np.int64)
        self.texts = np.zeros(count, bool)
        self.left_out = np.zeros(count, np.int64)

    def read_ids(self) -> None:
        """All but texts, of which only their least tokens are counted.

        Raises:
            ProblemError: 422, one is not of the form, names a prompt that is not there, or has no such ids.
            LimitError: they have more tokens than a request may have, a prompt counted for each sequence.
        """
        tokens, reader = self._tokens(), self._reader
        for place, each in enumerate(self._sequences):
            where = f"sequences[{place}]"
            self._ids.add(each.id)
            if isinstance(each.prompt_id, str):
                self._shared_of[place] = its = self._shared.place(each.prompt_id, where)
                size = int(self._shared.least[its])
            elif isinstance(each.prompt_token_ids, Raw):
                ids = reader.ids(each.prompt_token_ids, f"{where}.prompt_token_ids")
                self._prompts[place] = ids
                size = ids.size
            else:
                size = reader.least_tokens(each.prompt, each.messages)
            if isinstance(each.response_token_ids, Raw):
                ids = reader.ids(each.response_token_ids, f"{where}.response_token_ids")
                self._responses[place] = ids
                size += ids.size
            else:
                size += reader.least_tokens(each.response)
            self._letters[place] = letters_of(each.prompt, each.messages, each.response)
            tokens.add(size, where)
            if isinstance(each.named_token_ids, Raw):
                where, places = f"{where}.named_token_ids", int(self._responses.sizes[place])
                most, vocab_size = self._limits.max_top_k, reader.vocab_size
                self._named.add(_named(each.named_token_ids, where, places, most, vocab_size))
            elif self._naming_none is None:
                self._naming_none = place
        unnamed = np.ones(len(self._shared), bool)
        unnamed[self._shared_of[self._shared_of != _OWN]] = False
        tokens.add(int(self._shared.least[unnamed].sum()), "prompts")

    def read_texts(self) -> None:
        """What came as text.

        Raises:
            ProblemError: 422, one cannot be read.
            LimitError: they have more tokens than a request may have, a prompt counted for each sequence.
        """
        tokens, reader, shared = self._tokens(), self._reader, self._shared
        for place, size in shared.read_texts():
            tokens.add(size, f"prompts[{place}]")
        is_counted = np.ones(len(shared), bool)
        is_own = self._shared_of == _OWN
        self.texts = self._responses.missing | (is_own & self._prompts.missing)
        self.texts[~is_own] |= shared.texts[self._shared_of[~is_own]]
        if not self.texts.any():
            return  # what there is has been counted
        for place, each in self._sequences.first(reader.may_be_too_long(self._letters)):
            where, opened = f"sequences[{place}]", ""
            if is_own[place]:
                if place not in self._prompts:
                    self._prompts[place], opened = reader.prompt_and_opening(each, where)
                size = int(self._prompts.sizes[place])
            else:
                its = int(self._shared_of[place])
                opened = shared.openings[its]
                size = 0 if is_counted[its] else int(shared.tokens.sizes[its])
                is_counted[its] = False
            if place not in self._responses:
                said = without_opening(str(each.response), opened)
                self.left_out[place] = len(str(each.response)) - len(said)
                self._responses[place] = reader.text(said, f"{where}.response")
            tokens.add(size + int(self._responses.sizes[place]), where)

    def table(self, fingerprint: str) -> pa.Table:
        """SEQUENCES, or NAMED_SEQUENCES where tokens are named.

        Raises:
            ProblemError: 422, tokens are named in some sequences and not in others.
            SchemaError: what was read is no such table.
        """
        columns = {
            "sequence_id": self._ids.packed(),
            "prompt_token_ids": self._all_prompts(),
            "response_token_ids": self._responses.packed(),
        }
        kind = schema.SEQUENCES
        if len(self._named):
            if (place := self._naming_none) is not None:
                where = f"sequences[{place}].named_token_ids"
                raise _not_as_many(where, int(self._responses.sizes[place]), 0)
            kind = schema.NAMED_SEQUENCES
            columns["named_token_ids"] = self._named.packed()
        return schema.build(kind, columns, tokenizer_fingerprint=fingerprint)

    def _all_prompts(self) -> pa.Array:
        own = self._prompts.packed()
        if not len(self._shared):
            return own
        shared = self._shared.tokens.packed()
        rows = np.arange(len(own)) + len(shared)
        return pa.concat_arrays([shared, own]).take(
            pa.array(np.where(self._shared_of == _OWN, rows, self._shared_of))
        )

    def _tokens(self) -> TokenSum:
        return TokenSum(self._limits.max_tokens_per_request)


def to_rows(
    sequences: Elements[SequenceIn],
    shared: SharedPrompts,
    reader: Reader,
    fingerprint: str,
    limits: TeacherLimits,
) -> tuple[pa.Table, npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """SEQUENCES, or NAMED_SEQUENCES where tokens are named, and how its texts were read.

    Args:
        fingerprint: the tokenizer's.
        limits: of tokens, and of those that are named for one place.

    Returns:
        ``(table, texts, left_out)``: bool [rows], of which anything came as text; and int64 [rows], how many
        characters at a response's beginning repeat what its chat's template has opened, and are left out.

    Raises:
        ProblemError: 422, one cannot be read.
        LimitError: they have more tokens than a request may have, a prompt counted for each sequence.
        SchemaError: what was read is no such table.
    """
    rows = _Rows(sequences, shared, reader, limits)
    rows.read_ids()
    rows.read_texts()
    return rows.table(fingerprint), rows.texts, rows.left_out


def response_spans(
    sequences: Elements[SequenceIn], table: pa.Table, left_out: npt.NDArray[np.int64], reader: Reader
) -> list[npt.NDArray[np.int32] | None]:
    """Where in each response that came as text its tokens are: int32 [tokens, 2], see `spans_in`.

    Args:
        table, left_out: what `to_rows` made of the sequences.

    Returns:
        None for those that came as token ids, and where the tokenizer does not tell.
    """
    values, bounds = schema.flatten(table.column("response_token_ids"))
    found: list[npt.NDArray[np.int32] | None] = []
    for each, begin, (start, stop) in zip(sequences, left_out.tolist(), pairwise(bounds), strict=True):
        spans = None
        if isinstance(each.response, str):
            spans = spans_in(reader.encoder, each.response[begin:], values[start:stop].tolist())
        found.append(None if spans is None else np.asarray(spans, dtype=np.int32) + np.int32(begin))
    return found


def _named(named: Raw, where: str, tokens: int, most: int, vocab_size: int) -> npt.NDArray[np.int32]:
    """The tokens that are named for each of so many response tokens, one place after another.

    Raises:
        ProblemError: 422, none, or not as many for each place.
    """
    places = bytes(named).count(b"[") - 1
    given: list[Raw] = []
    if places <= tokens:  # counted before they are built
        given = lists_in(named, where)
        places = len(given)
    if places != tokens:
        raise _not_as_many(where, tokens, places)
    rows = [token_ids(raw, f"{where}[{place}]", most, vocab_size) for place, raw in enumerate(given)]
    if len({row.size for row in rows}) > 1:
        raise invalid(where, "names more tokens for one place than for another")
    return np.concatenate(rows)


def _not_as_many(where: str, tokens: int, places: int) -> ProblemError:
    return invalid(where, f"names tokens for {places} places, and the response has {tokens}")
