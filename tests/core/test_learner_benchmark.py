"""What the learner's rate is held against: products of matrices alone."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from benchmarks import learner
from benchmarks.models import SHAPES


def test_a_product_is_timed_without_fresh_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, written = itertools.count(), []
    product = torch.mm

    def mm(left: Tensor, right: Tensor, *, out: Tensor) -> Tensor:
        written.append(out.data_ptr())
        return product(left, right, out=out)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(learner, "time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))
    of = SHAPES["student"]
    assert learner.product_rate("student", torch.device("cpu")) == 2 * 8192 * of.width * of.mlp
    assert len(written) == 12
    assert len(set(written)) == 1
