"""What is asked of a replica's engine: checked, within its callers' limits, in fair order, and counted."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pyarrow as pa

from rlad_core import metrics, schema
from rlad_core.client.details import Details
from rlad_core.client.errors import DeadlineError
from rlad_core.client.forms import Load
from services.base import telemetry
from services.serve.http.health import Intake
from services.serve.lost_engine import EngineLostError, end_with_engine
from services.serve.shares import QueueShares
from services.teacher.app import SERVICE
from services.teacher.scoring.batcher import Batcher
from services.teacher.scoring.interface import Scored, ScoringEngine, TokenPair
from services.teacher.scoring.tables import check_details, check_sequences, to_pairs, to_scores
from services.teacher.settings import TeacherArgs
from services.teacher.sizes import check_size

_RETRY_AFTER_S = 1.0


class Scorer:
    """An engine with its batcher, to be made and used on one event loop.

    Args:
        engine: that scores.
        args: of the service.
        fingerprint: the tokenizer's.
        intake: that counts the work of each caller.
    """

    def __init__(self, engine: ScoringEngine, args: TeacherArgs, fingerprint: str, intake: Intake) -> None:
        self._engine, self._args, self._fingerprint, self._intake = engine, args, fingerprint, intake
        self._batcher = Batcher(
            engine,
            args.max_tokens_per_batch // engine.passes_per_batch,
            on_batch=_record_batch,
            on_queue=self._record_queue,
            weights=args.weights,
        )
        most = args.limits.max_queued_tokens
        self._shares = QueueShares(most, args.weights, "tokens wait", "tokens", _RETRY_AFTER_S)

    @property
    def load(self) -> Load:
        """What is in work and what waits here."""
        return Load(
            requests=self._intake.in_work,
            callers_waiting=self._batcher.callers,
            waiting=self._batcher.queue_length,
            waiting_tokens=self._batcher.queued_tokens,
        )

    async def check(self, sequences: pa.Table, details: Details) -> None:
        """See that all of them can be scored, and these details told.

        Raises:
            InvalidRequestError: one cannot; names it.
        """
        check_details(details, self._engine, self._args.engine, self._args.limits)
        await asyncio.to_thread(
            check_sequences,
            sequences,
            vocab_size=self._engine.vocab_size,
            max_length=self._engine.max_model_len,
            tokenizer_fingerprint=self._fingerprint,
        )

    async def score(self, sequences: pa.Table, details: Details) -> pa.Table:
        """TEACHER_SCORES of SEQUENCES; TEACHER_DETAILS where details were asked for.

        Raises:
            ServiceError: see `services.teacher.service.TeacherService.score`.
        """
        with ExitStack() as room:
            with telemetry.phase(SERVICE, "decode"):
                await self.check(sequences, details)
                tokens = {
                    kind: int(schema.lengths(sequences.column(column)).sum())
                    for kind, column in (("prompt", "prompt_token_ids"), ("scored", "response_token_ids"))
                }
                room.enter_context(self._taken_on(sequences.num_rows, tokens, details))
                pairs = await asyncio.to_thread(to_pairs, sequences, details)
            scored = await self._scored(pairs.pairs, sequences.num_rows)
        with telemetry.phase(SERVICE, "encode"):
            scores = await asyncio.to_thread(to_scores, sequences, pairs, scored, details)
        _count(sequences.num_rows, tokens)
        return scores

    async def score_pairs(self, pairs: list[TokenPair], details: Details) -> list[Scored]:
        """Pairs that did not come as a table.

        Args:
            details: that are asked for; the pairs' own may be more, for what is told otherwise.

        Raises:
            ServiceError: see `score`.
        """
        with ExitStack() as room:
            with telemetry.phase(SERVICE, "decode"):
                tokens = {
                    "prompt": sum(pair.prompt.size for pair in pairs),
                    "scored": sum(pair.response.size for pair in pairs),
                }
                room.enter_context(self._taken_on(len(pairs), tokens, details))
            scored = await self._scored(pairs, len(pairs))
        _count(len(pairs), tokens)
        return scored

    async def _scored(self, pairs: list[TokenPair], sequences: int) -> list[Scored]:
        limit_s = self._args.limits.timeout_s
        with telemetry.phase(SERVICE, "queue") as phase:
            try:
                async with asyncio.timeout(limit_s):
                    return await self._batcher.score(pairs, lambda: phase.change("engine"))
            except EngineLostError as error:
                end_with_engine(SERVICE, error)
            except TimeoutError as error:
                raise DeadlineError(
                    f"{sequences} sequences were not scored within {limit_s:g} s; "
                    f"{self._batcher.queue_length} more wait here"
                ) from error

    @contextmanager
    def _taken_on(self, sequences: int, of_kind: dict[str, int], details: Details) -> Iterator[None]:
        """Count a request on its caller and give it room until it is answered, or refuse it."""
        limits, tokens, told = self._args.limits, sum(of_kind.values()), of_kind["scored"]
        told *= details.told_per_token
        check_details(details, self._engine, self._args.engine, limits)
        check_size(sequences, tokens, of_kind["scored"], details, self._engine.hidden_size, limits)
        with self._shares.taken(tokens, self._batcher.queued_tokens):
            self._intake.charge(tokens + told)
            yield

    def _record_queue(self, pairs: int) -> None:
        telemetry.gauge(metrics.SERVICE_QUEUE, pairs, service=SERVICE)
        telemetry.gauge(metrics.SERVICE_CALLERS, self._batcher.callers, service=SERVICE)


def _record_batch(pairs: int, tokens: int) -> None:
    telemetry.observe(metrics.SERVICE_BATCH_SEQUENCES, pairs, service=SERVICE)
    telemetry.observe(metrics.SERVICE_BATCH_TOKENS, tokens, service=SERVICE)


def _count(sequences: int, tokens: dict[str, int]) -> None:
    telemetry.count(metrics.SERVICE_SEQUENCES, sequences, service=SERVICE)
    for kind, number in tokens.items():
        telemetry.count(metrics.SERVICE_TOKENS, number, service=SERVICE, kind=kind)
