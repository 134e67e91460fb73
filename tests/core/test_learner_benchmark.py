"""What the learner's rate is held against: the work of an update, products of matrices alone, a bare loop."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import typer
from torch import Tensor
from transformers import Qwen3ForCausalLM
from typer.testing import CliRunner

from benchmarks import arithmetic, learner, logprobs
from benchmarks.bare_loop import bare_loop
from benchmarks.learner import Setup, experience
from benchmarks.models import SHAPES, config_of, response_lengths


def test_a_product_is_timed_without_fresh_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, written = itertools.count(), []
    product = torch.mm

    def mm(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        written.append(out.data_ptr())
        return product(left, right, out=out)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(arithmetic, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    of = SHAPES["student"]
    assert arithmetic.product_rate("student", torch.device("cpu")) == 2 * 8192 * of.width * of.mlp
    assert len(written) == 12
    assert len(set(written)) == 1


def test_work_is_that_of_each_prompt_with_each_response_or_with_all() -> None:
    """By hand: two groups of two responses, 10 and 20 tokens to a prompt of 60 each."""
    of, table = SHAPES["student"], experience(224, np.array([10, 20, 10, 20]), group=2)
    layers, head = 4 * of.layer_parameters, of.embedding_parameters
    pairs = 12 * 4 * 4 * 32
    alone = 2 * (70 + 80), 2 * 30, 2 * (70**2 / 2 + 80**2 / 2)
    shared = 2 * (60 + 30), 2 * 30, 2 * (60**2 / 2 + 60 * 30 + 10**2 / 2 + 20**2 / 2)

    def operations(tokens: float, scored: float, seen: float) -> float:
        return 6 * (layers * tokens + head * scored) + pairs * seen

    found = arithmetic.work_of("student", table, 90)
    assert found.tokens == 300
    assert found.counted == pytest.approx(operations(*alone))
    assert found.computed == pytest.approx(operations(*shared))
    # Where a micro-batch has no room for both responses, each is packed with the prompt.
    assert arithmetic.work_of("student", table, 89).computed == pytest.approx(operations(*alone))


@pytest.mark.parametrize(
    ("shape", "lengths", "share"),
    [("student", "short", 0.71), ("student", "long-tailed", 0.93), ("14m", "short", 0.66)],
)
def test_a_shared_prompt_leaves_less_to_compute(shape: str, lengths: str, share: float) -> None:
    work = arithmetic.work_of(shape, experience(224, response_lengths(lengths, 64), group=8), 8192)
    assert work.computed / work.counted == pytest.approx(share, abs=0.005)


def test_the_learner_is_told_what_the_bare_loop_is(tmp_path: Path) -> None:
    setup = Setup(
        tmp_path, experience(224, np.array([4, 4]), group=2), torch.device("cpu"), torch.float32, 512,
        recompute="off", compiled=True, entropy=False,
    )  # fmt: skip
    learner = setup.config().learner
    assert (learner.activation_checkpointing, learner.compile, learner.entropy_every) == ("off", "on", 0)


@pytest.mark.parametrize("recompute", ["off", "full", "selective"])
def test_the_bare_loop_does_the_same_however_it_is_told_to(tmp_path: Path, recompute: str) -> None:
    """One step of AdamW, in which a parameter moves by the learning rate, wherever it has a gradient."""
    torch.manual_seed(0)
    Qwen3ForCausalLM(config_of("student")).save_pretrained(tmp_path)
    table = experience(224, np.array([4, 7, 5, 6]), group=2)
    models: list[Qwen3ForCausalLM] = []
    load = bare_loop.__globals__["AutoModelForCausalLM"].from_pretrained

    class Loaded:
        @staticmethod
        def from_pretrained(*args: object, **kwargs: object) -> Qwen3ForCausalLM:
            models.append(load(*args, **kwargs))
            return models[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(bare_loop.__globals__, "AutoModelForCausalLM", Loaded)
        for settings in ({"recompute": "off", "entropy": False}, {"recompute": recompute, "entropy": True}):
            bare_loop(
                tmp_path, table, torch.device("cpu"), torch.float32, tokens=140, compiled=False, **settings
            )()
    plain, told = (dict(model.named_parameters()) for model in models)
    for name, parameter in plain.items():
        torch.testing.assert_close(told[name], parameter, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("benchmark", "arguments", "says"),
    [
        (learner, ["--device", "gpu"], "'gpu' is no device. Write cpu, or cuda"),
        (logprobs, ["--device", f"cuda:{torch.cuda.device_count()}"], "GPUs here"),
        (logprobs, ["--teacher-width", "0"], "greater than or equal to 1"),
        (learner, ["--lengths", "100", "--tokens", "159"], "has 160 tokens, its prompt with it. Write 160"),
    ],
)
def test_what_cannot_be_measured_is_refused(benchmark: Any, arguments: list[str], says: str) -> None:
    command = typer.Typer()
    command.command()(benchmark.main)
    refused = CliRunner().invoke(command, arguments, env={"COLUMNS": "200"})
    assert refused.exit_code == 2, refused.output
    assert says in refused.output
