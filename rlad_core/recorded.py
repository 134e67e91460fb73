"""A step's experience as a file, and what it takes to train on it again.

The file is an Arrow IPC stream of EXPERIENCE (or of SEQUENCES, where a step had no rollouts), with the end
tokens, and the policy versions whose tokens counted, in its metadata; of SEQUENCES, which lack it, each row's
group too. One that holds all rows of its step can be planned anew, as the step would be under another
objective; a sample of rows keeps the advantages that it was recorded with, and says by which rule they came.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core import schema
from rlad_core.assembly import ShardPlan, plan_shards
from rlad_core.group_rule import GroupRule
from rlad_core.overlong import is_cut_off
from rlad_core.schema.declarations import TEACHER_PROMPT_IDS
from rlad_core.staleness import trained_tokens

if TYPE_CHECKING:
    from rlad_core.config.teachers import PolicyTeacher
    from rlad_core.objectives import Objective

_WHOLE, _ENDS, _COUNTED = b"rlad.whole_step", b"rlad.end_tokens", b"rlad.counted_versions"
_GROUPS, _RULE = b"rlad.groups", b"rlad.group_rule"


class RecordedError(ValueError):
    """What was recorded cannot be trained on so; says why."""


@dataclass(frozen=True, eq=False)
class RecordedStep:
    """A step as it was recorded.

    Attributes:
        file: that it was read from.
        table: EXPERIENCE or SEQUENCES.
        end_tokens: of policy and teachers.
        whole: all rows of the step are there.
        counted: policy versions whose tokens counted; None: all.
        rule: of a sample, by which its groups were chosen and its advantages came; None: it does not say.
    """

    file: Path
    table: pa.Table
    end_tokens: tuple[int, ...]
    whole: bool
    counted: range | None = None
    rule: GroupRule | None = None

    @property
    def groups(self) -> list[str]:
        """The group of each row."""
        told = (self.table.schema.metadata or {}).get(_GROUPS)
        name = "group_id" if self.has_rollouts else "sequence_id"
        found: list[str] = self.table.column(name).to_pylist() if told is None else json.loads(told)
        return found

    @property
    def has_rollouts(self) -> bool:
        """Whether the responses were sampled from a policy, with all that is known of them."""
        return "rollout_logprobs" in self.table.column_names

    def longest(self, *, privileged: bool = False) -> int:
        """Tokens of the longest sequence; 0 where there is none.

        Args:
            privileged: also as the learner's own teacher reads it, with another prompt.
        """
        read = ["prompt_token_ids"]
        if privileged and self.has_rollouts:
            read.append(TEACHER_PROMPT_IDS.name)
        before = np.maximum.reduce([schema.lengths(self.table.column(name)) for name in read])
        return int((before + schema.lengths(self.table.column("response_token_ids"))).max(initial=0))

    def _per_token(self, column: str) -> int:
        """How many values a column has for each response token."""
        if column not in self.table.column_names or self.table.column(column).null_count:
            return 0
        first = self.table.slice(0, 1)
        told = schema.lengths(first.column(column))[0]
        return int(told) // int(schema.lengths(first.column("response_token_ids"))[0])

    def check(
        self,
        objective: Objective,
        own_teacher: PolicyTeacher | None = None,
        *,
        drop_uninformative: bool = True,
    ) -> None:
        """Whether this objective can be computed from what was recorded.

        Args:
            own_teacher: the learner keeps it and asks it anew.
            drop_uninformative: as the recipe has it, see `GroupRule`.

        Raises:
            RecordedError: names what is lacking.
        """
        wants, has = objective.responses_of, "policy" if self.has_rollouts else "demonstrator"
        if (wants == "policy") != self.has_rollouts:
            raise RecordedError(
                f"the objective {objective.label} trains on responses of the {wants} and {self.file} holds "
                f"those of a {has}: it needs new samples. Replay steps that had such an objective"
            )
        if objective.scores_with_teacher:
            self._check_teacher(objective, own_teacher)
        for column, k in (
            ("top_token_ids", objective.teacher_top_k),
            ("rollout_top_token_ids", objective.policy_top_k),
        ):
            if k and len(self.table) and (told := self._per_token(column)) != k:
                raise RecordedError(
                    f"the objective {objective.label} needs {k} {column} of each token, and {self.file} has "
                    f"{told or 'none'}. " + (f"Write top_k: {told}" if told else "Record again")
                )
        if objective.needs_reference and self.table.column("reference_logprobs").null_count:
            raise RecordedError(
                f"the objective {objective.label} needs reference_logprobs, which {self.file} lacks: no "
                "reference was asked in that step"
            )
        if self.has_rollouts and not self.whole:
            self._check_sample(objective, GroupRule.of(objective, drop_uninformative=drop_uninformative))

    def _check_sample(self, objective: Objective, rule: GroupRule) -> None:
        """Whether rows without the rest of their groups are what the objective would have of its own step."""
        recorded = self.rule or replace(rule, scales=True)  # as a file of one's own has them
        needs = None
        if objective.needs_whole_groups:
            needs = "all rows of a group"
        elif objective.uses_group_advantage and rule.scales != recorded.scales:
            needs = "other advantages"
        elif objective.uses_group_advantage and rule != recorded:
            needs = "to leave out other groups (rollout.drop_uninformative)"
        if needs is not None:
            raise RecordedError(
                f"the objective {objective.label} needs {needs}, and {self.file} holds a sample of its "
                "step's rows and so no whole groups. Record with telemetry.keep_experience: all"
            )

    def _check_teacher(self, objective: Objective, own: PolicyTeacher | None) -> None:
        if own is None and self.table.column("teacher_logprobs").null_count:
            raise RecordedError(
                f"the objective {objective.label} needs teacher_logprobs, which {self.file} lacks: no "
                "teacher was asked in that step"
            )
        privileged = own is not None and own.prefix is not None
        if privileged and self.table.column(TEACHER_PROMPT_IDS.name).null_count:
            raise RecordedError(
                f"the teacher reads a prefix, and {self.file} lacks the prompts with it "
                "(teacher_prompt_token_ids): the step was recorded without such a teacher. Leave the prefix "
                "out, or record again"
            )

    def check_ends(self, objective: Objective) -> None:
        """Whether the teacher told of all end tokens together, where it can: a run under this objective would
        have asked it, and took them for one outcome.

        Raises:
            RecordedError: it did not.
        """
        ends = self.end_tokens
        if not (objective.compares_end_tokens and len(ends) > 1 and len(self.table)):
            return
        if self.table.column("teacher_end_logprobs").null_count == len(self.table):
            raise RecordedError(
                f"the objective {objective.label} compares what policy and teacher give to all end tokens "
                f"{list(ends)} together, and {self.file} has no teacher_end_logprobs: the step was recorded "
                "without such an objective. Write mask_end_token: true in the objective, or record again"
            )

    def _whole(self, masks: bool) -> npt.NDArray[np.bool_] | None:
        return ~is_cut_off(self.table) if masks and self.has_rollouts else None

    def for_objective(self, objective: Objective, *, drop_uninformative: bool = True) -> RecordedStep:
        """The step as it is under this objective: its advantages, without the groups that it leaves out.

        Args:
            drop_uninformative: as the recipe has it, see `GroupRule`.
        """
        if not (self.has_rollouts and self.whole and len(self.table)):
            return self
        rewards, correct = (self.table.column(name).to_numpy() for name in ("reward", "correct"))
        rule, groups = GroupRule.of(objective, drop_uninformative=drop_uninformative), self.groups
        place = self.table.column_names.index("advantage")
        found = pa.array(rule.advantages(rewards, groups), pa.float32())
        table = self.table.set_column(place, self.table.schema.field(place), found)
        return replace(self, table=table.filter(pa.array(rule.taught(rewards, correct, groups))))

    def plan(
        self, objective: Objective, *, mini_batches: int, ranks: int, pair_cost: float, masks: bool
    ) -> list[ShardPlan]:
        """Which rank trains on which rows, see `plan_shards`.

        Args:
            masks: responses that were cut off do not count.
        """
        return plan_shards(
            self.table,
            groups=self.groups,
            mini_batches=mini_batches,
            ranks=ranks,
            token_weights=objective.token_weights,
            pair_cost=pair_cost,
            counted=self._whole(masks),
            counted_versions=self.counted,
        )

    def numbers(self, *, masks: bool) -> dict[str, float]:
        """The batch in numbers, by their names in metrics.jsonl; `masks` as in `plan`."""
        tokens = trained_tokens(self.table, self.counted, self._whole(masks))
        told: dict[str, float] = {"trained_tokens": tokens}
        if self.has_rollouts and len(self.table):
            told["reward_mean"] = float(self.table.column("reward").to_numpy().mean())
            told["accuracy"] = float(np.mean(self.table.column("correct").to_pylist()))
            told["responses"] = len(self.table)
            told["truncated"] = int(is_cut_off(self.table).sum())
        return told


def labelled(
    table: pa.Table,
    end_tokens: Sequence[int],
    counted: range | None = None,
    groups: Sequence[str] | None = None,
    *,
    whole: bool = True,
    rule: GroupRule | None = None,
) -> pa.Table:
    """Rows of a step, with what a later reader must know of them.

    Args:
        end_tokens: of policy and teachers.
        counted: policy versions whose tokens counted; None: all.
        groups: of each row, where the table does not say it.
        whole: they are all rows of the step.
        rule: by which the step's groups were chosen and its advantages came; a sample needs it.
    """
    told = {_ENDS: json.dumps(list(end_tokens)).encode()} | ({_WHOLE: b"1"} if whole else {})
    if counted is not None:
        told[_COUNTED] = json.dumps([counted.start, counted.stop]).encode()
    if rule is not None:
        told[_RULE] = json.dumps(asdict(rule)).encode()
    if groups is not None and "group_id" not in table.column_names:
        told[_GROUPS] = json.dumps(list(groups)).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **told})


def files_of(places: Sequence[Path]) -> list[Path]:
    """Files of recorded steps, by their names; of a folder, or a run's folder, all that it has.

    Raises:
        RecordedError: one is not there, or has none.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = sorted([*place.glob("step-*.arrows"), *place.glob("experience/step-*.arrows")])
            if not inside:
                raise RecordedError(
                    f"{place} has no step-*.arrows. Record some with telemetry.keep_experience: all"
                )
            found += inside
        elif place.is_file():
            found.append(place)
        else:
            raise RecordedError(f"there is no file or folder {place}")
    return sorted(found, key=lambda file: file.name)


def read(file: Path) -> RecordedStep:
    """A recorded step.

    Raises:
        RecordedError: the file cannot be read, or holds something else.
    """
    try:
        table = schema.from_ipc(file.read_bytes())
        kind = schema.EXPERIENCE if "rollout_logprobs" in table.column_names else schema.SEQUENCES
        for field in kind:  # values that came with a later version than the record's
            if field.nullable and field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(len(table), field.type))
        schema.validate(table, kind)
    except (OSError, schema.SchemaError) as error:
        raise RecordedError(f"{file}: {error}") from error
    told = table.schema.metadata or {}
    counted = range(*json.loads(told[_COUNTED])) if _COUNTED in told else None
    rule = GroupRule(**json.loads(told[_RULE])) if _RULE in told else None
    return RecordedStep(file, table, tuple(json.loads(told.get(_ENDS, b"[]"))), _WHOLE in told, counted, rule)
