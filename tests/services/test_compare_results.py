"""A report says what the runs of a suite say, of each method and of pairs of them."""

from __future__ import annotations

import html
import json
import re
import warnings
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from carried_out import BASE, PROBLEMS, carry_out, suite, written
from rich.console import Console
from rlad_command import Said

from rlad_core.evaluation import Estimate, estimates
from rlad_core.prompt_checks.findings import Checked
from rlad_core.prompt_checks.record import write_record
from services.compare import results as calculated
from services.compare import tuning
from services.compare.comparison import Comparison
from services.compare.drawing import style, to_html, write_png
from services.compare.members import members_of
from services.compare.packing import pack
from services.compare.page import write
from services.compare.plots import plots_of
from services.compare.results import results_of
from services.compare.suite import load_suite
from services.compare.tables import seeds_remark, stage_rows, terminal_pairs, terminal_table
from services.report.tables import change_table, evaluation_table


def test_results_and_report_say_what_the_runs_left(tmp_path: Path) -> None:
    wanted = suite()
    members = members_of(wanted, tmp_path, {})
    for member in members[:3]:
        carry_out(member, {"trrd": 0.9, "grpo": 0.2}[member.variant], samples=4)
    carry_out(members[3], 0.2, samples=4, steps=2)
    results = results_of(wanted, members, {})
    assert results.missing == {"grpo-seed1": "2 of 4 steps"}
    trrd, grpo = results.methods
    assert (trrd.seeds, grpo.seeds) == ((0, 1), (0,))
    steps, values = trrd.training("reward_mean")
    assert steps.tolist() == [1, 2, 3, 4]
    assert values.tolist() == [[1, 2, 3, 4]] * 2
    assert trrd.held_out()[0].tolist() == [0, 4]
    assert trrd.held_out()[1][:, 1].mean() == pytest.approx(trrd.accuracy().value)
    steps, values = trrd.held_out_reward()
    assert steps.tolist() == [0, 4]
    np.testing.assert_allclose(values, 2 * trrd.held_out()[1] - 1)
    ks, passes = trrd.passes()
    assert ks == (1, 2, 4)
    assert (np.diff(passes, axis=1) >= 0).all()
    assert (trrd.seconds("teacher"), trrd.total("tokens"), trrd.total_seconds) == (0.5, 4000, 16.0)
    stages, times = stage_rows(results)
    assert stages == ["rollout", "teacher", "step"]
    # As the paper has its 15.5%: of the step without it.
    assert times[0]["teacher_share"] == pytest.approx(0.5 / 3.5)
    [found] = results.differences
    assert (found.seeds, found.problems) == (1, PROBLEMS)
    assert found.difference.value < -0.5
    assert found.adjusted is not None
    assert found.adjusted < 0.01

    page = write(results, tmp_path)
    text = page.read_text()
    assert "TRRD over grpo" in text
    assert "grpo-seed1 is not in it: 2 of 4 steps." in text
    assert not re.search(r"<(script|link|img|iframe)[^>]* (src|href)=", text)  # opens without a network
    table = json.loads((tmp_path / "results.json").read_text())
    assert table["accuracy"][0]["average"]["value"] == pytest.approx(trrd.accuracy().value)
    assert table["curves"]["TRRD"]["held_out"]["x"] == [0, 4]
    names = {file.name for file in (tmp_path / "plots").glob("*.png")}
    assert {"held_out.png", "training_reward.png", "pass_at_4.png", "pass_at_k.png"} <= names
    assert "held_out_reward.png" in names
    [by_k] = [plot for plot in plots_of(results) if plot.name == "pass_at_k"]
    assert by_k.doublings == [1, 2, 4]
    assert '"xaxis":{"title":{"text":"k"},"type":"log","tickvals":[1,2,4]}' in to_html(by_k)


def test_a_run_that_was_trained_on_other_prompts_is_named_and_not_compared(tmp_path: Path) -> None:
    solved = {"stages.0.objective": {"kind": "sft"}, "rollout.prompts_per_step": 256, "rollout.group_size": 1}
    wanted = suite(seeds=[0, 1], variants={**BASE["variants"], "sft": {"set": solved}})
    members = members_of(wanted, tmp_path, {})
    counts = {"trrd": (300, "all"), "grpo": (297, "fewer"), "sft": (12, "its own")}
    for member in members:
        carry_out(member, 0.5)
        if (member.variant, member.seed) != ("grpo", 1):  # an older run kept no record
            training, digest = counts[member.variant]
            used = Checked(training=training, held_out=64, digest=digest)
            write_record(used, member.folder)
    results = results_of(wanted, members, {})
    assert list(results.missing) == ["grpo-seed0"]
    said = "other prompts than trrd-seed0: 297 to train on and 64 held out, there 300 to train on and 64 held"
    assert said in results.missing["grpo-seed0"]
    assert {method.name: method.seeds for method in results.methods} == {
        "trrd": (0, 1), "grpo": (1,), "sft": (0, 1),
    }  # fmt: skip
    assert pack(members, tmp_path / "packed")
    packed = members_of(wanted, tmp_path / "packed", {})
    assert results_of(wanted, packed, {}).missing == results.missing
    (members[0].folder / "prompts.json").write_text("{")
    broken = results_of(wanted, members, {}).missing
    assert "trrd-seed0/prompts.json is broken" in broken["trrd-seed0"]
    assert "other prompts than grpo-seed0" in broken["trrd-seed1"]


def test_steps_without_a_teacher_do_not_make_it_cheaper(tmp_path: Path) -> None:
    wanted = suite(seeds=[0], variants={"trrd": {}})
    [member] = members_of(wanted, tmp_path, {})
    carry_out(member, 0.5)
    file = member.folder / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    for row in rows[2:]:
        del row["seconds"]["teacher"], row["shares"]["teacher"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [row] = stage_rows(results_of(wanted, [member], {}))[1]
    assert row["teacher_share"] == pytest.approx(0.5 / 3.5)


@pytest.mark.parametrize(("hidden", "share"), [((0,), 0.5 / 3.5 / 2), ((0, 1), 0.0)])
def test_a_teacher_that_is_hidden_adds_nothing_and_is_no_missing_one(
    tmp_path: Path, hidden: tuple[int, ...], share: float
) -> None:
    wanted = suite(variants={"trrd": {}})
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, 0.5)
    for seed in hidden:
        rewrite(
            members[seed].folder / "metrics.jsonl",
            lambda row: [{**row, "shares": {**row["shares"], "teacher": 0.0}}],
        )
    results = results_of(wanted, members, {})
    [row] = stage_rows(results)[1]
    assert row["teacher_share"] == pytest.approx(share)
    page = write(results, tmp_path).read_text()
    assert f"<td>{100 * share:.1f}%</td>" in page
    assert "of their seconds without it, the mean over seeds" in page


def test_a_method_looks_the_same_in_all_figures_and_no_two_look_alike(tmp_path: Path) -> None:
    wanted = suite(seeds=[0])
    trrd, grpo = members_of(wanted, tmp_path, {})
    for member in (trrd, grpo):
        carry_out(member, 0.5)
    file = trrd.folder / "metrics.jsonl"
    file.write_text(file.read_text().replace("kl_to_teacher", "no_such_number"))
    figures = {plot.name: plot for plot in plots_of(results_of(wanted, [trrd, grpo], {}))}
    [alone] = figures["kl_to_teacher"].lines
    assert (alone.label, alone.number) == ("grpo", figures["held_out"].lines[1].number)
    many = len(load_suite("kk_more")[0].variants)
    assert len({style(number) for number in range(many)}) == many


def rewrite(file: Path, change: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> None:
    rows = [row for line in file.read_text().splitlines() for row in change(json.loads(line))]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_reward_of_held_out_problems_is_drawn_of_methods_whose_runs_kept_it(tmp_path: Path) -> None:
    wanted = suite()
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, 0.5)
    trrd, older = (
        [member.folder / "evaluation.jsonl" for member in members if member.variant == variant]
        for variant in ("trrd", "grpo")
    )
    rewrite(older[1], lambda row: [{name: row[name] for name in row if name != "reward"}])
    for file in trrd:  # of several subsets their average counts, and no problem that is in two counts twice
        rewrite(
            file,
            lambda row: [
                {**row, "subset": subset, "reward": reward}
                for subset, reward in (("2_people", 1.0), ("3_people", 0.0), ("average", 0.5), ("all", 0.9))
            ],
        )
    results = results_of(wanted, members, {})
    assert results.methods[0].held_out_reward()[1].tolist() == [[0.5, 0.5]] * 2
    [plot] = [plot for plot in plots_of(results) if plot.name == "held_out_reward"]
    assert [line.label for line in plot.lines] == ["TRRD"]
    for file in trrd:
        rewrite(file, lambda row: [{**row, "reward": None}])
    assert "held_out_reward" not in {plot.name for plot in plots_of(results_of(wanted, members, {}))}


def test_means_over_other_seeds_say_so(tmp_path: Path) -> None:
    wanted = suite()
    members = members_of(wanted, tmp_path, {})
    for member in members[:3]:
        carry_out(member, 0.5)
    results = results_of(wanted, members, {})
    said = "The methods do not all have the same seeds"
    assert seeds_remark(results).startswith(said)
    text = write(results, tmp_path).read_text()
    assert '<td>TRRD</td><td class="close">seeds 0, 1</td>' in text
    assert '<td>grpo</td><td class="close">seed 0</td>' in text
    assert text.count(said) == 2  # at the table, and at the curves
    assert "TRRD (seeds 0, 1)" in text
    assert [line.legend for line in plots_of(results)[0].lines] == ["TRRD (seeds 0, 1)", "grpo (seed 0)"]
    shown = Console(width=200, file=StringIO(), record=True)
    shown.print(terminal_table(results))
    assert re.search(r"TRRD +│ +seeds 0, 1 │", shown.export_text())
    carry_out(members[3], 0.5)
    same = results_of(wanted, members, {})
    assert (seeds_remark(same), plots_of(same)[0].lines[0].legend) == ("", "TRRD")


def test_a_pair_tells_each_seed_and_what_the_seeds_say_by_themselves(tmp_path: Path) -> None:
    wanted = suite(seeds=[3, 5, 8])
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, {"trrd": 0.9, "grpo": 0.3}[member.variant] + member.seed / 100)
    results = results_of(wanted, members, {})
    [pair] = results.differences
    trrd, grpo = (method.held_out()[1][:, -1] for method in results.methods)
    assert pair.by_seed == pytest.approx(tuple(grpo - trrd))
    page = write(results, tmp_path).read_text()
    [told] = json.loads((tmp_path / "results.json").read_text())["differences"]
    assert told["by_seed"] == dict(zip("358", pair.by_seed, strict=True))
    assert told["t_test"] == pair.t_test != pair.p_value
    by_seed = [f"{seed}: {100 * value:+.1f}" for seed, value in zip("358", pair.by_seed, strict=True)]
    assert f'<td class="close">{"<br>".join(by_seed)}</td>' in page
    assert "a paired t-test over the seeds' differences" in page
    shown = Console(width=200, file=StringIO(), record=True)
    shown.print(terminal_pairs(results))
    text = shown.export_text()
    assert "grpo against TRRD" in text
    assert all(each in text for each in by_seed)
    assert f"{pair.t_test:.2g}" in text


def test_machines_get_the_curves_of_all_figures(tmp_path: Path) -> None:
    wanted = suite()
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, 0.5, samples=4)
    results = results_of(wanted, members, {})
    write(results, tmp_path)
    text = (tmp_path / "results.json").read_text()
    curves = json.loads(text)["curves"]
    assert set(curves["TRRD"]) == {
        "seeds", "held_out", "held_out_reward", "reward_mean", "pass_at_4",
        "entropy", "kl_to_teacher", "response_length",
    }  # fmt: skip
    for plot in plots_of(results):
        if plot.name != "pass_at_k":
            told = curves["grpo"]["reward_mean" if plot.name == "training_reward" else plot.name]
            np.testing.assert_allclose(told["seeds"], plot.lines[1].runs, rtol=1e-4)
            assert told["x"] == plot.lines[1].x.tolist()
    assert '"x": [1, 2, 3, 4]' in text  # a list of numbers is one line


def test_a_figure_says_whom_it_lacks_and_an_earlier_one_does_not_stay(tmp_path: Path) -> None:
    wanted = suite(seeds=[0])
    trrd, grpo = members_of(wanted, tmp_path, {})
    for member in (trrd, grpo):
        carry_out(member, 0.5, samples=4)
    write(results_of(wanted, [trrd, grpo], {}), tmp_path)
    (tmp_path / "plots" / "mine.png").write_bytes(b"")
    before = {file.name for file in (tmp_path / "plots").iterdir()}
    file = trrd.folder / "metrics.jsonl"
    file.write_text(file.read_text().replace("kl_to_teacher", "no_such_number"))
    said = "Without TRRD, whose runs have no such numbers."
    page = write(results_of(wanted, [trrd, grpo], {}), tmp_path).read_text()
    assert page.count(f'<figcaption class="quiet">{said}</figcaption>') == 1
    file = grpo.folder / "metrics.jsonl"
    file.write_text(file.read_text().replace("kl_to_teacher", "no_such_number"))
    for member in (trrd, grpo):  # and now with one answer to a problem
        for each in (member.folder / "evaluations").glob("*.parquet"):
            table = pq.read_table(each)
            pq.write_table(table.filter(pc.equal(table["sample_index"], 0)), each)
    assert "figcaption" not in write(results_of(wanted, [trrd, grpo], {}), tmp_path).read_text()
    after = {file.name for file in (tmp_path / "plots").iterdir()}
    assert before - after == {"kl_to_teacher.png", "pass_at_4.png", "pass_at_k.png"}


def test_methods_are_paired_on_the_problems_that_both_have(tmp_path: Path) -> None:
    wanted = suite()
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, 0.5)
    for member in members:
        if member.variant == "grpo":  # leaves out the first five, and has the others in another order
            [_, last] = sorted((member.folder / "evaluations").glob("*.parquet"))
            [twin] = [each for each in members if each.seed == member.seed and each.variant == "trrd"]
            table = pq.read_table(twin.folder / "evaluations" / last.name)
            pq.write_table(table.take(list(reversed(range(5, PROBLEMS)))), last)
    results = results_of(wanted, members, {})
    [found] = results.differences
    assert (found.seeds, found.problems) == (2, PROBLEMS - 5)
    assert (found.difference.value, found.difference.low, found.difference.high) == (0, 0, 0)
    write(results, tmp_path)


def test_labels_and_subsets_are_text_to_the_terminal(tmp_path: Path) -> None:
    label, subset = "TRRD [bold] [/x]", "sums [easy] [/all]"
    wanted = suite(seeds=[0], variants={"trrd": {"label": label}})
    [member] = members_of(wanted, tmp_path, {})
    carry_out(member, 0.5)
    for file in (member.folder / "evaluations").glob("*.parquet"):
        table = pq.read_table(file)
        place = table.schema.get_field_index("subset")
        named = pa.array([subset] * len(table), table.schema.field(place).type)
        pq.write_table(table.set_column(place, table.schema.field(place), named), file)
    file = member.folder / "evaluation.jsonl"
    file.write_text(file.read_text().replace("2_people", subset))
    record = member.record()
    assert record is not None
    change = change_table(record)
    assert change is not None
    shown = Console(width=200, file=StringIO(), record=True)
    for table in (terminal_table(results_of(wanted, [member], {})), evaluation_table(record), change):
        shown.print(table)
    text = shown.export_text()
    assert label in text
    assert text.count(subset) == 3


def test_methods_that_share_no_problem_are_not_compared(tmp_path: Path) -> None:
    wanted = suite(seeds=[0])
    members = members_of(wanted, tmp_path, {})
    for member, kept in zip(members, (range(20), range(20, 40)), strict=True):
        carry_out(member, 0.5)
        for file in (member.folder / "evaluations").glob("*.parquet"):
            pq.write_table(pq.read_table(file).take(list(kept)), file)
    results = results_of(wanted, members, {})
    assert (len(results.methods), results.differences) == (2, ())
    write(results, tmp_path)


def test_numbers_that_are_not_finite_keep_no_report_from_being_written(tmp_path: Path) -> None:
    wanted = suite(seeds=[0])
    members = members_of(wanted, tmp_path, {})
    for member in members:
        carry_out(member, 0.5)
    file = members[0].folder / "metrics.jsonl"
    file.write_text(file.read_text().replace('"entropy": 0.5', '"entropy": Infinity', 1))
    write(results_of(wanted, members, {}), tmp_path)
    curves = json.loads((tmp_path / "results.json").read_text())["curves"]
    assert (curves["TRRD"]["entropy"]["x"], curves["grpo"]["entropy"]["x"]) == ([2, 3, 4], [1, 2, 3, 4])


def test_a_file_in_a_runs_place_keeps_no_report_from_being_written(tmp_path: Path) -> None:
    comparison = Comparison(suite(seeds=[0]), tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "trrd-seed0").touch()
    comparison.check("mine.yaml")
    assert comparison.results({}).missing["trrd-seed0"] == "not begun"


def test_a_report_of_nothing_says_so(rlad: Callable[..., Said], tmp_path: Path) -> None:
    file = written(tmp_path, BASE)
    unbegun = rlad("compare", str(file), "--report")
    assert (unbegun.code, unbegun.err.startswith("there is no comparison in")) == (2, True)
    unknown = rlad("compare", "kk_tny")
    assert unknown.code == 2
    assert (
        "there is no such file. Write the path of one, or a suite's name: alpha, kk3, kk_more" in unknown.err
    )
    results = results_of(
        suite(), members_of(suite(), tmp_path, {}), {"trrd-seed0": "exit code 1: out of memory"}
    )
    text = write(results, tmp_path).read_text()
    assert "No run is finished yet" in text
    assert "trrd-seed0 is not in it: exit code 1: out of memory." in text


@pytest.mark.parametrize("label", [r"a$\foo$ b", "_x", "<b>bold</b> & <i>", 'the "best" one\'s'])
def test_labels_are_text_to_the_figures(tmp_path: Path, label: str) -> None:
    wanted = suite(seeds=[0], variants={"trrd": {"label": label}})
    [member] = members_of(wanted, tmp_path, {})
    carry_out(member, 0.5)
    [plot, *_] = plots_of(results_of(wanted, [member], {}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_png(plot, tmp_path / "plot.png")
    [name, _] = re.findall(r'"name":("(?:[^"\\]|\\.)*")', to_html(plot))
    # plotly reads tags, and of the entities only the few that keep a text from being one
    assert html.unescape(json.loads(name)) == label
    assert "<" not in json.loads(name)
    assert "&quot;" not in name


def test_runs_whose_settings_are_not_chosen_yet_say_so(tmp_path: Path) -> None:
    tuned = {"trrd": {"tune": {"learner.lr": [1e-4, 2e-4]}}, "grpo": BASE["variants"]["grpo"]}
    how = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
    comparison = Comparison(suite(seeds=[0], variants=tuned, tuning=how), tmp_path)
    carry_out(comparison.all_tries[0], 0.5)
    waits = "its settings are not chosen yet, 1 of its 2 tries are not finished"
    assert comparison.results({}).missing == {"trrd-seed0": waits, "grpo-seed0": "not begun"}
    failed = comparison.results({"trrd-try2": "exit code 1: boom"})
    assert failed.missing["trrd-seed0"] == f"{waits} (trrd-try2: exit code 1: boom)"


def test_a_finished_try_is_in_the_report_before_all_are(tmp_path: Path) -> None:
    tuned = {
        "trrd": {"tune": {"learner.lr": [1e-4, 2e-4, 4e-4]}},
        "grpo": {**BASE["variants"]["grpo"], "tune": {"learner.lr": [1e-4, 2e-4]}},
    }
    how = {"seed": 50, "set": {"task.evaluation.split": "validation"}}
    comparison = Comparison(suite(seeds=[0], variants=tuned, tuning=how), tmp_path)
    of_trrd = [member for _, member in comparison.tries["trrd"]]
    # Of an earlier phase, of which one try was removed to be made again.
    tuning.write({"trrd": [tuning.Try({"learner.lr": 1e-4}, 0.999)] * 3}, tmp_path)
    carry_out(of_trrd[0], 0.5)
    carry_out(of_trrd[2], 0.5)
    page = write(comparison.results({}), tmp_path).read_text()
    table = json.loads((tmp_path / "results.json").read_text())["tuning"]
    assert [each["settings"]["learner.lr"] for each in table["trrd"]] == [1e-4, 4e-4]
    assert table["grpo"] == []
    assert page.count("<td>trrd</td><td>2 of 3</td>") == 2
    assert page.count("<td>grpo</td><td>0 of 2</td>") == 1
    assert "99.9" not in page


def test_a_single_subset_is_drawn_anew_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = suite(seeds=[0], variants={"trrd": {}})
    [member] = members_of(wanted, tmp_path, {})
    carry_out(member, 0.5)
    calls: list[Any] = []

    def counted(wanted: list[Any]) -> list[Estimate]:
        calls.extend(wanted)
        return estimates(wanted)

    monkeypatch.setattr(calculated, "estimates", counted)
    [method] = results_of(wanted, [member], {}).methods
    assert method.accuracy() == method.accuracy("2_people") == estimates(calls)[0]
    assert len(calls) == 1


def test_what_another_suite_tried_is_no_part_of_the_page(tmp_path: Path) -> None:
    wanted = suite(seeds=[0], variants={"trrd": {}})
    [member] = members_of(wanted, tmp_path, {})
    carry_out(member, 0.5)
    tuning.write({"trrd": [tuning.Try({"learner.lr": 1e-4}, 0.5)]}, tmp_path)
    write(results_of(wanted, [member], {}), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["tuning"] == {}
