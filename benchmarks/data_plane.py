"""What the collector does with a step's tables: joining them, planning shards, taking each rank's rows.

python -m benchmarks.data_plane                          # 2,048 responses of 8,192 tokens, two ranks
python -m benchmarks.data_plane --responses 256 --tokens 1024
"""

import time
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from rlad_core import schema
from rlad_core.assembly import plan_shards
from services.experience.groups import Group, join_groups

_PROMPT = 60
_TOKENIZER = "sha256:benchmark"
_GROUP = 8


def groups_of(responses: int, tokens: int) -> tuple[list[Group], pa.Table]:
    """Finished groups as the services give them, and their prompts."""
    generator = np.random.default_rng(0)
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
                "policy_versions": [np.zeros(n, np.int32) for n in lengths],
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


def main(
    responses: Annotated[int, typer.Option(min=_GROUP)] = 2048,
    tokens: Annotated[int, typer.Option(min=2, help="Of a response, on average.")] = 8192,
    ranks: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Time each part once, and print the table."""
    groups, prompts = groups_of(responses, tokens)
    shown = Table("part", "s", "CPU s")

    def timed(part: str, clocks: tuple[float, float]) -> None:
        wall, cpu = clocks
        shown.add_row(part, f"{time.perf_counter() - wall:.3f}", f"{time.process_time() - cpu:.3f}")

    whole = clocks = (time.perf_counter(), time.process_time())
    table, names = join_groups(groups, prompts)
    timed("join", clocks)
    clocks = (time.perf_counter(), time.process_time())
    plans = plan_shards(
        table, groups=names, mini_batches=1, ranks=ranks, token_weights=lambda n: np.full(n.size, 1 / n.sum())
    )
    timed("plan", clocks)
    clocks = (time.perf_counter(), time.process_time())
    shards = [schema.take_rows(table, plan.rows) for plan in plans]
    timed("take", clocks)
    timed("all", whole)
    count = sum(len(shard) for shard in shards)
    total = int(schema.lengths(table.column("response_token_ids")).sum())
    console = Console()
    console.print(f"{count} responses, {total:,} tokens, {ranks} ranks")
    console.print(shown)


if __name__ == "__main__":
    typer.run(main)
