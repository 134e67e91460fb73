"""A group's prompt sent once, to services that take it so."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.plain_json import encoded

_COLUMN = "prompt_token_ids"


def prompts_once(sequences: pa.Table) -> pa.Table:
    """SEQUENCES in which a prompt is null where it is that of the row before."""
    column = sequences.column(_COLUMN)
    values, offsets = schema.flatten(column)
    prompts = [values[start:stop].tobytes() for start, stop in pairwise(offsets)]
    again = np.array([False, *(one == other for one, other in pairwise(prompts))])
    if not again.any():
        return sequences
    shared = column.combine_chunks().take(pa.array(np.arange(len(prompts)), mask=again))
    place = sequences.schema.get_field_index(_COLUMN)
    return sequences.set_column(place, pa.field(_COLUMN, column.type, nullable=True), shared)


def texts_once(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sequences of a request in JSON, their prompts apart from them, each once."""
    ids: dict[bytes, str] = {}
    prompts: list[dict[str, Any]] = []
    sequences: list[dict[str, Any]] = []
    for row in rows:
        prompt: dict[str, Any] = {name: row[name] for name in ("prompt", "messages") if name in row}
        key = encoded(prompt, "a prompt")
        if key not in ids:
            ids[key] = str(len(ids))
            prompts.append({"id": ids[key], **prompt})
        sequences.append({"id": row["id"], "prompt_id": ids[key], "response": row["response"]})
    return (
        {"sequences": list(rows)}
        if len(prompts) == len(rows)
        else {"prompts": prompts, "sequences": sequences}
    )
