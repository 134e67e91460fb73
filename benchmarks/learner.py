"""How fast the learner updates, against a bare loop: transformers and AdamW on the same sequences, padded.

    python -m benchmarks.learner                                   # the shipped student, on two CPU threads
    python -m benchmarks.learner --shape 14m --lengths long-tailed
    python -m benchmarks.learner --shape 0.6b --device cuda --dtype bfloat16 --tokens 65536

Both sides train a model of random weights on the same made-up experience, in turns, in one process. The bare
loop sorts by length, pads each micro-batch to its longest sequence, takes whole logits in float32 and steps
torch's AdamW. Tokens are those of prompts and responses, without padding.

Work is counted once, whatever is computed twice: 6 operations for each token and each weight of the layers, 6
for each response token and weight of the head, and for attention 12 x layers x width of all heads for each
pair of a token and one before it. Beside it stands what one product of matrices of float32 does in the same
process, 8,192 rows by the square of the model's width and its MLP's, written to memory that is there.

Memory is the most that tensors take in one more update, above what is held before it, and that as a part of
what `rlad plan` says.
"""

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM, Qwen3ForCausalLM

from benchmarks.models import SHAPES, config_of, response_lengths, tokenizer_of
from benchmarks.options import lengths_of
from rlad_core import schema
from rlad_core.assembly import plan_shards
from rlad_core.config import RunConfig
from rlad_core.objectives import Statistic
from rlad_core.sizing import Shape
from rlad_core.sizing.learner import learner_need
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows

_PROMPT = 60
console = Console(width=140)


def experience(vocabulary: int, lengths: np.ndarray, group: int) -> pa.Table:
    """Made-up experience; only its sizes matter."""
    generator = np.random.default_rng(0)
    rows = []
    prompt: list[int] = []
    for place, length in enumerate(lengths):
        if place % group == 0:
            prompt = generator.integers(vocabulary, size=_PROMPT).tolist()
        name = f"p{place // group}"
        rows.append(
            {
                "group_id": f"{name}#0", "sample_index": place % group, "prompt_id": name,
                "prompt_token_ids": prompt,
                "response_token_ids": generator.integers(vocabulary, size=length).tolist(),
                "rollout_logprobs": np.full(length, -np.log(vocabulary), np.float32),
                "policy_versions": [0] * length, "finish_reason": "stop", "response": "",
                "sequence_id": f"{name}#0/{place % group}", "task": "made_up", "subset": "all",
                "reward": float(place % 2), "reward_parts": {"answer": float(place % 2)},
                "correct": bool(place % 2), "verdict": "", "advantage": 2.0 * (place % 2) - 1,
            }
        )  # fmt: skip
    return schema.build(schema.EXPERIENCE, rows, tokenizer_fingerprint="sha256:benchmark")


def wait_for(device: torch.device) -> None:
    """Until it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Setup:
    """What is trained, on what, how."""

    folder: Path
    table: pa.Table
    device: torch.device
    dtype: torch.dtype
    tokens: int
    recompute: str
    compile: str

    def peak_bytes(self, update: Callable[[], Any]) -> int:
        """The most tensor memory in use in an update, above what is held before it."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            update()
            return torch.cuda.max_memory_allocated() - held
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as seen:
            update()
        events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
        changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
        return int(np.cumsum(changes).max())

    def config(self) -> RunConfig:
        """A recipe of it, with GRPO, which asks for nothing that a plain loop has not."""
        recipe = {
            "name": "benchmark",
            "policy": {
                "model": str(self.folder),
                "max_length": 65_536,
                "dtype": str(self.dtype).removeprefix("torch."),
            },
            "task": {"name": "knights_knaves", "train": {"people": [2]}, "evaluation": {"people": [2]}},
            "rollout": {"prompts_per_step": 1, "group_size": 2, "max_response_length": 32},
            "stages": [{"steps": 1000, "objective": {"kind": "grpo"}}],
            "learner": {
                "num_gpus": int(self.device.type == "cuda"),
                "tokens_per_micro_batch": self.tokens,
                "activation_checkpointing": self.recompute,
                "compile": self.compile,
            },
        }
        return RunConfig.model_validate(recipe)

    def planned_bytes(self, shape: Shape) -> float:
        """What `rlad plan` says of an update's memory, above weights and optimizer."""
        parts = learner_need(self.config(), shape).parts
        return sum(size for name, size in parts.items() if name not in ("weights", "optimizer"))


def ours(setup: Setup) -> Callable[[], Any]:
    """One update by the learner."""
    config = setup.config()
    policy, objective = TrainedPolicy(config, str(setup.folder), setup.device), config.stages[0].objective
    groups = setup.table.column("group_id").to_pylist()

    def update() -> dict[str, Statistic]:
        [plan] = plan_shards(
            setup.table, groups=groups, mini_batches=1, ranks=1, token_weights=objective.token_weights
        )
        return policy.train_on(TrainingRows(setup.table.take(plan.rows), plan), objective, 0)

    return update


def bare(setup: Setup) -> Callable[[], Any]:
    """The same step as a plain loop would have it."""
    model = AutoModelForCausalLM.from_pretrained(
        setup.folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    model.to(setup.device).train()
    if setup.recompute == "full":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.0)
    prompts = setup.table.column("prompt_token_ids").to_pylist()
    responses = setup.table.column("response_token_ids").to_pylist()
    advantages = setup.table.column("advantage").to_pylist()
    order = sorted(range(len(prompts)), key=lambda row: len(responses[row]))
    scored = sum(map(len, responses))

    def update() -> None:
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and (end - start + 1) * (_PROMPT + len(responses[order[end]])) <= max(
                setup.tokens, _PROMPT + len(responses[order[start]])
            ):
                end += 1
            rows = order[start:end]
            loss = _padded_loss(
                model, setup, [prompts[r] for r in rows], [responses[r] for r in rows],
                torch.tensor([advantages[r] for r in rows], device=setup.device),
            )  # fmt: skip
            (loss / scored).backward()  # type: ignore[no-untyped-call]
            start = end
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def _padded_loss(
    model: Qwen3ForCausalLM,
    setup: Setup,
    prompts: list[list[int]],
    responses: list[list[int]],
    advantages: Tensor,
) -> Tensor:
    width = max(len(response) for response in responses)
    ids = torch.zeros(len(prompts), _PROMPT + width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids[row, : _PROMPT + len(response)] = torch.tensor(prompt + response)
        mask[row, : _PROMPT + len(response)] = 1
    ids, mask = ids.to(setup.device), mask.to(setup.device)
    mixed = torch.autocast(setup.device.type, dtype=setup.dtype, enabled=setup.dtype != torch.float32)
    with mixed:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=width + 1).logits
    losses = functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), ids[:, _PROMPT:].flatten(), reduction="none"
    ).view(len(prompts), width)
    return (losses * mask[:, _PROMPT:] * advantages[:, None]).sum()


def product_rate(shape: str, device: torch.device) -> float:
    """Floating-point operations a second of float32 products of the model's shape; the best of twelve."""
    of = SHAPES[shape]
    left = torch.randn(8192, of.width, device=device)
    right = torch.randn(of.width, of.mlp, device=device)
    # Written to where the last one was: fresh memory and what reads the result are no part of a product.
    product = torch.empty(8192, of.mlp, device=device)
    best = math.inf
    for _ in range(12):
        wait_for(device)
        clock = time.perf_counter()
        torch.mm(left, right, out=product)
        wait_for(device)
        best = min(best, time.perf_counter() - clock)
    return 2 * 8192 * of.width * of.mlp / best


def work_of(shape: str, table: pa.Table) -> tuple[int, float]:
    """Tokens of an update, and its floating-point operations."""
    of = SHAPES[shape]
    lengths = (
        schema.lengths(table.column("prompt_token_ids")) + schema.lengths(table.column("response_token_ids"))
    ).astype(float)
    responses = float(schema.lengths(table.column("response_token_ids")).sum())
    products = 6 * (of.layers * of.layer_parameters * lengths.sum() + of.embedding_parameters * responses)
    attention = 12 * of.layers * of.heads * of.head * (lengths**2 / 2).sum()
    return int(lengths.sum()), products + attention


def main(
    shape: Annotated[Literal["student", "14m", "32k", "0.6b", "1.7b"], typer.Option()] = "student",
    sequences: Annotated[int, typer.Option(min=2)] = 256,
    lengths: Annotated[
        str,
        typer.Option(
            help="Of responses: short, long-tailed, or a number.", callback=lengths_of("short", "long-tailed")
        ),
    ] = "short",
    tokens: Annotated[int, typer.Option(min=1, help="Of a micro-batch.")] = 8192,
    device: Annotated[str, typer.Option()] = "cpu",
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option()] = "float32",
    checkpointing: Annotated[
        Literal["auto", "full", "selective", "off"], typer.Option(help="Of activations.")
    ] = "auto",
    compile_: Annotated[
        Literal["auto", "on", "off"], typer.Option("--compile", help="Of the learner's layers.")
    ] = "auto",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    only_ours: Annotated[bool, typer.Option("--only-ours")] = False,
) -> None:
    """Time updates of both sides in turns, and print the table."""
    torch.set_num_threads(threads)
    place = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(
            "nccl" if place.type == "cuda" else "gloo",
            init_method=f"file://{folder}/rendezvous", rank=0, world_size=1,
        )  # fmt: skip
        torch.manual_seed(0)
        Qwen3ForCausalLM(config_of(shape)).save_pretrained(f"{folder}/model")
        tokenizer_of(shape).save_pretrained(f"{folder}/model")
        table = experience(SHAPES[shape].vocabulary, response_lengths(lengths, sequences), group=8)
        setup = Setup(
            Path(folder) / "model", table, place, getattr(torch, dtype), tokens, checkpointing, compile_
        )
        sides = {"learner": ours(setup)} if only_ours else {"learner": ours(setup), "bare loop": bare(setup)}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for turn in range(repeats + 1):
            for side, update in sides.items():
                wait_for(place)
                clock = time.perf_counter()
                update()
                wait_for(place)
                if turn:  # the first warms up
                    seconds[side].append(time.perf_counter() - clock)
        peaks = {side: setup.peak_bytes(update) for side, update in sides.items()}
        dist.destroy_process_group()
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    _report(
        shape, table, medians, peaks, setup.planned_bytes(SHAPES[shape]), place, product_rate(shape, place)
    )


def _report(
    shape: str,
    table: pa.Table,
    seconds: dict[str, float],
    peaks: dict[str, int],
    planned: float,
    device: torch.device,
    products: float,
) -> None:
    count, operations = work_of(shape, table)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} CPUs"
    console.print(
        f"{shape}, {len(table)} sequences, {count:,} tokens an update, {name}, torch {torch.__version__}; "
        f"float32 products: {products / 1e12:.3f} TFLOP/s"
    )
    header = (
        "side", "s an update", "tokens/s", "TFLOP/s", "of float32 products", "of the bare loop's rate",
        "GiB above its state", "of the plan",
    )  # fmt: skip
    shown = Table(*header)
    base = seconds.get("bare loop")
    for side, took in seconds.items():
        shown.add_row(
            side, f"{took:.3f}", f"{count / took:,.0f}", f"{operations / took / 1e12:.3f}",
            f"{operations / took / products:.2f}",
            f"{base / took:.2f}" if base else "-", f"{peaks[side] / 2**30:.2f}",
            f"{peaks[side] / planned:.2f}" if side == "learner" else "-",
        )  # fmt: skip
    console.print(shown)


if __name__ == "__main__":
    typer.run(main)
