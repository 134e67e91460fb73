"""Finished runs as small files: they say the same, come together from several machines, and go on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from carried_out import BASE, carry_out, suite
from rlad_command import Said

from rlad_core.config import SHIPPED, ConfigError, parse
from services.compare import packing
from services.compare.comparison import Comparison
from services.compare.machine import machine_table
from services.compare.part import Part
from services.compare.suite import load_suite
from services.compare.taking import finished_runs, take
from services.report.records import ReportError
from services.run import own_code


def told(comparison: Comparison) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(json.dumps(machine_table(comparison.results({}))))
    return table


def test_packed_runs_say_what_whole_ones_say(tmp_path: Path) -> None:
    whole, to = Comparison(suite(), tmp_path / "whole"), tmp_path / "packed"
    for number, member in enumerate(whole.members):
        carry_out(member, 0.3 + 0.1 * number, samples=4)
    carry_out(Comparison(suite(seeds=[2]), tmp_path / "whole").members[0], 0.5, steps=2)
    ended = {"step": 1, "stage": "trrd", "why": "1,313 tokens were trained on"}
    (whole.members[0].folder / "stage_ends.jsonl").write_text(json.dumps(ended) + "\n")
    assert whole.pack(to, "mine.yaml") == [member.name for member in whole.members]
    packed = Comparison(suite(), to)
    assert [getattr(member.record(), "stage_ends", None) for member in packed.members[:2]] == [(ended,), ()]
    packed.check("mine.yaml")
    assert told(packed) == told(whole)
    for ours, theirs in zip(packed.results({}).methods, whole.results({}).methods, strict=True):
        assert ours.held_out_reward()[1].tolist() == theirs.held_out_reward()[1].tolist()
    assert all(member.is_finished() for member in packed.members)
    assert {file.name for file in to.rglob("*") if file.is_file()} == {
        "suite.yaml", "recipe.yaml", "metrics.jsonl", "evaluation.jsonl", "verdicts.parquet",
        "stage_ends.jsonl",
    }  # fmt: skip
    assert str(tmp_path) not in "".join(file.read_text() for file in to.rglob("*.yaml"))


def test_runs_of_two_machines_come_together_and_what_is_packed_can_be_packed(tmp_path: Path) -> None:
    to, again = tmp_path / "packed", tmp_path / "again"
    for seed in (0, 1):
        one = Comparison(suite(seeds=[seed]), tmp_path / f"machine{seed}")
        for member in one.members:
            carry_out(member, 0.5)
        one.pack(to, "mine.yaml")
    both = Comparison(suite(), to)
    assert not both.results({}).missing
    assert both.pack(again, "mine.yaml") == [member.name for member in both.members]
    assert told(Comparison(suite(), again)) == told(both)
    # More seeds: the runs that are there count as finished.
    more = Comparison(suite(seeds=[0, 1, 2]), again)
    more.check("mine.yaml")
    assert set(more.results({}).missing) == {"trrd-seed2", "grpo-seed2"}


def test_tries_are_packed_too_and_choose_the_same(tmp_path: Path) -> None:
    variants = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}, "grpo": BASE["variants"]["grpo"]}
    tuned = suite(variants=variants, tuning={"seed": 50, "set": {"task.evaluation.split": "validation"}})
    whole = Comparison(tuned, tmp_path / "whole")
    for right, (_, member) in zip((0.2, 0.9), whole.tries["trrd"], strict=True):
        carry_out(member, right)
    carry_out(whole.members[0], 0.5)
    whole.pack(tmp_path / "packed", "mine.yaml")
    packed = Comparison(tuned, tmp_path / "packed")
    packed.check("mine.yaml")
    assert packed.members[0].config().learner.lr == 2e-4
    tried = json.loads((tmp_path / "packed" / "tuning.json").read_text())
    assert [each["settings"] for each in tried["trrd"]] == [{"learner.lr": 1e-4}, {"learner.lr": 2e-4}]


def own_project(folder: Path) -> Path:
    """A suite with a recipe, data, a model's folder and code of its own, all beside it."""
    (folder / "data").mkdir(parents=True)
    (folder / "own.py").write_text("def score(response, gold, row):\n    return 1.0\n")
    for name in ("train", "test"):
        (folder / "data" / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "gold": 1}) + "\n")
    recipe = parse((SHIPPED / "recipes" / "kk-tiny-trrd.yaml").read_text())
    assert isinstance(recipe, dict)
    recipe["task"] = {
        "name": "prompts",
        "train": {"files": ["data/train.jsonl"]},
        "evaluation": {"files": ["data/test.jsonl"]},
        "reward": "own.py:score",
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(recipe))
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({**BASE, "recipe": "own.yaml", "seeds": [0]}))
    return file


def test_own_recipes_data_and_code_may_lie_elsewhere(tmp_path: Path) -> None:
    file, to = own_project(tmp_path / "here"), tmp_path / "here" / "packed"
    whole = Comparison(load_suite(file)[0], tmp_path / "whole")
    for member in whole.members:
        carry_out(member, 0.5)
        kept = own_code.keep(member.config(), member.folder)
        (member.folder / "recipe.yaml").write_text(yaml.safe_dump(kept))
    whole.check("mine.yaml")
    whole.pack(to, "mine.yaml")
    Comparison(load_suite(file)[0], to).check("mine.yaml")
    texts = [each.read_text() for each in (*to.rglob("*.yaml"), *to.rglob("*.json"))]
    assert str(tmp_path) not in "".join(texts)
    shutil.move(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "whole")
    moved, to = tmp_path / "there" / "mine.yaml", tmp_path / "there" / "packed"
    there = Comparison(load_suite(moved)[0], to)
    there.check("mine.yaml")
    assert not there.results({}).missing
    there.pack(tmp_path / "again", "mine.yaml")
    Comparison(load_suite(moved)[0], tmp_path / "again").check("mine.yaml")
    # What is another file, or other code, is one there too.
    recipe = moved.with_name("own.yaml").read_text()
    moved.with_name("own.yaml").write_text(recipe.replace("data/train.jsonl", "data/test.jsonl"))
    with pytest.raises(ConfigError, match=r"task\.train\.files\.0\.path"):
        Comparison(load_suite(moved)[0], to).check("mine.yaml")
    moved.with_name("own.yaml").write_text(recipe)
    moved.with_name("own.py").write_text("def score(response, gold, row):\n    return 0.5\n")
    with pytest.raises(ConfigError, match=r"own\.py has changed since the run began"):
        Comparison(load_suite(moved)[0], to).check("mine.yaml")


def test_a_narrower_suite_leaves_what_is_there_of_the_others(tmp_path: Path) -> None:
    variants = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}, "grpo": {"tune": {"learner.lr": [3e-4]}}}
    tuning = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
    wide, to = suite(variants=variants, tuning=tuning), tmp_path / "packed"
    whole = Comparison(wide, tmp_path / "whole")
    for member in whole.all_tries:
        carry_out(member, 0.5)
    for member in whole.members:
        carry_out(member, 0.5)
    whole.pack(to, "mine.yaml")
    narrow = suite(variants={"grpo": variants["grpo"]}, tuning=tuning, seeds=[0])
    Comparison(narrow, tmp_path / "whole").pack(to, "mine.yaml")
    assert yaml.safe_load((to / "suite.yaml").read_text()) == wide.model_dump(mode="json")
    assert set(json.loads((to / "tuning.json").read_text())) == {"trrd", "grpo"}
    variants["trrd"] = {"tune": {"learner.lr": [5e-4, 2e-4]}}
    back = suite(variants=variants, tuning=tuning)
    with pytest.raises(ConfigError, match=r"variants\.trrd .* is another .* with --from .*packed it takes"):
        Comparison(back, to).check("mine.yaml")


@pytest.mark.parametrize("text", ["{", "- 1\n", "name: mine\n", "\x00"])
def test_a_broken_suite_of_the_folder_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "suite.yaml").write_text(text)
    with pytest.raises(ConfigError, match="Write another --out; or remove") as told:
        Comparison(suite(), tmp_path).check("mine.yaml")
    assert str(tmp_path / "suite.yaml") in str(told.value)


def test_another_suites_folder_takes_none(tmp_path: Path) -> None:
    first = Comparison(suite(seeds=[0]), tmp_path / "first")
    carry_out(first.members[0], 0.5)
    first.pack(tmp_path / "packed", "mine.yaml")
    other = Comparison(suite(set={"learner.warmup_steps": 0}), tmp_path / "other")
    with pytest.raises(ConfigError, match="is another than that of the runs there"):
        other.pack(tmp_path / "packed", "mine.yaml")


def test_the_command_packs_and_goes_on_from_a_copy(rlad: Callable[..., Said], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({**BASE, "seeds": [0]}, sort_keys=False))
    said = rlad("compare", str(file), "--out", str(tmp_path / "out"), "--pack", str(tmp_path / "packed"))
    assert said.code == 2
    assert "nothing to pack" in said.err
    for member in Comparison(suite(seeds=[0]), tmp_path / "out").members:
        carry_out(member, 0.5)
    said = rlad("compare", str(file), "--out", str(tmp_path / "out"), "--pack", str(tmp_path / "out"))
    assert said.code == 2
    assert "has the runs themselves" in said.err
    said = rlad("compare", str(file), "--out", str(tmp_path / "out"), "--pack", str(tmp_path / "packed"))
    assert said.code == 0, said.err
    assert "packed  trrd-seed0, grpo-seed0" in said.out
    (tmp_path / "packed" / "runs" / "grpo-seed0" / "verdicts.parquet").write_bytes(b"PAR1")
    broken = rlad("compare", str(file), "--out", str(tmp_path / "packed"), "--report")
    assert broken.code == 0, broken.err
    [(name, why)] = json.loads((tmp_path / "packed" / "results.json").read_text())["missing"].items()
    assert name == "grpo-seed0"
    assert "verdicts.parquet is not a readable Parquet file" in why
    assert f"Remove {tmp_path / 'packed' / 'runs' / name} to have it carried out again" in why
    rlad("compare", str(file), "--out", str(tmp_path / "out"), "--pack", str(tmp_path / "packed"))
    shutil.move(tmp_path / "packed", tmp_path / "elsewhere")
    said = rlad("compare", str(file), "--out", str(tmp_path / "elsewhere"), "--report")
    assert said.code == 0, said.err
    assert (tmp_path / "elsewhere" / "report.html").is_file()


@pytest.mark.parametrize("last", ["whole", "rewrite", "write_whole"])
def test_what_was_packed_in_part_is_no_run_and_is_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    whole = Comparison(suite(seeds=[0], variants={"trrd": {}}), tmp_path / "whole")
    carry_out(whole.members[0], 0.5)
    ours = Comparison(whole.suite, tmp_path / "ours")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(packing, last, killed)
        with pytest.raises(KeyboardInterrupt):
            take(ours.members, finished_runs(whole.folder))
    assert ours.members[0].folder.is_dir()
    assert not ours.members[0].is_begun()
    assert take(ours.members, finished_runs(whole.folder)) == {"trrd-seed0": "trrd-seed0"}
    assert told(ours) == told(whole)


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "packed"])
def test_a_run_without_its_verdicts_is_not_finished_and_is_taken_again(tmp_path: Path, packed: bool) -> None:
    whole = Comparison(suite(), tmp_path / "whole")
    for member in whole.members:
        carry_out(member, 0.5)
    ours = Comparison(suite(), tmp_path / "ours")
    first, other, *_ = ours.members
    if packed:
        take(ours.members, finished_runs(whole.folder))
        (first.folder / "verdicts.parquet").unlink()
    else:
        for member in ours.members:
            carry_out(member, 0.5)
        [_, after] = sorted((first.folder / "evaluations").glob("*.parquet"))
        after.unlink()
    assert first.is_over()
    assert not first.is_finished()
    assert other.is_finished()
    said = f"{first.folder} has no responses of the evaluation after its last step"
    assert ours.results({}).missing[first.name].startswith(said)
    assert first.name not in ours.pack(tmp_path / "packed", "mine.yaml")
    with pytest.raises(ReportError, match="no finished run to take"):
        finished_runs(first.folder.parent)
    assert take(ours.members, finished_runs(whole.folder)) == {first.name: first.name}
    assert not ours.results({}).missing


def test_a_part_of_a_suite_is_packed_taken_and_reported(rlad: Callable[..., Said], tmp_path: Path) -> None:
    file, out, to = tmp_path / "mine.yaml", str(tmp_path / "out"), tmp_path / "packed"
    file.write_text(yaml.safe_dump(BASE, sort_keys=False))
    whole = Comparison(load_suite(file)[0], Path(out))
    for member in whole.members:
        carry_out(member, 0.5)
    said = rlad("compare", str(file), "--out", out, "--pack", str(to), "--only", "grpo", "--seed", "1")
    assert "packed  grpo-seed1 into" in said.out
    assert {each.name for each in (to / "runs").iterdir()} == {"grpo-seed1"}
    none = rlad("compare", str(file), "--out", str(to), "--pack", str(tmp_path / "x"), "--only", "trrd")
    assert (none.code, "is finished (A part of the suite alone: --only trrd), so" in none.err) == (2, True)
    other = str(tmp_path / "other")
    said = rlad("compare", str(file), "--out", other, "--from", out, "--only", "trrd", "--report")
    assert said.code == 0, said.err
    assert "took  trrd-seed0, trrd-seed1 from" in said.out
    rlad("compare", str(file), "--out", out, "--report", "--seed", "1")
    results = json.loads((Path(out) / "results.json").read_text())
    assert (results["suite"]["seeds"], results["missing"]) == ([1], {})
    assert {row["method"]: row["seeds"] for row in results["accuracy"]} == {"TRRD": 1, "grpo": 1}
    assert "A part of the suite alone: --seed 1." in (Path(out) / "report.html").read_text()
    assert whole.results({}, Part(("trrd",))).part == "A part of the suite alone: --only trrd."


@pytest.mark.parametrize("option", ["--out", "--pack"])
def test_a_file_is_no_folder(rlad: Callable[..., Said], tmp_path: Path, option: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(BASE, sort_keys=False))
    for path in (file, file / "below"):
        said = rlad("compare", str(file), option, str(path), "--report")
        assert said.code == 2
        assert f"{option} {path}: {file} is a file. Write a folder" in said.err.replace("\n", "")
