"""What was scored, as JSON or Arrow.

Written by hand, as requests are read: arrays become bytes once.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from fastapi import Response

from rlad_core import schema
from rlad_core.client.details import widened
from rlad_core.client.made_with import made_with_of
from services.serve.http.bodies import Body, arrow_answer, json_answer, lines_answer
from services.serve.http.elements import AT_A_TIME
from services.serve.token_texts import TokenTexts
from services.teacher.reading import Wanted


def write_answer(
    wanted: Wanted, scores: pa.Table, body: Body, *, model: str, texts: TokenTexts | None = None
) -> Response:
    """The answer to `wanted`: the table as it is, or as JSON with sums and counts."""
    if body.answer == "arrow":
        return arrow_answer(scores, body)
    results = results_of(wanted, scores, texts)
    if body.answer == "ndjson":
        return lines_answer(results, body)
    usage = {
        "sequences": scores.num_rows,
        "prompt_tokens": int(schema.lengths(wanted.sequences.column("prompt_token_ids")).sum()),
        "scored_tokens": int(schema.lengths(scores.column("teacher_logprobs")).sum()),
    }
    made_with = made_with_of(scores)
    answer = {
        "model": model,
        "policy_version": None,
        "results": results,
        "usage": usage,
        "made_with": None if made_with is None else made_with.model_dump(),
    }
    return json_answer(answer, body)


def results_of(wanted: Wanted, scores: pa.Table, texts: TokenTexts | None) -> Iterator[dict[str, Any]]:
    """The scores of a request, or of a part of it, as JSON has them; values may be numpy arrays."""
    for start in range(0, scores.num_rows, AT_A_TIME):
        part = scores.slice(start, AT_A_TIME)
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
    for name in {"hidden_states", "hidden_states_bfloat16"} & set(present):
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
    """The JSON of one row's ``top``; both arrays are [response tokens x k]."""
    return orjson.dumps(
        [
            [{"token_id": int(i), "logprob": float(p)} for i, p in zip(*place, strict=True)]
            for place in zip(ids.reshape(-1, k), logprobs.reshape(-1, k), strict=True)
        ]
    )
