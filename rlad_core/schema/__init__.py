"""The Arrow tables of a run: their schemas, how to make, check, store and join them.

In: columns, rows, bytes. Out: tables that keep their schema's promises, or a `SchemaError` that names schema,
row and column. Used by everything that sends or receives one.

``build`` makes a labelled and checked table, ``validate`` checks one that came from elsewhere, ``to_ipc`` and
``to_parquet`` store it, ``to_sequences``, ``to_responses`` and ``join_experience`` lead from stage to stage,
``flatten`` and ``unflatten`` give token columns to numpy and back. Every value per token is declared once, in
``TOKEN_VALUES``; ``token_columns`` makes columns of what an engine tells.

Example:
    >>> from rlad_core import schema
    >>> mine = schema.tokenizer_fingerprint({"yes": 0, "no": 1})
    >>> scores = schema.build(
    ...     schema.TEACHER_SCORES,
    ...     {"sequence_id": ["p#0/0"], "teacher_logprobs": [[-0.5, -1.25]]},
    ...     tokenizer_fingerprint=mine,
    ... )
    >>> received = schema.from_ipc(schema.to_ipc(scores))
    >>> schema.validate(received, schema.TEACHER_SCORES, tokenizer_fingerprint=mine)
"""

from rlad_core.schema.building import build, label, token_columns
from rlad_core.schema.columns import flatten, lengths, list_column, unflatten
from rlad_core.schema.declarations import (
    EXPERIENCE,
    FINISH_REASONS,
    LEARNER_VALUES,
    NAMED_SEQUENCES,
    PROMPTS,
    RESPONSES,
    REWARDS,
    ROLLOUT_DETAILS,
    ROLLOUTS,
    SCHEMAS,
    SEQUENCES,
    TEACHER_DETAILS,
    TEACHER_SCORES,
    TOKEN_VALUES,
)
from rlad_core.schema.errors import SchemaError
from rlad_core.schema.joining import join_experience, to_named_sequences, to_responses, to_sequences
from rlad_core.schema.labels import (
    VERSION,
    fingerprint_of,
    name_of,
    text_fingerprint,
    tokenizer_fingerprint,
)
from rlad_core.schema.storage import from_ipc, from_parquet, to_ipc, to_parquet
from rlad_core.schema.taking import take_rows
from rlad_core.schema.token_values import TokenValue
from rlad_core.schema.validation import sequence_ids, validate

__all__ = [
    "EXPERIENCE",
    "FINISH_REASONS",
    "LEARNER_VALUES",
    "NAMED_SEQUENCES",
    "PROMPTS",
    "RESPONSES",
    "REWARDS",
    "ROLLOUTS",
    "ROLLOUT_DETAILS",
    "SCHEMAS",
    "SEQUENCES",
    "TEACHER_DETAILS",
    "TEACHER_SCORES",
    "TOKEN_VALUES",
    "VERSION",
    "SchemaError",
    "TokenValue",
    "build",
    "fingerprint_of",
    "flatten",
    "from_ipc",
    "from_parquet",
    "join_experience",
    "label",
    "lengths",
    "list_column",
    "name_of",
    "sequence_ids",
    "take_rows",
    "text_fingerprint",
    "to_ipc",
    "to_named_sequences",
    "to_parquet",
    "to_responses",
    "to_sequences",
    "token_columns",
    "tokenizer_fingerprint",
    "unflatten",
    "validate",
]
