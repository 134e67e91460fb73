"""A command that needs Ray, torch or vLLM says so, and what to install, before it imports anything."""

import pytest
import typer

from rlad_core.config import load
from services.cli import extras

FUSED = [
    "learner.logprobs=fused", "learner.num_gpus=1", "learner.entropy_every=5", "policy.dtype=bfloat16",
    "cluster.num_gpus=1",
]  # fmt: skip


def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "vllm" else object())
    with pytest.raises(typer.Exit) as ended:
        extras.needs_services()
    assert ended.value.exit_code == 2
    said = capsys.readouterr().err
    assert said.startswith("This command needs vLLM, which is not installed here: pip install 'rlad[cpu]'")


def test_nothing_is_said_where_all_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    extras.needs_services()
    assert capsys.readouterr().err == ""


def test_what_a_learner_wants_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    extras.needs_extras(load("kk-tiny-trrd"))
    config = load("kk-tiny-trrd", ["learner.lora={rank: 4}", "learner.optimizer=adamw_8bit", *FUSED])
    with pytest.raises(typer.Exit) as ended:
        extras.needs_extras(config)
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err.splitlines() == [
        "learner.lora needs peft, which is not installed here: pip install 'rlad[lora]'.",
        "learner.optimizer adamw_8bit needs torchao, which is not installed here: "
        "pip install 'rlad[memory]'.",
        "learner.logprobs fused needs cut_cross_entropy, which is not installed here: "
        "pip install 'rlad[fused]'.",
    ]
    monkeypatch.setattr(extras, "find_spec", lambda name: object())
    extras.needs_extras(config)
