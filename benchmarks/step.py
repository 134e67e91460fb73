"""A whole GRPO step with `rlad run`, against TRL's GRPOTrainer in an environment of its own.

    python -m benchmarks.step --trl ENVIRONMENT                        # the shipped student
    python -m benchmarks.step --trl ENVIRONMENT --shape 14m --responses 84
    python -m benchmarks.step --trl ENVIRONMENT --shape 14m --responses long-tailed

The environment is made where there is none: a virtual environment with TRL and this environment's torch.

Both sides have the same model folder, prompts, group size, threads and longest response, sample at
temperature 1 and make one update of a step's responses, in float32. A step is generation, rewards, update
and, here, handing the new weights to the engine; there, one process generates and learns. The shipped student
ends its responses as it has learned; others end none (``--responses N``: all have N tokens), or end them by
chance (long-tailed: median 300, cut at 1,024; see `benchmarks.models`). Nothing else of TRL is set but what
it trains at once (``--sequences``) and, with ``--kept``, that it keeps its activations, as rlad does for
models of this size; by default it computes them again.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.models import SHAPES, write_sampler
from benchmarks.options import lengths_of
from rlad_core.config import RunConfig, resolve_model
from rlad_core.prompt_stream import PromptStream
from services.base.tokenizer import load_tokenizer

TRL = "trl==1.16.0"
_LIMIT_S = 3600
console = Console(width=140)


def recipe(model: str, name: str, out: str, longest: int, prompts: int, group: int, steps: int,
           threads: int) -> dict[str, Any]:  # fmt: skip
    """What `rlad run` is given."""
    return {
        "name": name,
        "policy": {"model": model, "max_length": longest + 64},
        "task": {
            "name": "knights_knaves",
            "train": {"people": [2], "count": prompts * steps, "seed": 1},
            "evaluation": {"people": [2], "count": 1, "split": "test"},
        },
        "rollout": {
            "prompts_per_step": prompts, "group_size": group, "max_response_length": longest,
            "drop_uninformative": False, "threads": threads,
        },
        "learner": {"threads": threads, "lr": 1e-6, "checkpoint_every": 0},
        "stages": [{"steps": steps, "objective": {"kind": "grpo"}}],
        "output": {"dir": out},
    }  # fmt: skip


def messages_of(config: RunConfig) -> list[list[dict[str, str]]]:
    """The run's prompts, as chats; both sides put them into the model's template."""
    stream = PromptStream(config, load_tokenizer(resolve_model(config.policy.model)))
    places = range(config.rollout.prompts_per_step * config.total_steps)
    return [prompt.messages for prompt in stream.prompts(list(places))]


def ours(recipe: dict[str, Any], folder: Path) -> list[dict[str, float]]:
    """Seconds of each step, by stage, and tokens of a response."""
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    _run([sys.executable, "-m", "services", "run", str(file)], {})
    rows = map(json.loads, (folder / "runs" / recipe["name"] / "metrics.jsonl").read_text().splitlines())
    responses = recipe["rollout"]["prompts_per_step"] * recipe["rollout"]["group_size"]
    return [{**row["seconds"], "tokens": row["trained_tokens"] / responses} for row in rows]


def theirs(python: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What `trl_step.py` prints."""
    script = Path(__file__).with_name("trl_step.py")
    printed = _run(
        [str(python), str(script), json.dumps(settings)], {"OMP_NUM_THREADS": str(settings["threads"])}
    )
    result: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return result


def environment(folder: Path) -> Path:
    """The interpreter of a virtual environment with TRL, which is made where it is missing."""
    python = folder / "bin" / "python"
    if not python.exists():
        console.print(f"making {folder} with {TRL}")
        venv.create(folder, with_pip=True)
        _run([str(python), "-m", "pip", "install", "-q", f"torch=={torch.__version__}", TRL], {})
    return python


def _run(command: list[str], more: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=os.environ | more, text=True, capture_output=True, timeout=_LIMIT_S, check=False
    )
    if done.returncode:
        console.print(done.stdout[-4000:], done.stderr[-4000:], markup=False)
        raise typer.Exit(1)
    return done.stdout


def main(
    trl: Annotated[Path | None, typer.Option(help="Virtual environment with TRL; none: ours alone.")] = None,
    shape: Annotated[Literal["student", "14m", "32k"], typer.Option()] = "student",
    responses: Annotated[
        str,
        typer.Option(
            help="own (student only), a number of tokens, or long-tailed.",
            callback=lengths_of("own", "long-tailed"),
        ),
    ] = "own",
    prompts: Annotated[int, typer.Option(min=1, help="Of a step.")] = 32,
    group: Annotated[int, typer.Option(min=2)] = 8,
    steps: Annotated[int, typer.Option(min=2, help="The first warms up and isn't counted.")] = 4,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    sequences: Annotated[int, typer.Option(min=1, help="That TRL trains at once.")] = 64,
    replicas: Annotated[int, typer.Option(min=1, help="Of our engine.")] = 1,
    rollout_threads: Annotated[int, typer.Option(min=1, help="Of each of them; its scheduler has more.")] = 1,
    kept: Annotated[bool, typer.Option("--kept", help="TRL keeps its activations.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Both sides compute in bfloat16.")] = False,
) -> None:
    """Time steps of both sides, one after the other, and print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = "rlad:kk-student"
        longest = 96 if responses == "own" else 1024 if responses == "long-tailed" else int(responses)
        if responses != "own" or shape != "student":
            write_sampler(shape, folder / "model", 300 if responses == "long-tailed" else None)
            model = str(folder / "model")
        made = recipe(model, "step", str(folder / "runs"), longest, prompts, group, steps, threads)
        made["rollout"] |= {"num_replicas": replicas, "threads": rollout_threads}
        if bf16:
            made["policy"]["dtype"] = "bfloat16"
        rows = ours(made, folder)[1:]
        found = {
            name: statistics.median(row.get(name, 0.0) for row in rows)
            for name in ("step", "rollout", "update", "weight_sync", "tokens")
        }
        shown = Table("side", "s a step", "rollout", "update", "hand-over", "tokens a response", "rlad is")
        their_median = None
        if trl is not None:
            result = theirs(
                environment(trl.absolute()),
                {
                    "model": resolve_model(model), "prompts": messages_of(RunConfig.model_validate(made)),
                    "group": group, "longest": longest, "prompts_per_step": prompts, "steps": steps,
                    "threads": threads, "sequences": min(sequences, prompts * group), "bf16": bf16,
                    "more": {"gradient_checkpointing": False} if kept else {},
                },
            )  # fmt: skip
            their_median = statistics.median(result["seconds"][1:])
            their_tokens = statistics.mean(result["lengths"][1:])
    faster = f"{their_median / found['step']:.2f} times as fast" if their_median else ""
    shown.add_row(
        "rlad", *(f"{found[name]:.2f}" for name in ("step", "rollout", "update", "weight_sync")),
        f"{found['tokens']:.0f}", faster,
    )  # fmt: skip
    if their_median:
        shown.add_row("TRL", f"{their_median:.2f}", "", "", "", f"{their_tokens:.0f}", "")
    console.print(
        f"{shape} ({SHAPES[shape].parameters / 1e6:.2g}M parameters), {prompts * group} responses, "
        f"{threads} threads, {'bfloat16' if bf16 else 'float32'}, {time.strftime('%Y-%m-%d')}"
    )
    console.print(shown)


if __name__ == "__main__":
    typer.run(main)
