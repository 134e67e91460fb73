"""What a suite says arrives in its runs and comes back from its folder, whatever it looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from carried_out import BASE, carry_out, suite, written
from rlad_command import Said

from rlad_core.config.yaml_text import dump_values
from services.compare import tuning
from services.compare.comparison import Comparison
from services.compare.members import members_of
from services.compare.suite import load_suite

ODD = {"greeting": "hi 😀\u2028\x7f", "rate": "1e-4", "most": 0.1, "key 😀": ["on", None, True]}


def test_the_settings_of_a_suite_arrive_in_its_runs(tmp_path: Path) -> None:
    wanted = suite(set={**BASE["set"], "policy.chat_template_kwargs": ODD})
    for member in members_of(wanted, tmp_path, {}):
        assert member.config().policy.chat_template_kwargs == ODD
        again = member.base.config(member.overrides_anywhere)
        assert again == member.config()


def test_a_variant_may_write_a_section_anew_of_which_all_change_a_field(tmp_path: Path) -> None:
    """What all change is no field of it any more, and no path that is to be made absolute."""
    variants = {
        "trrd": {},
        "grpo": {"set": {"stages.0.objective": {"kind": "grpo"}}},
        "opd": {"set": {"stages": [{"steps": 4, "objective": {"kind": "opd"}}], "stages.0.name": "first"}},
    }
    wanted = suite(set={**BASE["set"], "stages.0.objective.alpha": 0.3}, variants=variants, seeds=[0])
    trrd, *others = members_of(wanted, tmp_path, {})
    assert trrd.config().stages[0].objective.model_dump()["alpha"] == 0.3
    assert [each.config().stages[0].objective.kind for each in others] == ["grpo", "opd"]
    for member in (trrd, *others):
        assert member.base.config(member.overrides_anywhere) == member.config()


def test_a_comparison_goes_on_whose_texts_look_like_numbers(tmp_path: Path) -> None:
    variants = {
        name: {"label": rate, "set": {"learner.lr": float(rate)}}
        for name, rate in (("low", "1e-4"), ("high", "1e-3"))
    }
    texts = {**BASE["set"], "policy.chat_template_kwargs": {"effort": "1e5"}}
    file = tmp_path / "suite.yaml"
    file.write_text(dump_values({**BASE, "set": texts, "variants": variants}))
    loaded, _ = load_suite(file)
    comparison = Comparison(loaded, tmp_path / "runs")
    for member in comparison.members:
        carry_out(member, 0.5)
    comparison.write_suite(loaded.recipe)
    Comparison(loaded, tmp_path / "runs").check(str(file))
    assert comparison.pack(tmp_path / "packed", str(file)) == [each.name for each in comparison.members]
    packed = Comparison(loaded, tmp_path / "packed")
    packed.check(str(file))
    assert [method.label for method in packed.results({}).methods] == ["1e-4", "1e-3"]


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("{", "the whole: Invalid JSON"),
        ("[]", "the whole: "),
        ('{"trrd": 3}', "trrd: "),
        ('{"trrd": [{"settings": {}, "accuracy": "good"}]}', "trrd.0.accuracy: "),
        ('{"trrd": [{"settings": {}, "accuracy": NaN}]}', "trrd.0.accuracy: "),
    ],
)
def test_a_broken_file_of_tries_is_named_before_anything_starts(
    tmp_path: Path, rlad: Callable[..., Said], kept: Any, said: str
) -> None:
    variants = {**BASE["variants"], "trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}}
    values = {**BASE, "variants": variants}
    values["tuning"] = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
    file = written(tmp_path, values)
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / tuning.FILE).write_text(kept)
    for asked in ((), ("--report",)):
        told = rlad("compare", str(file), "--out", str(folder), *asked)
        assert told.code == 2
        assert f"{folder / tuning.FILE} is broken: {said}" in told.err.replace("\n", " ")
    assert [each.name for each in folder.iterdir()] == [tuning.FILE]
