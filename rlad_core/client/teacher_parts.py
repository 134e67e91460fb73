"""A table of sequences in parts that a teacher scores one request at a time."""

import pyarrow as pa

from rlad_core import schema
from rlad_core.client.details import Details
from rlad_core.client.parts import cut

TOKENS_WORTH_A_REQUEST = 16_384
"""With fewer a part costs more than it saves."""


def spread(sequences: pa.Table, most_rows: int, most_tokens: int, connections: int) -> tuple[int, int]:
    """Limits that give each connection a part of a large table: the engine begins with the first while the
    others are on their way, and the last answer is small.

    Args:
        sequences: SEQUENCES.
        most_rows, most_tokens: of one request.
        connections: requests at a time.

    Returns:
        Rows and tokens of a part.
    """
    tokens = sum(
        int(schema.lengths(sequences.column(name)).sum())
        for name in ("prompt_token_ids", "response_token_ids")
    )
    share = max(TOKENS_WORTH_A_REQUEST, -(-tokens // connections))
    return most_rows, min(most_tokens, share)


def parts_of(
    sequences: pa.Table, limits: tuple[int, int], details: Details, most_hidden: int | None = None
) -> list[pa.Table]:
    """The table in slices within the limits of a request; a row that alone is over them is one of its own.

    Args:
        sequences: SEQUENCES.
        limits: rows and tokens; what is told of each response token counts too.
        details: what is asked for.
        most_hidden: response tokens whose hidden states are told in one answer; None: none are asked for.
    """
    prompts, responses = (
        schema.lengths(sequences.column(name)) for name in ("prompt_token_ids", "response_token_ids")
    )
    if most_hidden is not None:
        return [
            part
            for start, stop in cut(responses.tolist(), limits[0], most_hidden)
            for part in parts_of(sequences.slice(start, stop - start), limits, details)
        ]
    sizes = (prompts + responses * (1 + details.told_per_token)).tolist()
    return [sequences.slice(start, stop - start) for start, stop in cut(sizes, *limits)]
