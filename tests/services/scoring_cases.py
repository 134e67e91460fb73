"""Sequences to score, and what a plain transformers forward pass says about them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlad_core import schema

#: Largest difference that float32 rounding explains.
TOLERANCE = 1e-4


def fingerprint(model: Path) -> str:
    return schema.tokenizer_fingerprint(AutoTokenizer.from_pretrained(model).get_vocab())


def sequences(
    model: Path, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], ids: Sequence[str] | None = None
) -> pa.Table:
    """A SEQUENCES table; nothing in it is checked, so that it can also be a wrong one."""
    columns = {
        "sequence_id": list(ids or [f"s{row}" for row in range(len(pairs))]),
        "prompt_token_ids": [list(prompt) for prompt, _ in pairs],
        "response_token_ids": [list(response) for _, response in pairs],
    }
    table = pa.table(columns, schema=schema.SEQUENCES.remove_metadata())
    metadata = {**schema.SEQUENCES.metadata, b"rlad.tokenizer": fingerprint(model).encode()}
    return table.replace_schema_metadata(metadata)


def mixed_pairs(vocab_size: int, longest: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """Groups with a common prompt, single responses, and the extremes of length, in a mixed order."""
    generator = np.random.default_rng(seed)

    def tokens(count: int) -> list[int]:
        return generator.integers(vocab_size, size=count).tolist()

    pairs = [
        (tokens(1), tokens(1)),
        (tokens(1), tokens(longest - 1)),
        (tokens(longest - 1), tokens(1)),
        (tokens(longest // 2), tokens(longest - longest // 2)),
    ]
    for _ in range(3):
        prompt = tokens(int(generator.integers(5, 40)))
        pairs += [(prompt, tokens(int(generator.integers(1, 60)))) for _ in range(5)]
    return [pairs[i] for i in generator.permutation(len(pairs))]


class PlainForward:
    """One sequence after the other through the whole model, log_softmax over the logits of all tokens.

    padding: rows of the model that are no tokens have a part too, as in a stock server.
    """

    def __init__(self, model: Path, *, padding: bool = False) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        ids = AutoTokenizer.from_pretrained(model).get_vocab().values()
        self._tokens = None if padding else max(ids) + 1

    @torch.no_grad()
    def distributions(self, prompt: Sequence[int], response: Sequence[int]) -> torch.Tensor:
        """Log-probs of all tokens at each place of the response."""
        logits = self._model(torch.tensor([[*prompt, *response]])).logits[0]
        return logits[len(prompt) - 1 : -1, : self._tokens].log_softmax(-1)

    def logprobs(self, prompt: Sequence[int], response: Sequence[int]) -> np.ndarray:
        everything = self.distributions(prompt, response)
        return everything.gather(1, torch.tensor(response)[:, None])[:, 0].numpy()

    def largest_difference(self, table: pa.Table, scores: pa.Table) -> float:
        """Between the answer to `table` and this model, after checking ids, order and lengths."""
        schema.validate(scores, schema.TEACHER_SCORES)
        assert scores["sequence_id"].to_pylist() == table["sequence_id"].to_pylist()
        rows = zip(
            table["prompt_token_ids"].to_pylist(),
            table["response_token_ids"].to_pylist(),
            scores["teacher_logprobs"].to_pylist(),
            strict=True,
        )
        worst = 0.0
        for prompt, response, logprobs in rows:
            assert len(logprobs) == len(response)
            worst = max(worst, float(np.abs(self.logprobs(prompt, response) - logprobs).max()))
        return worst
