"""A run whose numbers were not finite is a result: told, packed, below all others, not carried out again."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from carried_out import BASE, carry_out, suite, written
from rich.console import Console
from rlad_command import Said

from rlad_core.config import ConfigError
from services.compare import carry_out as carrying
from services.compare import tuning
from services.compare.comparison import Comparison
from services.compare.members import Member
from services.compare.overview import Overview
from services.compare.page import write
from services.compare.suite import Suite
from services.run.divergence import DIVERGED

RATES = [1e-4, 2e-4, 3e-4]


def tuned(**changes: Any) -> Suite:
    """A suite in which TRRD has three tries and GRPO none."""
    variants = {"trrd": {"tune": {"learner.lr": RATES}}, "grpo": BASE["variants"]["grpo"]}
    tries = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
    return suite(**{"variants": variants, "tuning": tries, "seeds": [0], **changes})


def diverge(member: Member, steps: int) -> None:
    """Leave what a run leaves whose numbers were not finite after so many steps."""
    carry_out(member, 0.5, steps=steps)
    (member.folder / DIVERGED).write_text("{}")


def tries_of(comparison: Comparison) -> list[Member]:
    return [member for _, member in comparison.tries["trrd"]]


class Runs:
    """In place of processes: each run is over at once, and failed, having done what `outcome` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, outcome: Callable[[Member], None]) -> None:
        self.begun: list[str] = []
        self._outcome = outcome
        monkeypatch.setattr(carrying, "_begin", self._begin)
        hosts = SimpleNamespace(host=lambda *_: None, end=lambda _: None, close=lambda: None)
        monkeypatch.setattr(carrying, "Hosts", lambda *_: hosts)
        monkeypatch.setattr(carrying.time, "sleep", lambda _: None)

    def _begin(self, member: Member, log: Path, host: Any) -> Any:
        self.begun.append(member.name)
        log.write_text("failed: the gradient's norm is nan\n")
        self._outcome(member)
        return SimpleNamespace(poll=lambda: 1, returncode=1)


def test_a_try_that_diverged_is_finished_and_below_all_others(tmp_path: Path) -> None:
    comparison = Comparison(tuned(), tmp_path)
    one, two, three = tries_of(comparison)
    carry_out(one, 0.0)
    diverge(three, 1)
    chosen, found = tuning.chosen_of(comparison.tries)
    assert (chosen, len(found["trrd"])) == ({}, 2)
    assert "1 of its 3 tries are not finished" in comparison.results({}).missing["trrd-seed0"]
    diverge(two, 3)
    chosen, found = tuning.chosen_of(comparison.tries)
    assert chosen == {"trrd": {"learner.lr": RATES[0]}}
    assert [(each.accuracy, each.diverged_after) for each in found["trrd"]] == [
        (0.0, None), (None, 3), (None, 1),
    ]  # fmt: skip
    comparison.check("mine.yaml")
    tuning.write(found, tmp_path)
    [first, second, _] = json.loads((tmp_path / "tuning.json").read_text())["trrd"]
    assert first == {"settings": {"learner.lr": RATES[0]}, "accuracy": 0.0}
    assert second == {"settings": {"learner.lr": RATES[1]}, "accuracy": None, "diverged_after": 3}
    carry_out(comparison.members[0], 0.5)
    page = write(comparison.results({}), tmp_path).read_text()
    assert "<td>diverged after 3 steps</td>" in page
    assert "<td>diverged after 1 step</td>" in page
    assert json.loads((tmp_path / "results.json").read_text())["tuning"]["trrd"][1]["accuracy"] is None


def test_where_all_tries_diverged_the_variant_cannot_be_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = Comparison(tuned(), tmp_path)
    for member in tries_of(comparison):
        diverge(member, 2)
    begun = Runs(monkeypatch, lambda member: carry_out(member, 0.5)).begun
    assert comparison.carry_out(Console(quiet=True)) == {}
    assert begun == ["grpo-seed0"]
    results = comparison.results({})
    assert results.missing == {
        "trrd-seed0": "it cannot be trained with this grid, all of its 3 tries diverged"
    }
    assert "trrd-seed0 is not in it: it cannot be trained with" in write(results, tmp_path).read_text()


def test_what_diverges_is_not_carried_out_again_and_what_fails_otherwise_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = Comparison(tuned(), tmp_path)
    one, two, three = tries_of(comparison)
    carry_out(one, 0.5)

    def outcome(member: Member) -> None:
        if member == two:
            diverge(member, 2)
        elif member == three and not member.folder.exists():
            carry_out(member, 0.5, steps=1)

    runs = Runs(monkeypatch, outcome)
    console = Console(record=True, width=200, file=StringIO())
    failed = comparison.carry_out(console)
    assert set(failed) == {"trrd-try3", "grpo-seed0"}
    assert runs.begun == ["trrd-try2", "trrd-try3", "grpo-seed0"]
    said = console.export_text()
    assert "trrd-try2: diverged after 2 steps, in 0.0 min (2 of 5 runs done" in said
    assert "trrd-try3: failed after 0.0 min (2 of 5 runs done, 1 failed" in said
    runs.begun.clear()
    comparison.carry_out(Console(quiet=True))
    assert runs.begun == ["trrd-try3", "grpo-seed0"]


def test_what_is_left_counts_no_steps_that_a_diverged_run_will_not_have(tmp_path: Path) -> None:
    members = Comparison(suite(), tmp_path).members
    diverge(members[0], 1)
    overview = Overview(Console(quiet=True), members)
    assert sum(overview.steps.values()) == 1 + 3 * 4
    overview.look(members[1])
    diverge(members[1], 2)
    overview.over(members[1], "diverged")
    assert sum(overview.steps.values()) == 1 + 2 + 2 * 4


@pytest.mark.parametrize("packed", [False, True], ids=["whole", "packed"])
def test_what_diverged_in_another_comparison_is_taken_from_it(packed: bool, tmp_path: Path) -> None:
    theirs, ours = (Comparison(tuned(), tmp_path / name) for name in ("theirs", "ours"))
    one, two, three = tries_of(theirs)
    carry_out(one, 0.1)
    carry_out(two, 0.9)
    diverge(three, 2)
    source = theirs.folder
    if packed:
        theirs.pack(source := tmp_path / "packed", "mine.yaml")
    names = [member.name for member in (one, two, three)]
    assert ours.take(source, Console(quiet=True)) == dict(zip(names, names, strict=True))
    assert [member.diverged_after() for member in tries_of(ours)] == [None, None, 2]
    assert tuning.chosen_of(ours.tries)[0] == {"trrd": {"learner.lr": RATES[1]}}


def test_a_seed_that_diverged_is_told(tmp_path: Path, rlad: Callable[..., Said]) -> None:
    file, out = written(tmp_path, BASE), tmp_path / "out"
    first, *others = Comparison(suite(), out).members
    diverge(first, 3)
    for member in others:
        carry_out(member, 0.5)
    said = rlad("compare", str(file), "--out", str(out), "--report")
    assert said.code == 0, said.err
    assert "1 of the suite's runs is not in it; the report says why" in said.out
    assert "trrd-seed0 is not in it: diverged after 3 steps." in (out / "report.html").read_text()
    results = json.loads((out / "results.json").read_text())
    assert results["missing"] == {"trrd-seed0": "diverged after 3 steps"}


def test_packed_it_is_what_it_was(tmp_path: Path) -> None:
    whole = Comparison(tuned(seeds=[0, 1]), tmp_path / "whole")
    one, two, three = tries_of(whole)
    carry_out(one, 0.5)
    diverge(two, 2)
    diverge(three, 0)
    seeds = whole.members
    diverge(seeds[0], 1)
    for member in seeds[1:]:
        carry_out(member, 0.5)
    names = whole.pack(tmp_path / "packed", "mine.yaml")
    assert set(names) == {member.name for member in (one, two, three, *seeds)}
    packed = Comparison(tuned(seeds=[0, 1]), tmp_path / "packed")
    packed.check("mine.yaml")
    assert packed.results({}).missing == whole.results({}).missing == {"trrd-seed0": "diverged after 1 step"}
    assert tuning.chosen_of(packed.tries)[1] == tuning.chosen_of(whole.tries)[1]
    tried = json.loads((tmp_path / "packed" / "tuning.json").read_text())["trrd"]
    assert [each.get("diverged_after") for each in tried] == [None, 2, 0]
    assert packed.pack(tmp_path / "again", "mine.yaml") == names


def test_a_run_that_came_to_its_end_later_is_no_diverged_one(tmp_path: Path) -> None:
    member = Comparison(suite(), tmp_path).members[0]
    carry_out(member, 0.5)
    (member.folder / DIVERGED).write_text("{}")
    assert member.is_finished()
    assert member.diverged_after() is None


def test_what_diverged_with_other_settings_is_not_taken_for_this_suite_s(tmp_path: Path) -> None:
    file = written(tmp_path, BASE)
    diverge(Comparison(suite(), tmp_path / "out").members[0], 1)
    gentler = yaml.safe_load(file.read_text())
    gentler["set"]["learner.lr"] = 1e-5
    comparison = Comparison(Suite.model_validate(gentler), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"trrd-seed0 .*diverged with other settings or other code"):
        comparison.check("mine.yaml")


def test_the_comparisons_of_this_repository_are_read_as_before(tmp_path: Path) -> None:
    kept = Path(__file__).parents[2] / "docs" / "results" / "kk_tiny_tuned" / "tuning.json"
    (tmp_path / "tuning.json").write_text(kept.read_text())
    tuning.write({}, tmp_path)
    assert json.loads((tmp_path / "tuning.json").read_text()) == json.loads(kept.read_text())
