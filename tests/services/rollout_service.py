"""A running rollout service as the tests see it, and what transformers says about its responses."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from ray import serve
from transformers import Qwen3ForCausalLM

from rlad_core.config import LoraConfig
from services.rollout.service import build
from services.rollout.settings import RolloutArgs, SamplingSettings
from services.weights.policy_store import Publication, close_store, policy_store
from services.weights.store import publish, sync

TOLERANCE = 1e-4
"""Absolute, on float32 log-probs."""

MAX_LENGTH = 256
TOKENS = 320
"""Of the tiny models; further rows are none."""


@dataclass
class StartedRollouts:
    """Attributes:
    handle: of the deployment.
    store: name of the policy store.
    num_replicas: of the deployment.
    policy: the learner's side: a transformers model whose weights the replicas should have.
    """

    handle: Any
    store: str
    num_replicas: int
    policy: Qwen3ForCausalLM
    versions: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def publish(self) -> Publication:
        """The policy's present weights, as the next version."""
        return publish(self.store, next(self.versions), self.policy.state_dict(), timeout_s=30)

    def publish_and_sync(self) -> int:
        """The next version, on every replica."""
        version = self.publish().version
        sync(self.handle, version, self.num_replicas, timeout_s=60)
        return version

    def generate(self, prompts: pa.Table, sampling: SamplingSettings, min_version: int = 0) -> pa.Table:
        """By whichever replica Serve picks."""
        return self.handle.generate.remote(prompts, sampling, min_version=min_version).result(timeout_s=120)

    def begin_long(self) -> Any:
        """A call for 64 long responses, which are in work."""
        long = SamplingSettings(group_size=4, max_tokens=220, seed=5)
        call = self.handle.generate.remote(prompts(16, prefix="running"), long)
        wait_until(lambda: sum(self.broadcast("unfinished")) > 0, "the responses to be in work")
        return call

    def generate_everywhere(
        self, prompts: pa.Table, sampling: SamplingSettings, min_version: int = 0
    ) -> list[pa.Table]:
        """By every replica."""
        return self.broadcast("generate", prompts, sampling, min_version)

    def broadcast(self, method: str, *args: Any) -> list[Any]:
        answers = self.handle.broadcast(method, *args).results(timeout_s=120)
        assert len(answers) == self.num_replicas
        return answers


@contextmanager
def start_rollouts(
    name: str, model: Any, *, num_replicas: int, adapter: LoraConfig | None = None
) -> Iterator[StartedRollouts]:
    """Start the service, and end it with the block.

    Args:
        adapter: its versions are adapters of this kind.
    """
    store = f"{name}-store"
    policy_store(store)
    args = RolloutArgs(
        model=str(model.path),
        policy_store=store,
        dtype="float32",
        max_model_len=MAX_LENGTH,
        max_num_seqs=64,
        # Small enough that prompts have to wait for a later step.
        max_num_batched_tokens=512,
        kv_cache_memory_gib=0.05,
        num_replicas=num_replicas,
        num_cpus=0.5,
        update_timeout_s=60,
        adapter=adapter,
    )
    try:
        handle = serve.run(build(args), name=name, route_prefix=None)
        policy = Qwen3ForCausalLM.from_pretrained(model.path, dtype=torch.float32)
        yield StartedRollouts(handle, store, num_replicas, policy)
    finally:
        serve.delete(name)
        close_store(store)


def prompts(count: int, *, prefix: str = "p", length: int = 12, seed: int = 0) -> pa.Table:
    """``count`` random prompts of the tiny models' vocabulary, special tokens left out."""
    generator = np.random.default_rng(seed)
    ids = [f"{prefix}{index}" for index in range(count)]
    tokens = [generator.integers(3, TOKENS, size=length, dtype=np.int32) for _ in ids]
    return pa.table(
        {
            "group_id": pa.array([f"{name}#0" for name in ids]),
            "prompt_id": pa.array(ids),
            "prompt_token_ids": pa.array(tokens, type=pa.list_(pa.int32())),
        }
    )


@torch.no_grad()
def reference_logprobs(model: Qwen3ForCausalLM, row: dict[str, Any]) -> np.ndarray:
    """float32, one for each response token of a ROLLOUTS row, by a plain transformers forward."""
    prompt, response = row["prompt_token_ids"], row["response_token_ids"]
    ids = torch.tensor([prompt + response])
    logprobs = torch.log_softmax(model(ids).logits[0, :, :TOKENS].float(), dim=-1)
    return logprobs[len(prompt) - 1 : -1].gather(1, ids[0, len(prompt) :, None])[:, 0].numpy()


def check_held_over(
    rows: list[dict[str, Any]], before: tuple[int, Qwen3ForCausalLM], after: tuple[int, Qwen3ForCausalLM]
) -> None:
    """Tokens from before an update have the old policy's log-probs, those after it the new one's.

    Args:
        rows: of ROLLOUTS; some of them were in work when the version changed.
        before, after: a version, and the policy that it is.
    """
    (old, old_policy), (new, new_policy) = before, after
    mixed = [row for row in rows if len(set(row["policy_versions"])) == 2]
    assert mixed, "no response was running during the update"
    for row in mixed[:8]:
        versions = np.asarray(row["policy_versions"])
        assert set(versions) == {old, new}
        assert np.all(np.diff(versions) >= 0)
        then, now = reference_logprobs(old_policy, row), reference_logprobs(new_policy, row)
        assert np.abs(then - now).max() > 0.01, "the change must be one that shows"
        expected = np.where(versions == old, then, now)
        assert np.abs(expected - np.asarray(row["rollout_logprobs"])).max() < TOLERANCE


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
    """Look again and again."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.05)


def difference(model: Qwen3ForCausalLM, rollouts: pa.Table) -> float:
    """Largest between the table's log-probs and the model's."""
    return max(
        float(np.abs(reference_logprobs(model, row) - np.asarray(row["rollout_logprobs"])).max())
        for row in rollouts.to_pylist()
    )
