"""What was scored, as JSON or Arrow.

Written by hand, as requests are read: arrays become bytes once.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.details import widened
from rlad_core.client.made_with import MadeWith, made_with_of
from services.serve.http.answers import Beside, Telling
from services.serve.http.elements import AT_A_TIME
from services.serve.token_texts import TokenTexts
from services.teacher.reading import Wanted

_HIDDEN = {"hidden_states", "hidden_states_bfloat16"}
_HIDDEN_AT_A_TIME = 16
"""Rows with hidden states that are objects at a time; as float32 they may take twice what the table does."""


def telling(wanted: Wanted, *, model: str, texts: TokenTexts | None = None) -> Telling:
    """How the scores of `wanted` are told: the table as it is, or as JSON with sums and counts."""

    def results(scores: pa.Table, start: int) -> Iterator[dict[str, Any]]:
        return results_of(wanted.part(start, scores.num_rows), scores, texts)

    return Telling(results, lambda: _Beside(wanted, model))


class _Beside(Beside):
    """Beside the scores of a request: by what they were made, and how much they are."""

    def __init__(self, wanted: Wanted, model: str) -> None:
        self._wanted, self._model = wanted, model
        self._scored_tokens = 0
        self._made_with: MadeWith | None = None

    def begin(self) -> dict[str, Any]:
        return {"model": self._model, "policy_version": None}

    def add(self, done: pa.Table) -> None:
        self._scored_tokens += int(schema.lengths(done.column("teacher_logprobs")).sum())
        self._made_with = made_with_of(done)  # of all parts the same

    def end(self) -> dict[str, Any]:
        sequences = self._wanted.sequences
        usage = {
            "sequences": sequences.num_rows,
            "prompt_tokens": int(schema.lengths(sequences.column("prompt_token_ids")).sum()),
            "scored_tokens": self._scored_tokens,
        }
        return {"usage": usage, "made_with": self._made_with and self._made_with.model_dump()}


def results_of(wanted: Wanted, scores: pa.Table, texts: TokenTexts | None) -> Iterator[dict[str, Any]]:
    """The scores of a request, or of a part of it, as JSON has them; values may be numpy arrays."""
    at_a_time = _HIDDEN_AT_A_TIME if _HIDDEN & set(scores.column_names) else AT_A_TIME
    for start in range(0, scores.num_rows, at_a_time):
        part = scores.slice(start, at_a_time)
        yield from _results(wanted.part(start, part.num_rows), part, texts)


def _results(wanted: Wanted, scores: pa.Table, texts: TokenTexts | None) -> list[dict[str, Any]]:
    values, offsets = schema.flatten(scores.column("teacher_logprobs"))
    extra = _details(scores, offsets)
    results = []
    for row, (sequence_id, (start, stop)) in enumerate(
        zip(scores.column("sequence_id").to_pylist(), pairwise(offsets), strict=True)
    ):
        result = {
            "id": sequence_id,
            "logprobs": values[start:stop],
            # In float64: the sum of thousands of float32 values loses digits that a reader may compare.
            "logprob_sum": float(values[start:stop].sum(dtype=np.float64)),
            "token_count": int(stop - start),
            **{name: of_row[row] for name, of_row in extra.items()},
        }
        if wanted.text_rows.size and wanted.text_rows[row]:
            for name in ("prompt_token_ids", "response_token_ids"):
                result[name] = wanted.sequences.column(name)[row].as_py()
        if wanted.tokens:
            assert texts is not None
            ids = wanted.sequences.column("response_token_ids")[row].as_py()
            if (spans := wanted.spans[row]) is None:
                _, result["tokens"], result["offsets"] = texts.pieces(ids)
            else:
                result["tokens"], result["offsets"] = texts.names(ids, first=True), spans
        results.append(result)
    return results


def _details(scores: pa.Table, offsets: np.ndarray) -> dict[str, list[Any]]:
    """The columns ``entropy`` and ``top`` of the answer by row, where the table has them."""
    found: dict[str, list[Any]] = {}
    present = [name for name in scores.column_names if scores.column(name).null_count == 0]
    if "entropy" in present:
        values, _ = schema.flatten(scores.column("entropy"))
        found["entropy"] = [values[start:stop] for start, stop in pairwise(offsets)]
    if "teacher_end_logprobs" in present:
        values, _ = schema.flatten(scores.column("teacher_end_logprobs"))
        found["end_logprobs"] = [values[start:stop] for start, stop in pairwise(offsets)]
    if "named_logprobs" in present:
        values, bounds = schema.flatten(scores.column("named_logprobs"))
        found["named_logprobs"] = _by_place(values, bounds, offsets)
    for name in _HIDDEN & set(present):
        values, bounds = schema.flatten(scores.column(name))
        found["hidden_states"] = _by_place(widened(values), bounds, offsets)
    if "top_token_ids" in present:
        ids, _ = schema.flatten(scores.column("top_token_ids"))
        logprobs, _ = schema.flatten(scores.column("top_logprobs"))
        k = ids.size // max(1, int(offsets[-1]))
        # Written row by row: as Python objects they take some ten times the memory, and one row's at a time.
        found["top"] = [
            orjson.Fragment(_tops(ids[k * start : k * stop], logprobs[k * start : k * stop], k))
            for start, stop in pairwise(offsets)
        ]
    return found


def _by_place(values: np.ndarray, bounds: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    """Of each row [response tokens, several]; `bounds` are rows of `values`, `offsets` of tokens."""
    rows = zip(pairwise(bounds), np.diff(offsets), strict=True)
    return [values[start:stop].reshape(tokens, -1) for (start, stop), tokens in rows]


def _tops(ids: np.ndarray, logprobs: np.ndarray, k: int) -> bytes:
    """The JSON of one row's ``top``; both arrays are [response tokens x k].

    Numbers stay numpy's and so are written with the digits that `logprobs` have: readers compare the two, and
    a float32 made a float64 has more of them.
    """
    return orjson.dumps(
        [
            [{"token_id": i, "logprob": p} for i, p in zip(*place, strict=True)]
            for place in zip(ids.reshape(-1, k), logprobs.reshape(-1, k), strict=True)
        ],
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
