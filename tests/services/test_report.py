"""A report says what a run's files say, and says what they don't."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table

from rlad_core.config import RunConfig, dump, load
from services.report.page import write_report
from services.report.plots import PLOTS
from services.report.records import ReportError, read_run
from services.report.tables import evaluation_lines, evaluation_table, stage_lines, stage_time_table
from services.report.teacher_cost import teacher_cost
from services.run.plan import describe

RECIPE = RunConfig.model_validate(
    {
        "name": "example",
        "policy": {"model": "rlad:kk-student"},
        "teacher": {"model": "rlad:kk-teacher"},
        "task": {"name": "knights_knaves", "train": {"people": [2, 3]}, "evaluation": {"people": [2, 3]}},
        "stages": [
            {"steps": 20, "objective": {"kind": "opd"}},
            {"steps": 40, "objective": {"kind": "trrd"}, "name": "trrd <& friends>"},
        ],
    }
)


HIDDEN = 0.5
"""Seconds of a step in which the teacher works behind generation."""


def step_row(step: int) -> dict[str, Any]:
    """A plausible line of metrics.jsonl."""
    noise = np.random.default_rng(step).normal(size=6)
    seconds = {
        "rollout": 2.0 + 0.2 * noise[0],
        "teacher": 0.3,
        "verify": 0.02,
        "assemble": 0.05,
        "old_logprobs": 0.6,
        "update": 1.5 + 0.1 * noise[1],
        "weight_sync": 0.15,
        "checkpoint": 0.8 if step % 20 == 0 else 0.0,
    }
    idle = 0.2 + (12.0 if step == 1 else 0.0)
    whole = sum(seconds.values()) + idle
    return {
        "step": step,
        "version": step,
        "stage": RECIPE.position(step - 1).stage.label,
        "reward_mean": -1.5 + 0.03 * step + 0.2 * noise[2],
        "accuracy": min(1.0, 0.3 + 0.004 * step + 0.03 * abs(noise[3])),
        "kl_to_teacher": 0.6 * 0.97**step + 0.02 * abs(noise[4]),
        "clip_fraction_low": 0.02 + 0.004 * abs(noise[5]),
        "clip_fraction_high": 0.05 + 0.01 * abs(noise[0]),
        "entropy": 0.5 - 0.003 * step,
        "response_length": 150 + noise[1],
        "tokens": 40000,
        "seconds": {**seconds, "teacher": seconds["teacher"] + HIDDEN, "step": whole},
        "shares": {**{stage: value / whole for stage, value in seconds.items()}, "idle": idle / whole},
    }


def evaluation_row(when: str, step: int, subset: str, accuracy: float) -> dict[str, Any]:
    """A line of evaluation.jsonl."""
    return {
        "step": step, "when": when, "subset": subset, "correct": round(300 * accuracy), "total": 300,
        "accuracy": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05, "truncated": 3,
    }  # fmt: skip


def write_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run."""
    folder = tmp_path / "runs" / "example"
    (folder / "export").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump(RECIPE))
    write_lines(folder / "metrics.jsonl", [step_row(step) for step in range(1, 61)])
    write_lines(
        folder / "evaluation.jsonl",
        [
            evaluation_row("before", 0, "2_people", 0.42),
            evaluation_row("before", 0, "3_people", 0.25),
            evaluation_row("step", 30, "2_people", 0.5),
            evaluation_row("step", 30, "3_people", 0.26),
            evaluation_row("after", 60, "2_people", 0.62),
            evaluation_row("after", 60, "3_people", 0.27),
        ],
    )
    return folder


def shown(table: Table) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


class Page(HTMLParser):
    """Collects what a page refers to, and whether its tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


PNG = b"\x89PNG\r\n\x1a\n"
ALL_PLOTS = {
    "evaluation", "evaluation_course", "reward", "accuracy", "kl_to_teacher", "clip_fractions", "entropy",
    "response_length", "stage_times",
}  # fmt: skip


def test_a_finished_run_gets_a_page_and_all_plots(run_dir: Path) -> None:
    paths = write_report(run_dir)
    assert paths.html == run_dir / "report.html"
    assert {file.stem for file in paths.plots} == ALL_PLOTS
    assert all(file.parent == run_dir / "plots" and file.read_bytes().startswith(PNG) for file in paths.plots)
    assert paths.remarks == ()
    text = paths.html.read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.sources) == len(ALL_PLOTS)
    for source in page.sources:  # nothing is fetched from anywhere
        assert base64.b64decode(source.removeprefix("data:image/png;base64,")).startswith(PNG)
    assert "trrd &lt;&amp; friends&gt;" in text
    assert "60 of 60" in text
    assert "2,400,000" in text
    assert str(run_dir / "export") in text
    assert not list(run_dir.glob("*.unfinished"))


def test_the_evaluation_table_compares_before_and_after(run_dir: Path) -> None:
    lines = {line.subset: line for line in evaluation_lines(read_run(run_dir))}
    assert lines["2_people"].change == "+20.0"
    assert lines["2_people"].verdict == "better"
    assert lines["3_people"].verdict == ""
    text = shown(evaluation_table(read_run(run_dir)))
    assert re.search(r"2 people +│ +300 +│ +42.0% +│ +37.0 – 47.0 +│ +62.0% +│ +57.0 – 67.0 +│ +\+20.0", text)


def test_worse_is_said_too(run_dir: Path) -> None:
    rows = [evaluation_row("before", 0, "2_people", 0.6), evaluation_row("after", 9, "2_people", 0.4)]
    write_lines(run_dir / "evaluation.jsonl", rows)
    assert evaluation_lines(read_run(run_dir))[0].verdict == "worse"


def test_the_stage_table_adds_up(run_dir: Path) -> None:
    rows = [step_row(step) for step in range(1, 61)]
    lines = {line.stage: line for line in stage_lines(read_run(run_dir))}
    assert lines["update"].total == pytest.approx(sum(row["seconds"]["update"] for row in rows))
    assert lines["step"].total == pytest.approx(sum(row["seconds"]["step"] for row in rows))
    assert lines["step"].mean == pytest.approx(lines["step"].total / 60)
    assert sum(line.total for name, line in lines.items() if name != "step") == pytest.approx(
        lines["step"].total
    )
    assert sum(line.share for name, line in lines.items() if name != "step") == pytest.approx(1)
    text = shown(stage_time_table(read_run(run_dir)))
    assert re.search(r"teacher log-probs +│ log-probs +│ +18.0 │ +0.30 │ +[0-9.]+% │ +30.0 │", text)
    assert re.search(r"total +│ total ", text)
    assert lines["teacher"].hidden == pytest.approx(60 * HIDDEN)
    assert lines["rollout"].hidden == pytest.approx(0)


def test_the_reward_of_evaluations_is_drawn_where_it_was_kept(run_dir: Path) -> None:
    file = run_dir / "evaluation.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    # The run went on under a version that keeps it.
    write_lines(file, [row if row["step"] == 0 else {**row, "reward": 0.25} for row in rows])
    drawn = PLOTS["evaluation_reward"](read_run(run_dir))
    assert not isinstance(drawn, str)
    assert [line.get_xdata().tolist() for line in drawn.axes[0].lines] == [[30, 60], [30, 60]]
    write_lines(file, [{**row, "reward": None} for row in rows])
    assert PLOTS["evaluation_reward"](read_run(run_dir)) == ""


def test_a_stage_with_a_rule_has_no_fixed_steps_and_says_why_it_ended(run_dir: Path) -> None:
    recipe = RECIPE.model_dump(mode="json")
    recipe["stages"][0]["until"] = {"tokens": 1000, "disagreement": 0.4}
    config = RunConfig.model_validate(recipe)
    (run_dir / "recipe.yaml").write_text(dump(config))
    write_lines(run_dir / "stage_ends.jsonl", [{"step": 6, "stage": "opd", "why": "1,313 tokens were"}])
    text = write_report(run_dir).html.read_text()
    assert "opd, at most 20 steps; then trrd &lt;&amp; friends&gt;, 40 to 59 steps" in text
    assert "<dt>Stage opd</dt><dd>ended by its rule after step 7: 1,313 tokens were</dd>" in text
    [stages, _] = describe(config)
    cells = " ".join(shown(stages).replace("│", " ").split())
    assert "at most 20" in cells
    assert "40 to 59" in cells
    assert "tokens=1000" in cells


def test_missing_numbers_leave_a_plot_out_with_the_reason(run_dir: Path) -> None:
    write_report(run_dir)
    rows = [step_row(step) for step in range(1, 61)]
    for row in rows:
        del row["kl_to_teacher"], row["shares"]
        row["clip_fraction_low"] = None
    write_lines(run_dir / "metrics.jsonl", rows)
    paths = write_report(run_dir)
    assert {file.stem for file in paths.plots} == ALL_PLOTS - {"kl_to_teacher", "stage_times"}
    assert not (run_dir / "plots" / "kl_to_teacher.png").exists()  # the earlier report's
    assert paths.remarks == (
        "KL to the teacher is left out: no step recorded kl_to_teacher.",
        "Stage times are left out: no step recorded seconds and shares of its stages.",
    )
    assert all(remark in paths.html.read_text() for remark in paths.remarks)
    assert "No step with times" in shown(stage_time_table(read_run(run_dir)))


def test_a_number_that_only_some_steps_have_is_drawn_with_gaps(run_dir: Path) -> None:
    rows = [step_row(step) for step in range(1, 61)]
    for row in rows[:20]:
        row["kl_to_teacher"] = float("nan")
        del row["seconds"], row["shares"]
    write_lines(run_dir / "metrics.jsonl", rows)
    paths = write_report(run_dir)
    assert paths.remarks == ()
    assert next(
        line for line in stage_lines(read_run(run_dir)) if line.stage == "teacher"
    ).mean == pytest.approx(0.3)


def test_a_run_in_progress(run_dir: Path) -> None:
    write_lines(run_dir / "metrics.jsonl", [step_row(step) for step in range(1, 13)])
    (run_dir / "evaluation.jsonl").write_text(json.dumps(evaluation_row("before", 0, "2_people", 0.4)) + "\n")
    paths = write_report(run_dir)
    assert paths.remarks == ("The run is not over: 12 of 60 steps are recorded.",)
    assert "evaluation" in {file.stem for file in paths.plots}
    line = evaluation_lines(read_run(run_dir))[0]
    assert (line.after, line.change) == (None, "–")
    with (run_dir / "evaluation.jsonl").open("a") as file:
        file.write(json.dumps(evaluation_row("step", 10, "2_people", 0.5)) + "\n")
    assert "after step 10" in shown(evaluation_table(read_run(run_dir)))


def test_a_single_step_can_be_drawn(run_dir: Path) -> None:
    write_lines(run_dir / "metrics.jsonl", [step_row(1)])
    assert {file.stem for file in write_report(run_dir).plots} == ALL_PLOTS


def test_a_last_line_that_was_cut_off_is_left_out_and_said(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61, "rew')
    record = read_run(run_dir)
    assert len(record.steps) == 60
    assert len(record.remarks) == 1
    assert record.remarks[0].startswith("Line 61 of metrics.jsonl, the last, is cut off ")


def test_a_record_that_is_broken_otherwise_makes_no_report(run_dir: Path) -> None:
    file = run_dir / "metrics.jsonl"
    lines = file.read_text().splitlines()
    lines[29] = lines[29][:-9]
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(ReportError, match=rf"^line 30 of {file} is broken .* Repair or delete the line$"):
        write_report(run_dir)


def test_steps_repeated_after_a_resume_count_once(run_dir: Path) -> None:
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps({**step_row(step), "reward_mean": 9.0}) + "\n" for step in (41, 42))
    record = read_run(run_dir)
    assert [row["step"] for row in record.steps] == list(range(1, 61))
    assert record.series("reward_mean")[40:43].tolist()[:2] == [9.0, 9.0]
    assert record.remarks == ("2 lines of metrics.jsonl came again after a resume; the later one counts.",)


@pytest.mark.parametrize("files", [["recipe.yaml"], ["metrics.jsonl"], ["recipe.yaml", "metrics.jsonl"]])
def test_an_empty_run_gets_a_page_that_says_so(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).write_text(dump(RECIPE) if name == "recipe.yaml" else "")
    paths = write_report(tmp_path)
    assert paths.plots == ()
    assert "No step has finished yet." in paths.remarks
    assert Page(paths.html.read_text()).open == []
    assert "No evaluation is recorded yet" in shown(evaluation_table(read_run(tmp_path)))


@pytest.mark.parametrize("text", ["name: [", "name: x", ""])
def test_an_unreadable_recipe_does_not_hide_the_numbers(run_dir: Path, text: str) -> None:
    (run_dir / "recipe.yaml").write_text(text)
    paths = write_report(run_dir)
    assert {file.stem for file in paths.plots} == ALL_PLOTS
    assert len(paths.remarks) == 1
    assert paths.remarks[0].startswith("recipe.yaml cannot be read")


def test_no_run_is_an_error_that_names_those_that_are_there(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"there is no folder .*Runs there: .*example"):
        write_report(run_dir.parent / "exmaple")
    with pytest.raises(ReportError, match="is not the folder of a run"):
        write_report(tmp_path)


def test_what_the_teacher_costs(tmp_path: Path) -> None:
    def row(step: int, tokens: int, teacher: float, share: float) -> dict[str, Any]:
        seconds = {"step": 10.0, "teacher": teacher}
        return {"step": step, "trained_tokens": tokens, "seconds": seconds, "shares": {"teacher": share}}

    unasked = {"step": 0, "seconds": {"step": 5.0}, "shares": {}}
    (tmp_path / "recipe.yaml").write_text(dump(RECIPE))
    write_lines(tmp_path / "metrics.jsonl", [unasked, row(1, 1500, 3.0, 0.1), row(2, 500, 1.0, 0.0)])
    record = read_run(tmp_path)
    cost = teacher_cost(record)
    assert cost is not None
    # 1 of 20 s was not hidden; 4 s of one core for 2,000 tokens.
    assert (cost.added_s, cost.share, cost.at_work_s) == pytest.approx((0.5, 1 / 19, 2.0))
    assert (cost.device, cost.device_s) == ("core", pytest.approx(2.0))
    said = "adds 0.50 s to a step, 5.3% of one without it (the paper: 15.5%); at work 2.00 s for each step, "
    assert str(cost) == said + "2 core-seconds reserved for 1,000 trained tokens"
    assert "The teacher adds 0.50 s to a step" in " ".join(shown(stage_time_table(record)).split())
    behind = {**row(2, 500, 1.0, 0.1), "teacher_added_seconds": 0.25}  # the rest went by behind the learner
    write_lines(tmp_path / "metrics.jsonl", [row(1, 1500, 3.0, 0.1), behind])
    added = teacher_cost(read_run(tmp_path))
    assert added is not None
    assert added.added_s == pytest.approx((1.0 + 0.25) / 2)
    # Ahead it worked for 7 s since the step before was trained, of which 1 s lies within the step.
    ahead = {**behind, "teacher_at_work_seconds": 7.0}
    between = {**unasked, "step": 3, "trained_tokens": 500, "teacher_at_work_seconds": 2.0}
    write_lines(tmp_path / "metrics.jsonl", [row(1, 1500, 3.0, 0.1), ahead, {**between, "shares": {}}])
    longer = teacher_cost(read_run(tmp_path))
    assert longer is not None
    assert (longer.at_work_s, longer.device_s) == pytest.approx((4.0, 12 / 2.5))
    # Of steps 2 and 4 all was scored in the time of the steps before them; SFT asks nobody.
    stages = "stages=[{steps: 8, objective: {kind: sft}}, {steps: 8, objective: {kind: trrd}}]"
    (tmp_path / "recipe.yaml").write_text(
        dump(load("kk-tiny-trrd", ["rollout.max_staleness=1", "teacher.threads=1", stages]))
    )
    scoring = {"teacher_at_work_seconds": 4.0, "teacher_added_seconds": 1.0}
    write_lines(
        tmp_path / "metrics.jsonl",
        [
            {**unasked, "stage": "sft", "trained_tokens": 1000},
            *(
                {**row(step, 1000, 0.0, 0.0), "stage": "trrd", **(scoring if step % 2 else {})}
                for step in range(1, 5)
            ),
        ],
    )
    every_other = teacher_cost(read_run(tmp_path))
    assert every_other is not None
    assert (every_other.added_s, every_other.at_work_s) == pytest.approx((0.5, 2.0))
    assert (every_other.share, every_other.device_s) == pytest.approx((2 / 38, 2.0))
    held = ["reference={model: 'rlad:kk-student'}", "stages.0.objective.reference_kl=0.1"]
    unaided = load("kk-tiny-grpo", held)
    assert unaided.teacher_devices == ("core", 0)
    (tmp_path / "recipe.yaml").write_text(dump(unaided))
    assert teacher_cost(read_run(tmp_path)) is None  # what scored was the reference
    (tmp_path / "recipe.yaml").write_text(dump(RECIPE))
    write_lines(tmp_path / "metrics.jsonl", [unasked])
    assert teacher_cost(read_run(tmp_path)) is None
