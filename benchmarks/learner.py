"""How fast the learner updates, against a bare loop: transformers and AdamW on the same sequences, padded.

    python -m benchmarks.learner                                   # the shipped student, on two CPU threads
    python -m benchmarks.learner --shape 14m --lengths long-tailed
    python -m benchmarks.learner --shape 0.6b --device cuda --dtype bfloat16 --tokens 65536

Both sides train a model of random weights on the same made-up experience, in turns, in one process. The bare
loop sorts by length, pads each micro-batch to its longest sequence, takes whole logits in float32 and steps
torch's AdamW. Tokens are those of prompts and responses, without padding. Both recompute activations and
compile layers alike (``auto`` is what the learner makes of it), and measure the entropy where ``--entropy``
says so, as a recipe's `learner.entropy_every` of 1 does; the head line of the table says what they did. The
process keeps the memory that passes free, as a rank on CPUs does, so that the bare loop has it too.

Work is counted once, whatever is computed twice: 6 operations for each token and each weight of the layers, 6
for each response token and weight of the head, and for attention 12 x layers x width of all heads for each
pair of a token and one before it. *Counted* are all tokens of a prompt with each of its responses. On CPUs
the learner has a prompt once for the responses of its group, so *computed* are fewer: behind prompts of 60
tokens 0.71 (student) and 0.66 (14m) of them with short responses, 0.93 and 0.88 with long-tailed ones. Beside
that stands what one product of matrices of float32 does in the same process, 8,192 rows by the square of the
model's width and its MLP's, written to memory that is there: a rate counted over it says how an update
compares with one that shares nothing, a rate computed over it how well the cores are used.

Memory is the most that tensors take in one more update, above what is held before it, and that as a part of
what `rlad plan` says.
"""

import os
import statistics
import sys
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
from transformers import Qwen3ForCausalLM

from benchmarks.arithmetic import product_rate, wait_for, work_of
from benchmarks.bare_loop import bare_loop
from benchmarks.models import SHAPES, config_of, response_lengths, tokenizer_of
from benchmarks.options import device as a_device
from benchmarks.options import lengths_of
from rlad_core import schema
from rlad_core.activations import recompute_activations
from rlad_core.assembly import plan_shards
from rlad_core.config import RunConfig
from rlad_core.config.settings import LearnerConfig
from rlad_core.large import Recompute
from rlad_core.objectives import Statistic
from rlad_core.sizing import Shape
from rlad_core.sizing.learner import learner_need
from services.learner.freed_memory import KEEPS_FREED_MEMORY
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows

_PROMPT = 60
_TOKENS = LearnerConfig.model_fields["tokens_per_micro_batch"].default
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


@dataclass(frozen=True)
class Setup:
    """What is trained, on what, how."""

    folder: Path
    table: pa.Table
    device: torch.device
    dtype: torch.dtype
    tokens: int
    recompute: Recompute
    compiled: bool
    entropy: bool

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
                "compile": "on" if self.compiled else "off",
                "entropy_every": int(self.entropy),
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


def main(
    shape: Annotated[Literal["student", "14m", "32k", "0.6b", "1.7b"], typer.Option()] = "student",
    sequences: Annotated[int, typer.Option(min=2)] = 256,
    lengths: Annotated[
        str,
        typer.Option(
            help="Of responses: short, long-tailed, or a number.", callback=lengths_of("short", "long-tailed")
        ),
    ] = "short",
    tokens: Annotated[int, typer.Option(min=1, help="Of a micro-batch; by itself a recipe's.")] = _TOKENS,
    device: Annotated[str, typer.Option(callback=a_device)] = "cpu",
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option()] = "float32",
    checkpointing: Annotated[
        Literal["auto", "full", "selective", "off"], typer.Option(help="Of activations.")
    ] = "auto",
    compile_: Annotated[
        Literal["auto", "on", "off"], typer.Option("--compile", help="Of both sides' layers.")
    ] = "auto",
    entropy: Annotated[bool, typer.Option("--entropy", help="Both sides measure it in each pass.")] = False,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    only_ours: Annotated[bool, typer.Option("--only-ours")] = False,
) -> None:
    """Time updates of both sides in turns, and print the table."""
    sizes = response_lengths(lengths, sequences)
    if tokens < (longest := _PROMPT + int(sizes.max())):
        told = f"the longest sequence has {longest:,} tokens, its prompt with it. Write {longest} or more"
        raise typer.BadParameter(told, param_hint="--tokens")
    torch.set_num_threads(threads)
    place = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(
            "nccl" if place.type == "cuda" else "gloo",
            init_method=f"file://{folder}/rendezvous", rank=0, world_size=1,
        )  # fmt: skip
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(config_of(shape))
        model.save_pretrained(f"{folder}/model")
        tokenizer_of(shape).save_pretrained(f"{folder}/model")
        table = experience(SHAPES[shape].vocabulary, sizes, group=8)
        setup = Setup(
            Path(folder) / "model", table, place, getattr(torch, dtype), tokens,
            # What `auto` comes to for a model of this size, which is made for no more than that here.
            recompute=recompute_activations(model, checkpointing),
            compiled=compile_ == "on" or (compile_ == "auto" and place.type == "cuda"),
            entropy=entropy,
        )  # fmt: skip
        del model
        sides = {"learner": ours(setup)}
        if not only_ours:
            sides["bare loop"] = bare_loop(
                setup.folder, table, place, setup.dtype, tokens=tokens, recompute=setup.recompute,
                compiled=setup.compiled, entropy=entropy,
            )  # fmt: skip
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
    _report(shape, setup, medians, peaks, product_rate(shape, place))


def _report(
    shape: str, setup: Setup, seconds: dict[str, float], peaks: dict[str, int], products: float
) -> None:
    work, planned = work_of(shape, setup.table, setup.tokens), setup.planned_bytes(SHAPES[shape])
    on_gpu = setup.device.type == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else f"{os.cpu_count()} CPUs"
    console.print(
        f"{shape}, {len(setup.table)} sequences, {work.tokens:,} tokens an update, {name}, torch "
        f"{torch.__version__}; float32 products: {products / 1e12:.3f} TFLOP/s\n{', '.join(seconds)}: "
        f"activations recomputed: {setup.recompute}, layers compiled: {'on' if setup.compiled else 'off'}, "
        f"entropy: {'measured' if setup.entropy else 'not measured'}"
    )
    header = (
        "side", "s an update", "tokens/s", "TFLOP/s counted", "of float32 products, counted", "computed",
        "of the bare loop's rate", "GiB above its state", "of the plan",
    )  # fmt: skip
    shown = Table(*header)
    base = seconds.get("bare loop")
    for side, took in seconds.items():
        # A kernel for a stream of sequences, which GPUs have, wants each with a prompt of its own.
        computed = work.computed if side == "learner" and not on_gpu else work.counted
        shown.add_row(
            side, f"{took:.3f}", f"{work.tokens / took:,.0f}", f"{work.counted / took / 1e12:.3f}",
            f"{work.counted / took / products:.2f}", f"{computed / took / products:.2f}",
            f"{base / took:.2f}" if base else "-", f"{peaks[side] / 2**30:.2f}",
            f"{peaks[side] / planned:.2f}" if side == "learner" else "-",
        )  # fmt: skip
    console.print(shown)


if __name__ == "__main__":
    if not KEEPS_FREED_MEMORY.items() <= os.environ.items():  # as a rank is started
        command = [sys.executable, "-m", "benchmarks.learner", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **KEEPS_FREED_MEMORY})
    typer.run(main)
