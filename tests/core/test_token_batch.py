"""What an objective is given: the learner's own tensors and every declared value per token, by name."""

import sys
from dataclasses import FrozenInstanceError
from subprocess import run
from typing import Any

import pyarrow as pa
import pytest
import torch

from rlad_core import schema
from rlad_core.objectives import interface
from rlad_core.objectives.interface import TokenBatch
from rlad_core.schema.token_values import FINITE


def given(**changes: Any) -> TokenBatch:
    names = ("policy_logprobs", "old_logprobs", "rollout_logprobs", "advantages", "weights")
    return TokenBatch(**({name: torch.zeros(2) for name in names} | changes))


def test_every_value_that_the_learner_gets_is_there_or_none() -> None:
    batch = given(teacher_logprobs=torch.ones(2), policy_versions=torch.tensor([3, 4]))
    assert batch.policy_versions is not None
    assert batch.policy_versions.tolist() == [3, 4]
    assert torch.equal(batch.teacher_logprobs, torch.ones(2))
    for value in schema.LEARNER_VALUES:
        if value.name != "rollout_logprobs":
            assert getattr(given(), value.name) is None


def test_what_nobody_declared_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"knows no 'teacher_mood'; declare it in .*, named_logprobs are"):
        given(teacher_mood=torch.zeros(2))
    with pytest.raises(AttributeError, match="TokenBatch has no 'techer_logprobs'"):
        _ = given().techer_logprobs
    with pytest.raises(FrozenInstanceError):
        given().advantages = torch.zeros(2)  # type: ignore[misc]


@pytest.mark.parametrize("name", ["old_logprobs", "rollout_logprobs", "advantages", "weights"])
def test_what_is_always_needed(name: str) -> None:
    needed = {n: torch.zeros(1) for n in ("old_logprobs", "rollout_logprobs", "advantages", "weights")}
    for lacking in ({n: needed[n] for n in needed if n != name}, needed | {name: None}):
        with pytest.raises(TypeError, match=f"TokenBatch needs {name} too"):
            TokenBatch(policy_logprobs=torch.zeros(1), **lacking)


@pytest.mark.parametrize("name", ["teacher_logprobs", "policy_versions", "is_last", "weights", "entropy"])
def test_shapes(name: str) -> None:
    words = rf"{name} has shape \(3,\), but policy_logprobs has \(2,\); give one value per response token"
    with pytest.raises(ValueError, match=words):
        given(**{name: torch.zeros(3)})
    with pytest.raises(ValueError, match=rf"{name} has shape \(2, 1\)"):
        given(**{name: torch.zeros(2, 1)})


@pytest.mark.parametrize("name", ["teacher_logprobs", "rollout_logprobs", "old_logprobs", "advantages"])
def test_gradients(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} carries a gradient; detach it"):
        given(**{name: torch.zeros(2, requires_grad=True)})
    assert given(entropy=torch.zeros(2, requires_grad=True)).entropy is not None


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Declares a further value for the time of a test."""

    def add(name: str, per: Any) -> None:
        value = schema.TokenValue(name, pa.float32(), FINITE, per, "teacher")
        monkeypatch.setattr(schema, "LEARNER_VALUES", (*schema.LEARNER_VALUES, value))
        interface._declared.cache_clear()

    yield add
    monkeypatch.undo()
    interface._declared.cache_clear()


def test_k_values_per_token_are_a_matrix(declared: Any) -> None:
    declared("teacher_tops", "k per response token")
    assert given(teacher_tops=torch.zeros(2, 5)).teacher_tops.shape == (2, 5)
    for wrong in (torch.zeros(2), torch.zeros(3, 5)):
        with pytest.raises(ValueError, match=r"teacher_tops has shape .* give k values per response token"):
            given(teacher_tops=wrong)


def test_a_declared_value_takes_no_name_of_the_learner_s(declared: Any) -> None:
    declared("entropy", "response token")
    with pytest.raises(ValueError, match="'entropy' has the name of something that the learner makes itself"):
        given()


def test_the_interface_is_there_without_torch_and_arrow() -> None:
    program = (
        "import sys, importlib.util as u; import numpy, pydantic\n"
        "spec = u.spec_from_file_location('interface', sys.argv[1])\n"
        "module = sys.modules['interface'] = u.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(*sorted({'torch', 'pyarrow'} & set(sys.modules)), module.TokenBatch.__name__)\n"
    )
    command = [sys.executable, "-c", program, str(interface.__file__)]
    done = run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr) == (["TokenBatch"], "")
