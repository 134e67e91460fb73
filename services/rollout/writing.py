"""What is to be written, and what an engine has written of it."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

_SEED_BITS, _OWN_SEED_BITS = 63, 56


@dataclass(frozen=True)
class Wish:
    """How to answer one prompt.

    Args:
        prompt: int32 [P].
        count: answers to it.
        max_tokens: of each; also cut at the model's longest sequence.
        temperature: 0 is greedy.
        top_p: as in `services.rollout.settings.SamplingSettings`.
        seed: of the first answer, the next ones get the next seeds; None: the engine's own.
        stop: texts that end an answer, and are no part of it.
        top_logprobs: likeliest tokens that are told at each place, besides the token's own.
    """

    prompt: npt.NDArray[np.int32]
    count: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    top_logprobs: int

    def part(self, start: int, count: int) -> "Wish":
        """As many of the answers from one on, with the seeds that they have among all."""
        seed = None if self.first_seed is None else self.first_seed + start
        return replace(self, count=count, seed=seed)

    @property
    def cost(self) -> int:
        """Tokens that it may come to."""
        return int(self.prompt.size) + self.count * self.max_tokens

    @property
    def first_seed(self) -> int | None:
        """Of the first answer, such that the last one's is no larger than the engine's int64 holds.

        vLLM counts on from it, and a number over that ends the engine, not only the request.
        """
        if self.seed is None or self.seed + self.count <= 2**_SEED_BITS:
            return self.seed
        return self.seed % 2**_OWN_SEED_BITS  # as many bits as `group_seed` has


@dataclass(frozen=True)
class Token:
    """A token that was written.

    Args:
        token_id: its id.
        logprob: natural logarithm, temperature 1, of the whole vocabulary.
        top: the likeliest tokens there with theirs, likeliest first.
    """

    token_id: int
    logprob: float
    top: list[tuple[int, float]]


@dataclass(frozen=True)
class Written:
    """A piece of an answer, or all of it.

    Args:
        index: of the answer.
        text: without special tokens.
        tokens: special ones too; a stop text's tokens are among them.
        finish_reason: "stop" or "length" in the last piece.
    """

    index: int
    text: str
    tokens: list[Token]
    finish_reason: str | None


def token_of(token_id: int, entries: list[tuple[int, int, float]], top: int) -> Token:
    """A token from its entries of rank, token id and log-prob.

    First comes its own, and then the likeliest ones, which hold it again or, in pieces that vLLM has put
    together, do not.
    """
    _, first, logprob = entries[0]
    if first != token_id:
        raise RuntimeError(f"vLLM's log-probs are of token {first}, where token {token_id} was written")
    ranked = {other: (rank, its) for rank, other, its in entries}  # the later one where there are two
    likeliest = sorted((rank, other, its) for other, (rank, its) in ranked.items() if rank <= top)
    return Token(token_id, logprob, [(other, its) for _, other, its in likeliest[:top]])
