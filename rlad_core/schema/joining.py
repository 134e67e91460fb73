"""From the tables of one stage to those of the next; everything is matched by id, never by position."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rlad_core.schema.building import label
from rlad_core.schema.columns import list_column, single_chunk
from rlad_core.schema.declarations import (
    EXPERIENCE,
    NAMED_SEQUENCES,
    RESPONSES,
    SEQUENCES,
    TEACHER_PROMPT_IDS,
    made_by,
)
from rlad_core.schema.errors import SchemaError
from rlad_core.schema.labels import fingerprint_of
from rlad_core.schema.taking import take_rows
from rlad_core.schema.validation import first_repeat, quote, sequence_ids
from rlad_core.turn import opened_by


def to_sequences(rollouts: pa.Table) -> pa.Table:
    """SEQUENCES for a teacher, one row per rollout, in the same order."""
    columns = {
        "sequence_id": sequence_ids(rollouts),
        "prompt_token_ids": rollouts.column("prompt_token_ids"),
        "response_token_ids": rollouts.column("response_token_ids"),
    }
    return label(pa.table(columns), SEQUENCES, tokenizer_fingerprint=fingerprint_of(rollouts))


def to_named_sequences(rollouts: pa.Table) -> pa.Table:
    """NAMED_SEQUENCES for a teacher, that names the tokens that the policy held likeliest at each place.

    Args:
        rollouts: ROLLOUT_DETAILS that tell them.
    """
    named = to_sequences(rollouts).append_column("named_token_ids", rollouts.column("rollout_top_token_ids"))
    return label(named, NAMED_SEQUENCES, tokenizer_fingerprint=fingerprint_of(rollouts))


def to_responses(rollouts: pa.Table, prompts: pa.Table) -> pa.Table:
    """RESPONSES for a verifier, one row per rollout, in the same order.

    `response` is the model's whole turn: what the prompt had opened of it (see `turn`), and what was sampled.

    Args:
        prompts: PROMPTS with every prompt of `rollouts`; it may hold more.

    Raises:
        SchemaError: `prompts` lacks a prompt or has it twice.
    """
    matched = _take(prompts, "prompt_id", rollouts.column("prompt_id"), "prompts")
    opened = pa.array([opened_by(prompt) for prompt in matched.column("prompt").to_pylist()], pa.string())
    columns = {
        "sequence_id": sequence_ids(rollouts),
        "task": matched.column("task"),
        "response": pc.binary_join_element_wise(opened, single_chunk(rollouts.column("response")), ""),
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
    reference_scores: pa.Table | None = None,
    teacher_prompts: Mapping[str, Sequence[int]] | None = None,
) -> pa.Table:
    """EXPERIENCE, one row per rollout, in the rollouts' order.

    Args:
        rollouts: ROLLOUTS or ROLLOUT_DETAILS; their order is the result's.
        prompts: PROMPTS with every prompt of `rollouts`; it may hold more.
        rewards: REWARDS of exactly these sequences, in any order.
        advantages: sequence_id -> advantage, of exactly these sequences.
        teacher_scores: TEACHER_SCORES of exactly these sequences, in any order, of one teacher or several.
            None leaves all that a teacher tells null; an optional value that not all of them tell is null
            in every row too, so that an objective that reads it finds none, and not a part.
        reference_scores: TEACHER_SCORES of the same sequences by the frozen reference; None: none was asked.
        teacher_prompts: prompt_id -> the tokens that a privileged teacher reads in the prompt's place, where
            it is the learner that asks it; None: it asks none, or one that reads the prompt.

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
    untold = [value for value in made_by("rollout") if value.trained_on]
    columns = {value.name: pa.nulls(len(ids), value.column_type) for value in untold}
    columns |= {name: rollouts.column(name) for name in rollouts.column_names}
    columns |= {name: matched_prompts.column(name) for name in ("task", "subset")}
    columns |= {name: matched_rewards.column(name) for name in rewards.column_names}
    columns["advantage"] = _take(given, "sequence_id", ids, "advantages", exact=True).column("advantage")
    columns["sequence_id"] = ids
    columns[TEACHER_PROMPT_IDS.name] = _read_by_teacher(rollouts, teacher_prompts)
    columns |= _of_teacher(teacher_scores, ids, fingerprint_of(rollouts))
    told = _of_teacher(reference_scores, ids, fingerprint_of(rollouts))
    columns["reference_logprobs"] = told["teacher_logprobs"]
    return label(pa.table(columns), EXPERIENCE, tokenizer_fingerprint=fingerprint_of(rollouts))


def _read_by_teacher(rollouts: pa.Table, prompts: Mapping[str, Sequence[int]] | None) -> pa.Array:
    kind = TEACHER_PROMPT_IDS.column_type
    if prompts is None:
        return pa.nulls(len(rollouts), kind)
    return list_column([prompts[each] for each in rollouts.column("prompt_id").to_pylist()], kind)


def _of_teacher(scores: pa.Table | None, ids: pa.Array, tokenizer: str | None) -> dict[str, pa.Array]:
    """EXPERIENCE's columns of what a teacher tells, in the order of `ids`.

    Args:
        tokenizer: fingerprint of the rollouts'.
    """
    wanted = [value for value in made_by("teacher") if value.name in EXPERIENCE.names]
    columns = {value.name: pa.nulls(len(ids), value.column_type) for value in wanted}
    if scores is None:
        return columns
    if (theirs := fingerprint_of(scores)) != tokenizer:
        raise SchemaError(
            f"scored with tokenizer {theirs}, the rollouts have {tokenizer}", schema="teacher_scores"
        )
    matched = _take(scores, "sequence_id", ids, "teacher_scores", exact=True)
    for value in wanted:
        if value.presence == "required" and value.name not in scores.column_names:
            raise SchemaError(
                f"missing; the table has {scores.column_names}", schema="teacher_scores", column=value.name
            )
        if value.name in scores.column_names:
            told = matched.column(value.name)
            if value.presence == "required" or not told.null_count:
                columns[value.name] = told
    return columns


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
    return take_rows(table, positions.to_numpy(zero_copy_only=False))
