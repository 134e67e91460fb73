"""The table of log-probs is there whatever does not run: a kernel of GPUs, a way without room for it."""

import sys
from types import SimpleNamespace

import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner, Result

from benchmarks import logprobs


def measured() -> Result:
    command = typer.Typer()
    command.command()(logprobs.main)
    sizes = ["--tokens", "8", "--vocabulary", "80", "--width", "8", "--repeats", "1"]
    return CliRunner().invoke(command, sizes, env={"COLUMNS": "200"})


def test_a_kernel_that_does_not_run_is_told_with_the_reason() -> None:
    told = measured()
    assert told.exit_code == 0, told.output
    assert "learner.logprobs: fused is not measured: it computes in 16 bits on a GPU" in told.output


def test_a_kernel_that_runs_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def linear_cross_entropy(e: Tensor, c: Tensor, targets: Tensor, **_: object) -> Tensor:
        return torch.nn.functional.cross_entropy(e @ c.t(), targets, reduction="none")

    stand_in = SimpleNamespace(linear_cross_entropy=linear_cross_entropy)
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", stand_in)  # type: ignore[arg-type]
    monkeypatch.setattr(logprobs, "can_fuse", lambda hidden, targets, bias: True)
    told = measured()
    assert told.exit_code == 0, told.output
    assert "│ learner.logprobs: fused " in told.output
    assert "not measured" not in told.output


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cut_cross_entropy", None)
    monkeypatch.setattr(logprobs, "can_fuse", lambda hidden, targets, bias: True)
    assert (
        "not measured: learner.logprobs fused is cut-cross-entropy's, which is not inst" in measured().output
    )


def test_a_way_without_room_leaves_the_others_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "whole_logits", lambda *_: torch.empty(10**15))
    told = measured()
    assert told.exit_code == 0, told.output
    assert [line for line in told.output.splitlines() if "whole logits" in line and "out of memory" in line]


def test_other_faults_are_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logprobs, "whole_logits", lambda *_: torch.zeros(2) @ torch.zeros(3))
    assert isinstance(measured().exception, RuntimeError)
