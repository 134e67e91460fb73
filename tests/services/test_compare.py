"""A suite is read, refused where it compares unlike things, and its settings are chosen among tries."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from carried_out import BASE, carry_out, suite, written
from rlad_command import Said

from rlad_core.config import SHIPPED, ConfigError, load
from services.compare import tuning
from services.compare.comparison import Comparison
from services.compare.members import members_of, tries_of
from services.compare.page import write
from services.compare.part import Part
from services.compare.suite import load_suite
from services.report.records import ReportError

VALIDATION = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
"""A suite's tuning, on other problems than the report's."""


def test_each_shipped_suite_can_be_carried_out(tmp_path: Path) -> None:
    names = sorted(file.stem for file in (SHIPPED / "suites").glob("*.yaml"))
    assert {"smoke", "kk_tiny", "kk_more", "alpha"} <= set(names)
    for name in names:
        found, file = load_suite(name)
        assert found.name == name
        Comparison(found, tmp_path / name).check(str(file))


def test_runs_go_seed_by_seed_and_change_what_the_suite_says(tmp_path: Path) -> None:
    members = members_of(suite(), tmp_path, {"grpo": {"learner.lr": 1e-3}})
    assert [member.name for member in members] == ["trrd-seed0", "grpo-seed0", "trrd-seed1", "grpo-seed1"]
    configs = [member.config() for member in members]
    assert [config.seed for config in configs] == [0, 0, 1, 1]
    assert [config.stages[0].objective.kind for config in configs] == ["trrd", "grpo"] * 2
    assert configs[1].learner.lr == 1e-3 != configs[0].learner.lr
    assert [Path(config.run_dir) for config in configs] == [member.folder for member in members]


def test_a_recipe_lies_beside_its_suite(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text((SHIPPED / "recipes" / "kk-tiny-trrd.yaml").read_text())
    found, _ = load_suite(written(tmp_path, {**BASE, "recipe": "own.yaml"}))
    assert found.recipe == str(tmp_path / "own.yaml")


def test_a_suite_and_a_recipe_are_told_apart(tmp_path: Path, rlad: Callable[..., Said]) -> None:
    said = rlad("plan", str(written(tmp_path, BASE)))
    assert said.code == 2
    assert "is a suite of runs and no recipe. Carry it out with rlad compare" in said.err
    recipe = SHIPPED / "recipes" / "kk-tiny-trrd.yaml"
    said = rlad("compare", str(recipe))
    assert said.code == 2
    assert f"is a recipe and no suite of runs. Carry it out with rlad run {recipe}" in said.err


def test_paths_in_a_suite_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home / "data", home / "recipes", elsewhere):
        folder.mkdir(parents=True)
    shutil.copytree(SHIPPED / "models" / "kk-student", home / "student")
    (home / "recipes" / "own.yaml").write_text((SHIPPED / "recipes" / "kk-tiny-trrd.yaml").read_text())
    for name in ("train", "held-out", "tried"):
        (home / "data" / f"{name}.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    (home / "own.py").write_text("def score(response, gold, row):\n    return 1.0\n")
    task = {
        "name": "prompts",
        "reward": "own.py:score",
        "train": {"files": ["data/train.jsonl"]},
        "evaluation": {"files": [{"path": "data/held-out.jsonl"}]},
    }
    values = {
        **BASE,
        "recipe": "recipes/own.yaml",
        "set": {**BASE["set"], "task": task},
        "variants": {
            "mine": {
                "set": {"policy.model": "student"},
                "tune": {"teacher.model": ["student", "rlad:kk-teacher"]},
            }
        },
        "tuning": {"seed": 50, "set": {"task.evaluation.files.0.path": "data/tried.jsonl"}},
    }
    file = written(home, values)
    monkeypatch.chdir(elsewhere)
    found, _ = load_suite(file)
    assert found.set["task"] == task  # as it stands there, wherever the folder will be
    one = members_of(found, elsewhere / "out", {"mine": {"teacher.model": "student"}})[0]
    config = one.config()
    assert [each.path for each in config.task.train.files] == [str(home / "data" / "train.jsonl")]
    assert config.task.reward == f"{home}/own.py:score"
    assert config.policy.model == config.teacher.model == str(home / "student")
    tried = [each.config() for _, each in tries_of(found, elsewhere / "out")["mine"]]
    assert [each.teacher.model for each in tried] == [str(home / "student"), "rlad:kk-teacher"]
    assert {each.task.evaluation.files[0].path for each in tried} == {str(home / "data" / "tried.jsonl")}
    # `rlad run` is a process in the folder where one types.
    assert load(one.recipe, one.overrides_anywhere) == config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": [0, 0]}, "seeds ([0, 0]): name one twice"),
        ({"seeds": []}, "seeds"),
        ({"variants": {"a b": {}}}, "variants.a b ('a b'): has characters that don't fit. Write letters"),
        ({"variants": {"a": {"tune": {"learner.lr": [1e-4]}}}}, "tuning (null): a has settings to try"),
        (
            {"variants": {"a": {"tune": {"learner.lr": []}}}, "tuning": {"seed": 9}},
            "variants.a.tune.learner.lr ([]): has no value to try",
        ),
        ({"set": {"output.dir": "elsewhere"}}, "set.output.dir ('elsewhere'): is written for each run"),
        (
            {"variants": {"a": {"set": {"seed": 7}}}},
            "variants.a.set.seed (7): is written for each run by the comparison, so it has no effect here",
        ),
        (
            {"variants": {"a": {"tune": {"seed": [1, 2]}}}, "tuning": {"seed": 9, "set": {"name": "b"}}},
            "tuning.set.name ('b'): is written for each run",
        ),
        (
            {"variants": {"a": {"label": "TRRD"}, "b": {"label": "TRRD"}}},
            "variants.b.label ('TRRD'): is what a is called in the report too",
        ),
        ({"variants": {"a": {"label": "b"}, "b": {}}}, "variants.b.label ('b'): is what a is called"),
        ({"tuning": {"seed": 1}}, "tuning.seed (1): is one of the seeds of the report"),
        ({"recipes": "x"}, "recipes"),
    ],
)
def test_a_wrong_suite_is_refused_with_the_field(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_suite(written(tmp_path, {**BASE, **changes}))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rollout.prompts_per_step": 16}, "same sequences a step"),
        ({"rollout.prompts_per_step": 64, "rollout.group_size": 4}, "same responses to a prompt"),
        ({"task.train.seed": 7}, "same prompts to train on"),
        ({"stages.0.steps": 5}, "same optimizer steps"),
        ({"learner.updates_per_batch": 1}, "same optimizer steps"),
        (
            {"stages.0.steps": 8, "learner.updates_per_batch": 1},
            "('8 x 1'): differs from trrd, which has 4 x 2",
        ),
        ({"policy.model": "rlad:kk-teacher"}, "same model"),
        ({"task.evaluation.seed": 7}, "same held-out problems"),
        ({"evaluation.samples": 4}, "same answers to them"),
        ({"evaluation.temperature": 0.0}, "same answers to them"),
        ({"rollout.max_response_length": 64}, "same answers to them"),
        ({"policy.init": "random"}, "same model"),
        ({"policy.max_length": 120}, "same lengths of prompts"),
        ({"policy.max_prompt_length": 30}, "same lengths of prompts"),
        (
            {"policy.max_prompt_length": 30, "policy.longer_prompts": "truncate_left"},
            "same lengths of prompts",
        ),
        ({"evaluation.overlap": "keep"}, "same prompts to train on"),
        ({"policy.chat_template_kwargs": {"enable_thinking": False}}, "same model"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    unlike = suite(variants={"trrd": {}, "other": {"set": settings}})
    with pytest.raises(ConfigError) as caught:
        Comparison(unlike, tmp_path / "out").check("suite.yaml")
    assert said in str(caught.value)
    assert "variants.other" in str(caught.value)
    assert not (tmp_path / "out").exists()


def refused(tmp_path: Path, variants: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        Comparison(suite(variants=variants, **changes), tmp_path).check("suite.yaml")
    return str(caught.value)


def test_tries_that_cannot_be_compared_are_refused_before_they_are_made(tmp_path: Path) -> None:
    tuned = {"trrd": {}, "other": {"tune": {"learner.updates_per_batch": [4]}}}
    said = refused(tmp_path, tuned, tuning=VALIDATION)
    assert "variants.other ('4 x 4'): differs from trrd, which has 4 x 2: all need the same optimizer" in said


def test_no_try_may_change_what_all_need_the_same_though_all_variants_try_it(tmp_path: Path) -> None:
    """The best is found for each variant alone, so the one could get 3 steps and the other 6."""
    steps = {"learner.lr": [1e-4, 2e-4], "stages.0.steps": [3, 6]}
    grpo = {"set": {"stages.0.objective": {"kind": "grpo"}}, "tune": steps}
    said = refused(tmp_path, {"trrd": {"tune": steps}, "grpo": grpo}, tuning=VALIDATION)
    assert said.startswith("suite.yaml: 2 problems")
    for variant in ("trrd", "grpo"):
        assert f"variants.{variant}.tune.stages.0.steps ([3, 6]): makes the tries differ in optimizer" in said
    assert "3 x 2 or 6 x 2" in said


@pytest.mark.parametrize("settings", [{}, {"task.evaluation.count": 100}])
def test_tries_are_not_judged_on_the_problems_of_the_report(tmp_path: Path, settings: dict[str, Any]) -> None:
    variants = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}}
    tuned = suite(variants=variants, tuning={"seed": 50, "set": settings})
    with pytest.raises(ConfigError, match=r"tuning\.set .*has the tries judged on the report's own held-out"):
        Comparison(tuned, tmp_path).check("suite.yaml")


def test_what_is_tried_is_tried_whatever_the_variant_writes_around_it(tmp_path: Path) -> None:
    """The suite has the field too, and the variant the whole section."""
    changed = {
        "set": {**BASE["set"], "learner.lr": 1e-3},
        "variants": {
            "trrd": {
                "set": {"learner": {"lr": 1e-2, "updates_per_batch": 2}},
                "tune": {"learner.lr": [1e-4, 2e-4]},
            }
        },
        "tuning": VALIDATION,
    }
    comparison = Comparison(suite(**changed), tmp_path)
    comparison.check("suite.yaml")
    assert [member.config().learner.lr for member in comparison.all_tries] == [1e-4, 2e-4]
    chosen = members_of(comparison.suite, tmp_path, {"trrd": {"learner.lr": 2e-4}})
    assert {member.config().learner.lr for member in chosen} == {2e-4}
    assert {member.config().learner.lr for member in members_of(comparison.suite, tmp_path, {})} == {1e-2}


def test_worked_solutions_are_one_to_a_prompt_and_may_be_of_other_data(tmp_path: Path) -> None:
    solutions = {
        "stages.0.objective": {"kind": "sft"},
        "task.train.seed": 7,
        "rollout.prompts_per_step": 256,
        "rollout.group_size": 1,
    }
    for variants in ({"sft": {"set": solutions}, **BASE["variants"]}, {"sft": {"set": solutions}}):
        Comparison(suite(variants=variants), tmp_path / "out").check("suite.yaml")


def test_what_is_wrong_is_told_of_every_variant_at_once(tmp_path: Path) -> None:
    wrong = {
        "trrd": {},
        "grpo": {"set": {"learner.lrr": 1}},
        "opd": {"set": {"stages.0.objective": {"kind": "opdd"}}},
        "kdrl": {"set": {"stages.0.objective": {"kind": "kdrl"}}, "tune": {"learner.lr": [1e-4, -1.0]}},
    }
    said = refused(tmp_path, wrong, tuning=VALIDATION)
    assert said.startswith("suite.yaml: 3 problems")
    assert "variants.grpo: learner.lrr (1): no such key. Did you mean lr?" in said
    assert "variants.opd: stages.0.objective.kind ('opdd'): is not known. Did you mean opd?" in said
    assert "variants.kdrl: learner.lr (-1.0): must be above 0" in said


def test_what_is_wrong_in_all_variants_is_told_once(tmp_path: Path) -> None:
    said = refused(tmp_path, BASE["variants"], set={**BASE["set"], "learner.lrr": 1})
    assert said.startswith("suite.yaml: 1 problem\n  - all variants: learner.lrr (1): no such key")


def test_a_recipe_is_read_once_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.yaml").write_text((SHIPPED / "recipes" / "kk-tiny-trrd.yaml").read_text())
    comparison = Comparison(suite(recipe=str(tmp_path / "own.yaml")), tmp_path / "out")
    for member in comparison.members:
        carry_out(member, 0.5)
    alone = load(comparison.members[0].recipe, comparison.members[0].overrides)
    assert comparison.members[0].config() == alone
    read: Counter[str] = Counter()
    text_of = Path.read_text

    def counted(file: Path, **how: Any) -> str:
        read[str(file)] += 1
        return text_of(file, **how)

    monkeypatch.setattr(Path, "read_text", counted)
    comparison = Comparison(comparison.suite, tmp_path / "out")
    comparison.check("suite.yaml")
    comparison.results({})
    counts = {file: count for file, count in read.items() if file.endswith((".yaml", "recipe.yaml"))}
    assert set(counts.values()) == {1}
    assert len(counts) == 1 + 4
    member = comparison.members[0]
    assert member.is_finished()
    (member.folder / "evaluation.jsonl").unlink()
    assert not member.is_finished()


def test_the_folder_of_another_suite_is_refused_and_more_seeds_are_not(tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite().model_dump(mode="json")))
    Comparison(suite(seeds=[0, 1, 2]), tmp_path).check("suite.yaml")
    more = {**BASE["variants"], "opd": {"set": {"stages.0.objective": {"kind": "opd"}}}}
    Comparison(suite(variants=more), tmp_path).check("suite.yaml")
    other = {**BASE["variants"], "grpo": {"set": {"stages.0.objective": {"kind": "opd"}}}}
    with pytest.raises(ConfigError, match=r"variants\.grpo .*another than that of the runs there"):
        Comparison(suite(variants=other), tmp_path).check("suite.yaml")
    with pytest.raises(ConfigError, match=r"name .*another than that of the runs there.*They are mine's"):
        Comparison(suite(name="other"), tmp_path).check("suite.yaml")
    Comparison(suite(name="mine-untuned"), tmp_path).check("suite.yaml")
    with pytest.raises(ConfigError, match=r"variants .*another than that of the runs there"):
        Comparison(suite(variants={"opd": more["opd"]}), tmp_path).check("suite.yaml")


def test_the_file_that_a_person_wrote_stays_as_it_is(tmp_path: Path) -> None:
    file = written(tmp_path, BASE)
    wrote = f"# notes of mine\n{file.read_text()}"
    file.write_text(wrote)
    loaded, _ = load_suite(file)
    for untuned in (loaded, loaded.untuned):
        Comparison(untuned, tmp_path).write_suite(untuned.recipe)  # rlad compare suite.yaml --out .
        assert file.read_text() == wrote
    (tmp_path / "out").mkdir()
    Comparison(loaded, tmp_path / "out").write_suite(loaded.recipe)
    assert "notes" not in (tmp_path / "out" / "suite.yaml").read_text()


def test_a_stop_while_it_writes_leaves_what_was_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tuning.write({"grpo": [tuning.Try({"learner.lr": 1e-3}, 0.5)]}, tmp_path)
    Comparison(suite(), tmp_path).write_suite("kk-tiny-trrd")

    def stopped(file: Path, content: bytes) -> int:
        with file.open("wb") as half:
            half.write(content[:9])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", stopped)
    with pytest.raises(KeyboardInterrupt):
        tuning.write({"trrd": []}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Comparison(suite(), tmp_path).write_suite("kk-tiny-trrd")
    assert set(tuning.read(tmp_path)) == {"grpo"}
    Comparison(suite(), tmp_path).check("suite.yaml")


def test_a_part_of_a_suite_is_of_its_variants_and_seeds() -> None:
    members = Comparison(suite(), Path("out")).members
    assert [each.name for each in members if Part(("grpo",)).has(each)] == ["grpo-seed0", "grpo-seed1"]
    assert [each.name for each in members if Part(("grpo",), (1,)).has(each)] == ["grpo-seed1"]
    assert all(map(Part().has, members))
    with pytest.raises(ConfigError) as caught:
        Part(("trdr",), (0, 7)).check(suite(), "mine.yaml")
    assert "--only ('trdr'): is none of the suite's: trrd, grpo" in str(caught.value)
    assert "--seed (7): is none of the suite's: 0, 1" in str(caught.value)


def test_untuned_a_suite_has_no_tries_and_a_folder_of_its_own(
    rlad: Callable[..., Said], tmp_path: Path
) -> None:
    tuned, _ = load_suite("kk_tiny")
    assert Comparison(tuned.untuned, tmp_path).all_tries == []
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(tuned.untuned.model_dump(mode="json")))
    with pytest.raises(ConfigError, match="They were not tuned: write --untuned, or another --out"):
        Comparison(tuned, tmp_path).check("suite.yaml")
    (tmp_path / "suite.yaml").unlink()
    assert Comparison(tuned, tmp_path).all_tries
    said = rlad("compare", "kk_tiny", "--untuned", "--report")
    assert said.code == 2
    assert "comparisons/kk_tiny-untuned" in said.err.replace("\n", "")


def test_the_best_try_is_taken_when_all_are_finished(tmp_path: Path) -> None:
    variants = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4, 4e-4]}}, "grpo": BASE["variants"]["grpo"]}
    tuned = suite(variants=variants, tuning=VALIDATION)
    comparison = Comparison(tuned, tmp_path)
    comparison.check("suite.yaml")
    [(_, one), (_, two), (_, three)] = comparison.tries["trrd"]
    assert one.config().task_sections["task"].model_dump()["evaluation"]["split"] == "validation"
    assert one.config().seed == 50
    carry_out(one, 0.3)
    carry_out(two, 0.9)
    assert tuning.chosen_of(comparison.tries)[0] == {}
    carry_out(three, 0.5)
    chosen, found = tuning.chosen_of(comparison.tries)
    assert chosen == {"trrd": {"learner.lr": 2e-4}}
    assert len(found["trrd"]) == 3
    assert [m.config().learner.lr for m in comparison.members if m.variant == "trrd"] == [2e-4, 2e-4]


@pytest.mark.parametrize("subset", ["all", "average"])
def test_the_accuracy_of_a_try_is_that_of_its_subsets_whatever_they_are_called(
    tmp_path: Path, subset: str
) -> None:
    tuned = suite(
        variants={"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}, "grpo": BASE["variants"]["grpo"]},
        tuning=VALIDATION,
    )
    comparison = Comparison(tuned, tmp_path)
    for right, (_, member) in zip((0.2, 0.9), comparison.tries["trrd"], strict=True):
        carry_out(member, right)
        file = member.folder / "evaluation.jsonl"
        file.write_text(file.read_text().replace("2_people", subset))
    chosen, found = tuning.chosen_of(comparison.tries)
    assert chosen == {"trrd": {"learner.lr": 2e-4}}
    tuning.write(found, tmp_path)
    write(comparison.results({}), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["tuning"]["trrd"][1]["accuracy"] > 0.7


def test_of_several_subsets_the_average_counts_and_must_be_there(tmp_path: Path) -> None:
    member = members_of(suite(), tmp_path, {})[0]
    carry_out(member, 0.5)
    rows = [
        {"step": 4, "when": "after", "subset": name, "total": 1, "accuracy": value, "low": 0.0, "high": 1.0}
        for name, value in (("easy", 0.9), ("hard", 0.1), ("average", 0.5), ("all", 0.8))
    ]
    file = member.folder / "evaluation.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert tuning.accuracy_of(member) == 0.5
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    with pytest.raises(ReportError, match="no accuracy after the last step: it has easy, hard and no"):
        tuning.accuracy_of(member)


def test_methods_are_judged_alike(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def one(response, gold, row):\n    return 1.0\n\n\ndef two(response, gold, row):\n    return 0.0\n"
    )
    (tmp_path / "data.jsonl").write_text('{"prompt": "1+1?", "gold": "2"}\n')
    files = {"files": [str(tmp_path / "data.jsonl")]}
    task = {"name": "prompts", "reward": f"{tmp_path / 'own.py'}:one", "train": files, "evaluation": files}
    other = {"set": {"task.reward": f"{tmp_path / 'own.py'}:two"}}
    unlike = suite(set={**BASE["set"], "task": task}, variants={"one": {}, "two": other})
    with pytest.raises(ConfigError, match=r"variants\.two .* all need the same judging"):
        Comparison(unlike, tmp_path / "out").check("suite.yaml")
