"""What goes into a scoring engine, what comes out, and what an engine has to offer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rlad_core.client.details import NO_DETAILS, Details

TokenIds = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class TokenPair:
    """One response to be scored after its prompt.

    Pairs of one request with the same prompt hold the same array object: that is how an engine that can
    share a prompt's work recognises it (``one.prompt is other.prompt``).

    Args:
        prompt: int32 [P], P at least 1.
        response: int32 [R], R at least 1.
        details: what more is wanted.
        ranks: whether ``ranks`` are wanted too: how many tokens are at least as likely as the response's own.
        named: int32 [R, m], tokens whose log-probs are wanted at each place, where the details say so.
    """

    prompt: TokenIds
    response: TokenIds
    details: Details = NO_DETAILS
    ranks: bool = False
    named: TokenIds | None = None

    @property
    def length(self) -> int:
        """Tokens of prompt and response together."""
        return int(self.prompt.size + self.response.size)


@dataclass(frozen=True, eq=False)
class Scored:
    """What an engine says about one response of R tokens.

    Args:
        values: what `rlad_core.schema.TOKEN_VALUES` declares of the teacher, by column: [R] each, or [R, k]
            where there are k per token. ``teacher_logprobs`` always, what is optional where this engine can
            tell it, and what is made for who asks where a pair's `Details` ask for it (else it is not used);
            ``ranks`` where they are wanted.
    """

    values: Mapping[str, npt.NDArray[Any]]


class ScoringError(RuntimeError):
    """The engine could not score a batch that was well formed."""


class ScoringEngine(Protocol):
    """A loaded model that scores batches.

    Attributes:
        max_model_len: tokens that prompt and response may have together.
        vocab_size: token ids are 0..vocab_size-1.
        hidden_size: numbers of a hidden state.
        shares_prompts: whether neighbours in a batch with one prompt cost that prompt once.
        tells: which of `Details` may be asked for, by field.
        batches_in_flight: how many batches keep it busy; no more are given to it at a time.
        passes_per_batch: the token budget of a batch is given to it in so many, so that who comes with little
            waits for parts and not for the whole of what others asked for.
    """

    max_model_len: int
    vocab_size: int
    hidden_size: int
    shares_prompts: bool
    tells: frozenset[str]
    batches_in_flight: int
    passes_per_batch: int

    async def score(self, batch: Sequence[TokenPair]) -> list[Scored]:
        """Score a batch without blocking the event loop; one result for each pair, in order.

        The caller keeps a batch within the token budget that the engine was made with.

        Raises:
            services.serve.lost_engine.EngineLostError: there is no engine any more.
            ScoringError: the engine failed; every pair of the batch is unscored.
        """

    async def weights(self) -> str:
        """Hash of the weights as they are in memory now (`rlad_core.language_model.weight_hash`).

        Raises:
            ScoringError: the engine does not answer.
        """

    async def check_health(self) -> None:
        """Make the engine answer, or see that it is at work: one that is slow must not be replaced for it.

        Raises:
            Exception: it does not; the replica is then to be replaced.
        """

    def shutdown(self) -> None:
        """Give back threads, processes and memory."""


class SleepingEngine(ScoringEngine, Protocol):
    """An engine that gives its GPU to another process for a while."""

    @property
    def asleep(self) -> bool:
        """Whether it sleeps: what is asked of it meanwhile waits."""

    async def sleep(self) -> None:
        """Move the weights to host memory; nothing happens where they are there already."""

    async def wake(self) -> None:
        """Move them back, and look whether they are what they were; nothing happens where it is awake.

        Raises:
            UnsoundWeightsError: they are not, and `check_health` says so from now on.
        """
