"""What the collector does with a step's tables (`services.experience.batches`), part by part.

    python -m benchmarks.data_plane                          # 2,048 responses of 8,192 tokens, two ranks
    python -m benchmarks.data_plane --responses 256 --tokens 1024

Groups are joined and cut into shards; of their tokens is counted what is too old (half of each response is of
the version before), what the step's numbers say and what each visit says of versions; each rank's rows are
taken and put where it reads them. Ray is not started: in place of `ray.put` the rows are pickled as there,
with buffers beside the pickle, and written to fresh shared memory.
"""

import mmap
import pickle
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, cast

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from rlad_core import schema
from rlad_core.assembly import plan_shards
from rlad_core.prompt_stream import PromptStream
from rlad_core.staleness import trained_tokens
from rlad_core.tasks import Prompt
from services.experience.groups import Group
from services.experience.joining import join_groups
from services.experience.step_numbers import stale_tokens, step_numbers
from services.experience.visits import visits_of

_PROMPT = 60
_TOKENIZER = "sha256:benchmark"
_GROUP = 8
_STEP = 2
_COUNTED = range(_STEP - 1, _STEP + 1)
"""Policy versions whose tokens count. One that begins at 0 would count without looking."""


def groups_of(responses: int, tokens: int) -> tuple[list[Group], pa.Table]:
    """Finished groups as the services give them, and their prompts."""
    generator = np.random.default_rng(0)
    versions = np.array(_COUNTED, np.int32)
    groups = []
    prompts = {"prompt_id": [], "task": [], "subset": [], "prompt": [], "prompt_token_ids": [], "gold": []}  # type: dict[str, list[object]]
    for position in range(responses // _GROUP):
        name, prompt = f"p{position}", generator.integers(1000, size=_PROMPT)
        for column, value in zip(prompts, (name, "made_up", "all", "text", prompt, "{}"), strict=True):
            prompts[column].append(value)
        lengths = generator.integers(tokens // 2, tokens + tokens // 2, _GROUP)
        ids = [f"{name}#0/{sample}" for sample in range(_GROUP)]
        rollouts = schema.build(
            schema.ROLLOUTS,
            {
                "group_id": [f"{name}#0"] * _GROUP,
                "sample_index": list(range(_GROUP)),
                "prompt_id": [name] * _GROUP,
                "prompt_token_ids": [prompt] * _GROUP,
                "response_token_ids": [generator.integers(1000, size=n) for n in lengths],
                "rollout_logprobs": [-generator.random(n) for n in lengths],
                "policy_versions": [np.repeat(versions, [n // 2, n - n // 2]) for n in lengths],
                "finish_reason": ["stop"] * _GROUP,
                "response": ["text"] * _GROUP,
            },
            tokenizer_fingerprint=_TOKENIZER,
        )
        rewards = schema.build(
            schema.REWARDS,
            [
                {"sequence_id": each, "reward": float(n % 2), "reward_parts": {"answer": float(n % 2)},
                 "correct": bool(n % 2), "verdict": ""}
                for n, each in enumerate(ids)
            ],
        )  # fmt: skip
        scores = schema.build(
            schema.TEACHER_SCORES,
            {"sequence_id": ids, "teacher_logprobs": [-generator.random(n) for n in lengths]},
            tokenizer_fingerprint=_TOKENIZER,
        )
        groups.append(Group(position, rollouts, rewards, scores))
    return groups, schema.build(schema.PROMPTS, prompts, tokenizer_fingerprint=_TOKENIZER)


@dataclass(frozen=True)
class _Visited:
    """What `visits_of` asks of a run's stream of prompts."""

    epoch_prompts: int

    def prompts(self, positions: Sequence[int]) -> list[Prompt]:
        return [Prompt(f"p{position}", "made_up", "all", [], "{}") for position in positions]


@dataclass
class Parts:
    """What parts of the work took, in the order in which they ended: name, seconds, seconds of CPU."""

    found: list[tuple[str, float, float]] = field(default_factory=list)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Time what is done inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.found.append((part, time.perf_counter() - wall, time.process_time() - cpu))


def put(rows: pa.Table) -> mmap.mmap:
    """What stands in for `ray.put`: the table in shared memory, a pickle and the buffers of its columns."""
    buffers: list[pickle.PickleBuffer] = []
    told = pickle.dumps(rows, protocol=5, buffer_callback=buffers.append)
    blocks = [memoryview(told), *(buffer.raw() for buffer in buffers)]
    shared = mmap.mmap(-1, sum(map(len, blocks)))
    for block in blocks:
        shared.write(block)
    return shared


def collected(groups: list[Group], prompts: pa.Table, ranks: int) -> tuple[Parts, int, int]:
    """What each part took, how many responses ranks got, and of how many tokens."""
    parts = Parts()
    stream = cast(PromptStream, _Visited(len(groups)))
    with parts.timed("all"):
        with parts.timed("join"):
            table, names = join_groups(groups, prompts)
        with parts.timed("plan"):
            plans = plan_shards(
                table, groups=names, mini_batches=1, ranks=ranks,
                token_weights=lambda n, _: np.full(n.size, 1 / n.sum()), counted_versions=_COUNTED,
            )  # fmt: skip
        with parts.timed("stale tokens"):
            stale = stale_tokens(groups, _COUNTED)
        with parts.timed("numbers of the step"):
            numbers = step_numbers(groups, [], _COUNTED)
        with parts.timed("visits and their versions"):
            visits_of(groups, [], stream, "policy", stale)
        with parts.timed("trained tokens"):
            numbers["trained_tokens"] = trained_tokens(table, _COUNTED)
        with parts.timed("take"):
            shards = [schema.take_rows(table, plan.rows).combine_chunks() for plan in plans]
        with parts.timed("put"):
            stored = [put(shard) for shard in shards]
    for memory in stored:
        memory.close()
    return parts, sum(map(len, shards)), int(numbers["tokens"])


def main(
    responses: Annotated[int, typer.Option(min=_GROUP)] = 2048,
    tokens: Annotated[int, typer.Option(min=2, help="Of a response, on average.")] = 8192,
    ranks: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Time each part once, and print the table."""
    parts, count, total = collected(*groups_of(responses, tokens), ranks)
    shown = Table("part", "s", "CPU s")
    for part, wall, cpu in parts.found:
        shown.add_row(part, f"{wall:.3f}", f"{cpu:.3f}")
    console = Console()
    console.print(f"{count} responses, {total:,} tokens, {ranks} ranks; put: a stand-in for ray.put")
    console.print(shown)


if __name__ == "__main__":
    typer.run(main)
