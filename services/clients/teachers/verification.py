"""Whether a teacher's scores are what they were said to be: looked at in every step, before it is trained on.

What the teacher says of itself and of a few known texts is pinned at the start of a run (`pinned.py`). Then,
in every step

- each answer was made with what was pinned;
- no answer consists of stand-ins or of rounded numbers;
- some sequences, drawn anew in each step, and the least likely one are scored again by another path: by the
  model's own forward pass where the service offers it (``plain``), else by themselves;
- the known texts are scored again.

The first finds another model, other weights, another template or temperature where the service knows of it;
the last finds them where it does not; what lies between finds whatever happens to a batch on its way.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.made_with import differing, made_with_of
from rlad_core.waiting import all_of
from services.clients.teachers.agreement import (
    Logprobs,
    Tolerance,
    difference,
    is_rounded,
    is_suspect,
    looks_like,
)
from services.clients.teachers.interface import Teacher
from services.clients.teachers.pinned import Pinned, rows_of

_MOST_SUSPECTS: Final = 8
_ON_THE_WAY = (
    "Look at what stands between the engine and the run: how responses are packed and put in order, a cache, "
    "a proxy, another version of the service"
)
_AT_THE_TEACHER = (
    "Look at the teacher itself: which model its server loaded, whether it restarted or woke up, its "
    "temperature and chat template"
)
_WAY_OUT = (
    "No update was made of it. If the difference is meant, the teacher's verify_tolerance sets what is taken "
    "for rounding, and verify: false takes everything"
)


class SignalError(Exception):
    """A teacher's scores are not what they should be; names the sequence, both numbers and the place."""


@dataclass(frozen=True)
class Checked:
    """What was looked at. sequences: scored again. difference: the largest mean of one of them, in nats."""

    sequences: int
    difference: float
    seconds: float


class Verification:
    """Looks at one teacher's scores.

    Args:
        place: of the teacher in the recipe, for errors.
        teacher: asked again.
        pinned: what it said at the start.
        one_in: of how many sequences one is scored again; at least one in each step.
        tolerance: the recipe's; None: by the precision.
        seed: of the run.
    """

    def __init__(
        self, place: str, teacher: Teacher, pinned: Pinned, *, one_in: int, tolerance: float | None, seed: int
    ) -> None:
        self._place, self._teacher = place, teacher
        self._one_in, self._said, self._seed = one_in, tolerance, seed
        self.pinned = pinned

    def restore(self, pinned: Pinned) -> None:
        """Go on with what was pinned when the run began; an engine may have changed since, by its recipe."""
        now, then = self.pinned.made_with, pinned.made_with
        same_engine = now is None or then is None or now.engine == then.engine
        self.pinned = pinned if same_engine else replace(pinned, made_with=now)

    async def check(
        self, step: int, answers: Sequence[tuple[pa.Table, pa.Table]], end_token_ids: Sequence[int] = ()
    ) -> Checked:
        """Look at all that a step has of this teacher.

        Args:
            answers: SEQUENCES and their TEACHER_SCORES, the same rows in the same order.
            end_token_ids: that were asked for.

        Raises:
            SignalError: something is wrong.
            ServiceError, TimeoutError: the teacher does not answer.
        """
        began = time.monotonic()
        for sequences, scores in answers:
            self._checkrows_of(step, sequences, scores)
            self._compare_made_with(scores, f"the scores of {_first_id(sequences)} and its group", step)
        told = [values for _, scores in answers for values in rows_of(scores, "teacher_logprobs")]
        asked = pa.concat_tables([sequences for sequences, _ in answers])
        rows = self._drawn(step, told)
        again, _ = await all_of(
            (
                self._teacher.score_again(asked.take(rows), end_token_ids),
                self._compare_known(step),
            )
        )
        self._compare_made_with(again, "what was scored again", step)
        scores = pa.concat_tables([table.select(again.column_names) for _, table in answers]).take(rows)
        worst = max(
            self._compare(step, asked.take(rows), scores, again, column)
            for column in ("teacher_logprobs", "teacher_end_logprobs")
            if scores.column(column).null_count == 0
        )
        ours = self.pinned.made_with is not None
        again_rounded = is_rounded(np.concatenate(rows_of(again, "teacher_logprobs")))
        if is_rounded(np.concatenate(told)) and (ours or not again_rounded):
            raise self._fault(
                step,
                f"all log-probs from {_first_id(asked)} on are numbers of 16 bits, not of 32; "
                f"the first is {told[0][0]:.9g}. {_ON_THE_WAY}",
            )
        return Checked(len(rows), worst, time.monotonic() - began)

    def _checkrows_of(self, step: int, sequences: pa.Table, scores: pa.Table) -> None:
        ids = sequences.column("sequence_id").to_pylist()
        if (told := scores.column("sequence_id").to_pylist()) != ids:
            raise self._fault(step, f"scores of {told} came for the sequences {ids}. {_ON_THE_WAY}")
        wanted, found = (
            schema.lengths(table.column(name))
            for table, name in ((sequences, "response_token_ids"), (scores, "teacher_logprobs"))
        )
        if (wrong := np.flatnonzero(wanted != found)).size:
            row = int(wrong[0])
            raise self._fault(
                step,
                f"sequence {ids[row]!r} has {wanted[row]} response tokens, its end token with them, and "
                f"{found[row]} log-probs. {_ON_THE_WAY}",
            )

    def _drawn(self, step: int, told: Sequence[Logprobs]) -> list[int]:
        """Rows to score again: some by chance, the one that the teacher finds least likely, since most faults
        show most in it, and some that look wrong.
        """
        count = min(len(told), max(1, math.ceil(len(told) / self._one_in)))
        draw = np.random.default_rng([self._seed, step, zlib.crc32(self._place.encode())])
        chosen = draw.choice(len(told), size=count, replace=False).tolist()
        least = int(np.argmin([values.mean() for values in told]))
        suspects = [row for row, values in enumerate(told) if is_suspect(values)][:_MOST_SUSPECTS]
        return list(dict.fromkeys([*chosen, least, *suspects]))

    async def _compare_known(self, step: int) -> None:
        scores = await self._teacher.score(self.pinned.known)
        self._compare_made_with(scores, "the scores of a known text", step)
        self._compare_values(
            step,
            self.pinned.known,
            rows_of(scores, "teacher_logprobs"),
            self.pinned.logprobs,
            ("now", "at the start of the run"),
            _AT_THE_TEACHER,
        )

    def _compare(self, step: int, asked: pa.Table, scores: pa.Table, again: pa.Table, column: str) -> float:
        return self._compare_values(
            step,
            asked,
            rows_of(scores, column),
            rows_of(again, column),
            ("in the batch", "scored again by itself"),
            _ON_THE_WAY,
            what="the end tokens' log-probs" if column == "teacher_end_logprobs" else "the log-probs",
        )

    def _compare_values(
        self,
        step: int,
        asked: pa.Table,
        ones: Sequence[Logprobs],
        others: Sequence[Logprobs],
        when: tuple[str, str],
        advice: str,
        what: str = "the log-probs",
    ) -> float:
        """The largest mean difference of a sequence.

        Raises:
            SignalError: one is more than rounding explains.
        """
        dtype = None if self.pinned.made_with is None else self.pinned.made_with.dtype
        tolerance = Tolerance.of(dtype, self._said)
        worst = 0.0
        for row, (one, other) in enumerate(zip(ones, others, strict=True)):
            sequence, tokens = (asked.column(c)[row].as_py() for c in ("sequence_id", "response_token_ids"))
            if not one.size == other.size == len(tokens):
                raise self._fault(
                    step,
                    f"sequence {sequence!r} has {len(tokens)} response tokens, {one.size} log-probs "
                    f"{when[0]} and {other.size} {when[1]}. {advice}",
                )
            found = difference(one, other)
            if not tolerance.explains(found):
                place = found.place
                likely = looks_like(one, other, tolerance)
                said = f"{one[place]:.6g} {when[0]}, {other[place]:.6g} {when[1]}"
                raise self._fault(
                    step,
                    f"{what} of sequence {sequence!r} are {found.mean:.3g} nats a token apart, most at "
                    f"response token {place} (id {tokens[place]}): {said}{f'; {likely}' if likely else ''}. "
                    f"Rounding in {dtype or 'bfloat16'} explains {tolerance.mean:g}. {advice}",
                )
            worst = max(worst, found.mean)
        return worst

    def _compare_made_with(self, scores: pa.Table, what: str, step: int) -> None:
        differs = differing(self.pinned.made_with, made_with_of(scores))
        if differs:
            raise self._fault(
                step, f"at the start of the run and for {what} differ {differs}. {_AT_THE_TEACHER}"
            )

    def _fault(self, step: int, text: str) -> SignalError:
        return SignalError(f"{self._place}, step {step}: {text}. {_WAY_OUT}.")


def _first_id(sequences: pa.Table) -> str:
    return f"sequence {sequences.column('sequence_id')[0].as_py()!r}"
