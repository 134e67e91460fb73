"""The Arrow schemas that cross every process boundary, and how a table says which one it has.

Every table is labelled in its schema metadata:

=================  =========================================================================
``rlad.schema``    name of the schema, for instance ``rollouts``
``rlad.version``   version of that schema, raised when a column changes its meaning
``rlad.tokenizer`` fingerprint of the tokenizer whose ids the table holds (`tokenizer_fingerprint`)
=================  =========================================================================

A column name means the same thing in every schema, so the rules below go by column and not by schema.
Log-probs are natural logarithms of the untruncated, temperature-1 distribution, float32, exactly one per
*response* token.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

NAME_KEY: Final = b"rlad.schema"
VERSION_KEY: Final = b"rlad.version"
TOKENIZER_KEY: Final = b"rlad.tokenizer"

VERSION: Final = 1

FINISH_REASONS: Final = ("stop", "length")
TOKEN_ID_COLUMNS: Final = frozenset({"prompt_token_ids", "response_token_ids", "top_token_ids"})
LOGPROB_COLUMNS: Final = frozenset({"rollout_logprobs", "teacher_logprobs", "top_logprobs"})
#: One entry per response token; in one row all of them are equally long.
PER_RESPONSE_TOKEN_COLUMNS: Final = (
    "response_token_ids",
    "rollout_logprobs",
    "teacher_logprobs",
    "policy_versions",
)


class SchemaError(ValueError):
    """A table (or the bytes of one) breaks its schema; the message names schema, row and column.

    Attributes:
        schema: name of the schema that was wanted, None where no schema was in play.
        column: the column at fault, None where the whole table is.
        row: the first row at fault (from 0), None where it is not a matter of one row.
    """

    def __init__(
        self, problem: str, *, schema: str | None = None, column: str | None = None, row: int | None = None
    ) -> None:
        where = [schema] if schema else []
        where += [f"row {row}"] if row is not None else []
        where += [f"column {column!r}"] if column is not None else []
        super().__init__(f"{', '.join(where)}: {problem}" if where else problem)
        self.schema, self.column, self.row = schema, column, row


def _field(name: str, kind: pa.DataType, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


_TEXT = pa.string()
_IDS = pa.list_(pa.field("item", pa.int32(), nullable=False))
_FLOATS = pa.list_(pa.field("item", pa.float32(), nullable=False))
_PARTS = pa.map_(pa.string(), pa.field("value", pa.float32(), nullable=False))


def _declare(name: str, *fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={NAME_KEY: name.encode(), VERSION_KEY: str(VERSION).encode()})


_ROLLOUT_FIELDS = (
    _field("group_id", _TEXT),
    _field("sample_index", pa.int32()),
    _field("prompt_id", _TEXT),
    _field("prompt_token_ids", _IDS),
    _field("response_token_ids", _IDS),
    _field("rollout_logprobs", _FLOATS),
    _field("policy_versions", _IDS),
    _field("finish_reason", _TEXT),
    _field("response", _TEXT),
)

#: What there is to ask. `gold` is JSON text that only the task's verifier reads.
PROMPTS: Final = _declare(
    "prompts",
    _field("prompt_id", _TEXT),
    _field("task", _TEXT),
    _field("subset", _TEXT),
    _field("prompt", _TEXT),
    _field("prompt_token_ids", _IDS),
    _field("gold", _TEXT),
)
#: What a teacher gets.
SEQUENCES: Final = _declare(
    "sequences",
    _field("sequence_id", _TEXT),
    _field("prompt_token_ids", _IDS),
    _field("response_token_ids", _IDS),
)
#: What a teacher answers.
TEACHER_SCORES: Final = _declare(
    "teacher_scores", _field("sequence_id", _TEXT), _field("teacher_logprobs", _FLOATS)
)
#: The same for who asked for more, about the place of each response token: the teacher's entropy in nats, and
#: its k likeliest tokens, likeliest first, k values for the first place, then k for the second, ... What was
#: not asked for is null.
TEACHER_DETAILS: Final = _declare(
    "teacher_details",
    _field("sequence_id", _TEXT),
    _field("teacher_logprobs", _FLOATS),
    _field("entropy", _FLOATS, nullable=True),
    _field("top_token_ids", _IDS, nullable=True),
    _field("top_logprobs", _FLOATS, nullable=True),
)
#: What a verifier gets.
RESPONSES: Final = _declare(
    "responses",
    _field("sequence_id", _TEXT),
    _field("task", _TEXT),
    _field("response", _TEXT),
    _field("gold", _TEXT),
)
#: What a verifier answers; `verdict` is the reason in words.
REWARDS: Final = _declare(
    "rewards",
    _field("sequence_id", _TEXT),
    _field("reward", pa.float32()),
    _field("reward_parts", _PARTS),
    _field("correct", pa.bool_()),
    _field("verdict", _TEXT),
)
#: What the policy answered, one row per response.
ROLLOUTS: Final = _declare("rollouts", *_ROLLOUT_FIELDS)
#: What the learner trains on. `teacher_logprobs` is null in every row of a run without a teacher.
EXPERIENCE: Final = _declare(
    "experience",
    *_ROLLOUT_FIELDS,
    _field("sequence_id", _TEXT),
    _field("task", _TEXT),
    _field("subset", _TEXT),
    _field("reward", pa.float32()),
    _field("reward_parts", _PARTS),
    _field("correct", pa.bool_()),
    _field("verdict", _TEXT),
    _field("advantage", pa.float32()),
    _field("teacher_logprobs", _FLOATS, nullable=True),
)

SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    schema.metadata[NAME_KEY].decode(): schema
    for schema in (
        PROMPTS,
        SEQUENCES,
        TEACHER_SCORES,
        TEACHER_DETAILS,
        RESPONSES,
        REWARDS,
        ROLLOUTS,
        EXPERIENCE,
    )
}


def name_of(schema: pa.Schema) -> str:
    """Name of one of this module's schemas."""
    return str((schema.metadata or {})[NAME_KEY].decode())


def has_tokens(schema: pa.Schema) -> bool:
    """Whether tables of `schema` make sense with one tokenizer only: they hold token ids or log-probs."""
    return any(name in TOKEN_ID_COLUMNS or name in LOGPROB_COLUMNS for name in schema.names)


def fingerprint_of(table: pa.Table) -> str | None:
    """Tokenizer fingerprint that `table` carries, None where it carries none."""
    value = (table.schema.metadata or {}).get(TOKENIZER_KEY)
    return None if value is None else str(value.decode(errors="replace"))


def tokenizer_fingerprint(vocab: Mapping[str, int], chat_template: str | None = None) -> str:
    """Stable hash of what must be equal for two models to understand each other's token ids.

    Args:
        vocab: token -> id, added tokens included (``tokenizer.get_vocab()``). The size of a model's embedding
            plays no part, so a padded vocabulary alone changes nothing.
        chat_template: the template's text, where prompts are to agree too.

    Returns:
        ``sha256:`` and 32 hexadecimal digits.
    """
    by_id = sorted((token_id, token) for token, token_id in vocab.items())
    return _digest(json.dumps([by_id, chat_template], ensure_ascii=True, separators=(",", ":")))


def text_fingerprint(text: str | None) -> str | None:
    """Stable hash of a text, such as a chat template; None for None."""
    return None if text is None else _digest(text)


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:32]
