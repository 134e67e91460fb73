"""The sequences of a request in JSON as the rows of a table."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import UNSET, Raw

from rlad_core import schema
from rlad_core.client.forms import TeacherLimits
from services.serve.http.elements import Elements, OwnIds, TokenLists
from services.serve.http.json_forms import invalid, lists_in, token_ids
from services.serve.http.problems import ProblemError
from services.serve.http.texts import Reader, values_of
from services.serve.token_sum import TokenSum
from services.serve.token_texts import spans_in
from services.teacher.forms import SequenceIn
from services.teacher.shared_prompts import PROMPTS, SharedPrompts


def least_tokens(sequences: Elements[SequenceIn], shared: SharedPrompts, reader: Reader) -> int:
    """A lower bound of the tokens of a request, a prompt counted for each sequence that has it.

    Raises:
        ProblemError: 422, a sequence is not of the form, or names a prompt that is not there.
    """
    tokens = 0
    unnamed = np.ones(len(shared), bool)
    fields = (*PROMPTS, "response_token_ids", "response")
    for place, each in enumerate(sequences):
        tokens += reader.least_tokens(*values_of(each, fields))
        if isinstance(each.prompt_id, str):
            its = shared.place(each.prompt_id, f"sequences[{place}]")
            tokens += int(shared.least[its])
            unnamed[its] = False
    return tokens + int(shared.least[unnamed].sum())


def to_rows(
    sequences: Elements[SequenceIn],
    shared: SharedPrompts,
    reader: Reader,
    fingerprint: str,
    limits: TeacherLimits,
) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """SEQUENCES, or NAMED_SEQUENCES where tokens are named; and of which rows anything came as text.

    Args:
        fingerprint: the tokenizer's.
        limits: of tokens, and of those that are named for one place.

    Raises:
        ProblemError: 422, one cannot be read.
        LimitError: they have more tokens than a request may have, a prompt counted for each sequence.
        SchemaError: what was read is no such table.
    """
    ids, prompts, responses, named = OwnIds(), TokenLists(), TokenLists(), TokenLists()
    texts = np.empty(len(sequences), bool)
    # First those that are shared, then the others; a row has one of them.
    prompt_of = np.empty(len(sequences), np.int64)
    shared_texts, shared_sizes = np.empty(len(shared), bool), np.empty(len(shared), np.int64)
    is_counted = np.ones(len(shared), bool)
    tokens = TokenSum(limits.max_tokens_per_request)
    for place, (prompt, is_text) in enumerate(shared.read()):
        prompts.add(prompt)
        tokens.add(prompt.size, f"prompts[{place}]")
        shared_sizes[place] = prompt.size
        shared_texts[place] = is_text
    naming_none: tuple[str, int] | None = None
    for place, each in enumerate(sequences):
        where = f"sequences[{place}]"
        ids.add(each.id)
        if isinstance(each.prompt_id, str):
            prompt_of[place] = its = shared.place(each.prompt_id, where)
            texts[place] = shared_texts[its]
            size = 0 if is_counted[its] else int(shared_sizes[its])
            is_counted[its] = False
        else:
            prompt_of[place] = len(prompts)
            prompt = reader.prompt(each, where)
            prompts.add(prompt)
            size = prompt.size
            texts[place] = each.prompt_token_ids is UNSET
        if isinstance(each.response_token_ids, Raw):
            response = token_ids(each.response_token_ids, f"{where}.response_token_ids", reader.max_length)
        else:
            response = reader.text(str(each.response), f"{where}.response")
            texts[place] = True
        responses.add(response)
        tokens.add(size + response.size, where)
        if isinstance(each.named_token_ids, Raw):
            named.add(
                _named(each.named_token_ids, f"{where}.named_token_ids", response.size, limits.max_top_k)
            )
        elif naming_none is None:
            naming_none = f"{where}.named_token_ids", response.size
    columns = {
        "sequence_id": ids.packed(),
        "prompt_token_ids": prompts.packed().take(pa.array(prompt_of)) if len(shared) else prompts.packed(),
        "response_token_ids": responses.packed(),
    }
    kind = schema.SEQUENCES
    if len(named):
        if naming_none is not None:
            raise _not_as_many(*naming_none, 0)
        kind = schema.NAMED_SEQUENCES
        columns["named_token_ids"] = named.packed()
    return schema.build(kind, columns, tokenizer_fingerprint=fingerprint), texts


def response_spans(
    sequences: Elements[SequenceIn], table: pa.Table, reader: Reader
) -> list[npt.NDArray[np.int32] | None]:
    """Where in each response that came as text its tokens are: int32 [tokens, 2], see `spans_in`.

    Args:
        table: what `to_rows` made of the sequences.

    Returns:
        None for those that came as token ids, and where the tokenizer does not tell.
    """
    values, bounds = schema.flatten(table.column("response_token_ids"))
    found: list[npt.NDArray[np.int32] | None] = []
    for each, (start, stop) in zip(sequences, pairwise(bounds), strict=True):
        spans = None
        if isinstance(each.response, str):
            spans = spans_in(reader.tokenizer, each.response, values[start:stop].tolist())
        found.append(None if spans is None else np.asarray(spans, dtype=np.int32))
    return found


def _named(named: Raw, where: str, tokens: int, most: int) -> npt.NDArray[np.int32]:
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
    rows = [token_ids(raw, f"{where}[{place}]", most) for place, raw in enumerate(given)]
    if len({row.size for row in rows}) > 1:
        raise invalid(where, "names more tokens for one place than for another")
    return np.concatenate(rows)


def _not_as_many(where: str, tokens: int, places: int) -> ProblemError:
    return invalid(where, f"names tokens for {places} places, and the response has {tokens}")
