"""A comparison's page claims no more than holds: who may sample more, who sees the report's problems, whose
seeds agree, and which folder is no run.
"""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from carried_out import BASE, carry_out, suite
from rich.console import Console

from services.compare.members import members_of
from services.compare.page import write
from services.compare.results import results_of
from services.compare.tables import terminal_pairs

SAME = "Every method gets the same prompts, responses a prompt and optimizer steps"
GRPO = BASE["variants"]["grpo"]["set"]


def page_of(tmp_path: Path, variants: dict[str, Any], **changes: Any) -> str:
    """The page of two methods, all of whose runs are finished."""
    wanted = suite(variants=variants, **changes)
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, 0.5)
    return write(results_of(wanted, members, {}), tmp_path).read_text()


def test_a_page_names_who_may_sample_more_and_how_much_each_sampled(tmp_path: Path) -> None:
    refilled = {"rollout.drop_uninformative": True, "rollout.refill_rounds": 4}
    more = {"trrd": {}, "b": {"label": "DAPO", "set": {**GRPO, **refilled}}}
    page = page_of(tmp_path / "more", more)
    assert f"{SAME}, but not all sample as much, see below." in page
    assert "(rollout.refill_rounds): DAPO up to 5 times as many" in page
    assert "Sampled tokens of a run: trrd 4,000, DAPO 4,000." in page
    page = page_of(tmp_path / "same", BASE["variants"])
    assert f"{SAME}.</p>" in page
    assert "Sampled tokens of a run" not in page


def test_a_page_names_who_looks_at_its_problems_while_it_trains(tmp_path: Path) -> None:
    def stages(until: dict[str, Any]) -> dict[str, Any]:
        first = {"steps": 8, "objective": {"kind": "opd"}, "until": until}
        return {"set": {"stages": [first, {"steps": 2, "objective": {"kind": "trrd"}}]}}

    variants = {"auto": stages({"evaluations_without_rise": 2}), "counted": stages({"tokens": 9})}
    page = page_of(tmp_path, variants, set={"learner.warmup_steps": 0, "evaluation.every": 1})
    said = re.findall(r"(\w+) ends a stage by its accuracy on the report&#39;s own held-out problems", page)
    assert said == ["auto"]


def test_where_all_seeds_differ_by_the_same_a_dash_has_its_reason(tmp_path: Path) -> None:
    wanted = suite()
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, {"trrd": 1.0, "grpo": 0.0}[member.variant])
    results = results_of(wanted, members, {})
    [pair] = results.differences
    assert (pair.by_seed, pair.t_test) == ((-1.0, -1.0), None)
    reason = "A dash stands where all seeds differ by the same"
    assert reason in write(results, tmp_path).read_text()
    shown = Console(width=400, file=StringIO(), record=True)
    shown.print(terminal_pairs(results))
    assert reason in " ".join(shown.export_text().split())
    apart = replace(results, differences=(replace(pair, t_test=0.5),))
    assert reason not in write(apart, tmp_path).read_text()


def test_a_folder_without_its_recipe_is_no_run_that_was_not_begun(tmp_path: Path) -> None:
    wanted = suite(seeds=[0])
    members = members_of(wanted, tmp_path, {})
    carry_out(members[0], 0.5)
    (members[0].folder / "recipe.yaml").unlink()
    missing = results_of(wanted, members, {}).missing
    assert missing[members[0].name].startswith(f"{members[0].folder} has no recipe.yaml. Put it back")
    assert missing[members[1].name] == "not begun"


def test_a_broken_file_of_verdicts_is_told_in_whole_sentences(tmp_path: Path) -> None:
    wanted = suite(seeds=[0])
    members = members_of(wanted, tmp_path, {})
    carry_out(members[0], 0.5)
    (members[0].folder / "verdicts.parquet").write_bytes(b"no parquet")
    said = results_of(wanted, members, {}).missing[members[0].name]
    assert f". Remove {members[0].folder} to have it carried out again" in said
    assert ".." not in said.replace(str(tmp_path), "")
