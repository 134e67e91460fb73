"""Batches for a scoring engine out of whatever calls are waiting, within a token budget.

    score() ---pairs---> queue ---> forming ---batches---> engine
       ^                                                      |
       +--------------------- one future a pair --------------+

Waits, and what ends them:

==========  ==================================================  ============================================
who         waits for                                           unblocked by
==========  ==================================================  ============================================
`score`     the futures of its own pairs                        the batch they are in, done or failed;
                                                                `close`; its caller's time limit
forming     a pair in the queue                                 `score`
forming     a place in the engine (``batches_in_flight``)       a batch that is done or failed
==========  ==================================================  ============================================

No wait for company: a batch is whatever has queued up while the engine was busy, in the fair order of
`services.serve.fair`, cut at the budget. A turn is a prompt with its responses, and is over with the batch at
the latest. So memory is bounded by the budget whatever a request's size, a lone request starts at once, and a
large one keeps small ones waiting for a batch or two.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from rlad_core.waiting import Once
from services.serve.fair import FairQueue
from services.teacher.scoring.interface import Scored, ScoringEngine, ScoringError, TokenPair

_FULL = 0.75


@dataclass(eq=False)
class _Waiting:
    pair: TokenPair
    result: asyncio.Future[Scored]
    on_taken: Callable[[], None]
    is_counted: bool = True
    """Among the tokens that wait."""
    cost: int = 0
    """Tokens that the engine computes for it in its batch."""


class Batcher:
    """Gives an engine its batches; to be made and used on one event loop.

    Args:
        engine: where batches go.
        max_tokens_per_batch: budget of a batch; a prompt that the engine shares counts once. With three
            quarters of it no other prompt is begun, whose responses might be torn apart.
        on_batch: told the pairs and tokens of each batch, for metrics.
        on_queue: told the pairs that wait, whenever their number has changed, for metrics.
        weights: see `FairQueue`.
    """

    def __init__(
        self,
        engine: ScoringEngine,
        max_tokens_per_batch: int,
        on_batch: Callable[[int, int], None] = lambda pairs, tokens: None,
        on_queue: Callable[[int], None] = lambda pairs: None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._engine = engine
        self._budget = max_tokens_per_batch
        self._on_batch = on_batch
        self._on_queue = on_queue
        self._queue: FairQueue[_Waiting] = FairQueue(lambda item: item.cost, weights)
        self._arrival = asyncio.Event()
        self._places = asyncio.Semaphore(engine.batches_in_flight)
        self._running: set[asyncio.Task[None]] = set()
        self._queued_tokens = 0
        self._forming = asyncio.create_task(self._form())

    @property
    def queue_length(self) -> int:
        """Pairs that wait for a place in a batch."""
        return len(self._queue)

    @property
    def callers(self) -> int:
        """Callers with pairs that wait."""
        return self._queue.callers

    @property
    def queued_tokens(self) -> int:
        """Tokens of those pairs, a shared prompt counted each time."""
        return self._queued_tokens

    async def score(
        self, pairs: Sequence[TokenPair], on_taken: Callable[[], None] = lambda: None
    ) -> list[Scored]:
        """Score pairs, one result each, in order.

        Cancelling takes what still waits out of the queue, and a batch that nobody waits for any more out of
        the engine.

        Pairs with one prompt belong next to each other, so that the engine can share it. There is no time
        limit in here: the caller sets one around the call.

        Args:
            pairs: what to score.
            on_taken: called once, when the first of them goes to the engine.

        Raises:
            ScoringError: the engine failed on a batch that held one of the pairs, or `close` was called.
        """
        if self._forming.done():
            raise ScoringError("the batcher is closed: the service is shutting down")
        loop = asyncio.get_running_loop()
        taken = Once(on_taken)
        waiting = [_Waiting(pair, loop.create_future(), taken) for pair in pairs]
        # Those of one prompt stay together in a batch, whoever else waits: an engine may share it.
        self._queue.push(list(same) for _, same in groupby(waiting, lambda item: id(item.pair.prompt)))
        self._on_queue(len(self._queue))
        self._queued_tokens += sum(pair.length for pair in pairs)
        self._arrival.set()
        try:
            return await asyncio.gather(*(item.result for item in waiting))
        finally:
            for item in waiting:
                item.result.cancel()
                self._uncount(item)  # in the queue it may stay until the next batch, and keep nobody out

    async def close(self) -> None:
        """Stop forming batches and fail what waits; running batches are let go."""
        self._forming.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(self._forming, *self._running, return_exceptions=True)
        while len(self._queue):
            item = self._queue.pop()
            self._uncount(item)
            _fail(item, ScoringError("the service is shutting down"))

    def _uncount(self, item: _Waiting) -> None:
        """It does not wait any more."""
        if item.is_counted:
            item.is_counted = False
            self._queued_tokens -= item.pair.length

    async def _form(self) -> None:
        while True:
            await self._arrival.wait()
            await self._places.acquire()
            # Only now, so that all that has come meanwhile is in it.
            batch = self._take()
            if not batch:
                self._arrival.clear()
                self._places.release()
                continue
            task = asyncio.create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            for item in batch:
                item.result.add_done_callback(partial(_end_if_unwanted, batch, task))

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        tokens, full = 0, _FULL * self._budget
        while len(self._queue):
            item = self._queue.peek()
            unwanted = item.result.done()
            if not unwanted:
                shared = bool(batch) and self._shares_prompt(batch[-1].pair, item.pair)
                item.cost = int(item.pair.response.size) if shared else item.pair.length
                if batch and (tokens + item.cost > self._budget or (tokens > full and not shared)):
                    # Whoever is next: a prompt whose responses are cut here is computed anew anyway.
                    self._queue.end_turn()
                    break
                tokens += item.cost
                batch.append(item)
                item.on_taken()
            self._queue.pop(free=unwanted)
            self._uncount(item)
        self._on_queue(len(self._queue))
        if batch:
            self._on_batch(len(batch), tokens)
        return batch

    def _shares_prompt(self, one: TokenPair, other: TokenPair) -> bool:
        """Whether neighbours cost their prompt once. What is plain is computed each by itself."""
        is_plain = one.details.plain or other.details.plain
        return self._engine.shares_prompts and one.prompt is other.prompt and not is_plain

    async def _run(self, batch: list[_Waiting]) -> None:
        try:
            results = await self._engine.score([item.pair for item in batch])
            for item, scored in zip(batch, results, strict=True):
                if not item.result.done():
                    item.result.set_result(scored)
        except Exception as error:  # noqa: BLE001 - it is handed to everyone who waits for this batch
            for item in batch:
                _fail(item, error)
        except asyncio.CancelledError:
            for item in batch:
                _fail(item, ScoringError("the service is shutting down"))
            raise
        finally:
            self._places.release()


def _end_if_unwanted(batch: list[_Waiting], task: asyncio.Task[None], _: asyncio.Future[Scored]) -> None:
    if all(item.result.cancelled() for item in batch):
        task.cancel()


def _fail(item: _Waiting, error: Exception) -> None:
    if not item.result.done():
        item.result.set_exception(error)
