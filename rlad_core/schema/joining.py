"""From the tables of one stage to those of the next; everything is matched by id, never by position."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from rlad_core.schema.building import label
from rlad_core.schema.columns import single_chunk
from rlad_core.schema.declarations import (
    EXPERIENCE,
    RESPONSES,
    SEQUENCES,
    SchemaError,
    fingerprint_of,
)
from rlad_core.schema.validation import first_repeat, quote, sequence_ids


def to_sequences(rollouts: pa.Table) -> pa.Table:
    """SEQUENCES for a teacher, one row per rollout, in the same order."""
    columns = {
        "sequence_id": sequence_ids(rollouts),
        "prompt_token_ids": rollouts.column("prompt_token_ids"),
        "response_token_ids": rollouts.column("response_token_ids"),
    }
    return label(pa.table(columns), SEQUENCES, tokenizer_fingerprint=fingerprint_of(rollouts))


def to_responses(rollouts: pa.Table, prompts: pa.Table) -> pa.Table:
    """RESPONSES for a verifier, one row per rollout, in the same order.

    Args:
        prompts: PROMPTS with every prompt of `rollouts`; it may hold more.

    Raises:
        SchemaError: `prompts` lacks a prompt or has it twice.
    """
    matched = _take(prompts, "prompt_id", rollouts.column("prompt_id"), "prompts")
    columns = {
        "sequence_id": sequence_ids(rollouts),
        "task": matched.column("task"),
        "response": rollouts.column("response"),
        "gold": matched.column("gold"),
    }
    return label(pa.table(columns), RESPONSES, tokenizer_fingerprint=fingerprint_of(rollouts))


def join_experience(
    rollouts: pa.Table,
    *,
    prompts: pa.Table,
    rewards: pa.Table,
    advantages: Mapping[str, float],
    teacher_scores: pa.Table | None = None,
) -> pa.Table:
    """EXPERIENCE, one row per rollout, in the rollouts' order.

    Args:
        rollouts: ROLLOUTS; their order is the result's.
        prompts: PROMPTS with every prompt of `rollouts`; it may hold more.
        rewards: REWARDS of exactly these sequences, in any order.
        advantages: sequence_id -> advantage, of exactly these sequences.
        teacher_scores: TEACHER_SCORES of exactly these sequences, in any order; None leaves
            `teacher_logprobs` null.

    Raises:
        SchemaError: an id is missing, unknown or there twice (the message names some), the teacher used
            another tokenizer, or a list's length does not fit its response.
    """
    ids = sequence_ids(rollouts)
    if (row := first_repeat(ids)) is not None:
        raise SchemaError(f"{ids[row].as_py()!r} occurs a second time", schema="rollouts", row=row)
    matched_prompts = _take(prompts, "prompt_id", rollouts.column("prompt_id"), "prompts")
    matched_rewards = _take(rewards, "sequence_id", ids, "rewards", exact=True)
    given = pa.table(
        {
            "sequence_id": pa.array(list(advantages.keys()), pa.string()),
            "advantage": pa.array([float(a) for a in advantages.values()], pa.float32()),
        }
    )
    columns = {name: rollouts.column(name) for name in rollouts.column_names}
    columns |= {name: matched_prompts.column(name) for name in ("task", "subset")}
    columns |= {name: matched_rewards.column(name) for name in rewards.column_names}
    columns["advantage"] = _take(given, "sequence_id", ids, "advantages", exact=True).column("advantage")
    columns["sequence_id"] = ids
    if teacher_scores is None:
        columns["teacher_logprobs"] = pa.nulls(len(ids), EXPERIENCE.field("teacher_logprobs").type)
    else:
        theirs, ours = fingerprint_of(teacher_scores), fingerprint_of(rollouts)
        if theirs != ours:
            raise SchemaError(
                f"scored with tokenizer {theirs}, the rollouts have {ours}", schema="teacher_scores"
            )
        scores = _take(teacher_scores, "sequence_id", ids, "teacher_scores", exact=True)
        columns["teacher_logprobs"] = scores.column("teacher_logprobs")
    return label(pa.table(columns), EXPERIENCE, tokenizer_fingerprint=fingerprint_of(rollouts))


def _take(
    table: pa.Table, key: str, wanted: pa.Array | pa.ChunkedArray, name: str, *, exact: bool = False
) -> pa.Table:
    """Rows of `table` whose `key` is wanted[0], wanted[1], ...; `exact` refuses keys that nobody wants."""
    have, wanted = single_chunk(table.column(key)), single_chunk(wanted)
    if (row := first_repeat(have)) is not None:
        raise SchemaError(f"{have[row].as_py()!r} occurs a second time", schema=name, column=key, row=row)
    positions = pc.index_in(wanted, value_set=have)
    if positions.null_count:
        missing = wanted.filter(positions.is_null()).unique().to_pylist()
        raise SchemaError(f"no row for {quote(missing)}", schema=name, column=key)
    if exact and len(have) > len(wanted):
        unknown = have.filter(pc.invert(pc.is_in(have, value_set=wanted))).to_pylist()
        raise SchemaError(f"rows for {quote(unknown)}, which no rollout has", schema=name, column=key)
    return table.take(positions)
