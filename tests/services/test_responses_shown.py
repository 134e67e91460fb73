"""Responses are read on a terminal and on the report's page, their tokens in the colours of log-probs."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console
from rlad_command import Said
from tokenizers import Tokenizer

from rlad_core import schema
from rlad_core.config import dump, load, resolve_model
from rlad_core.evaluation import ANSWERS
from services.report.answers import Kept, answers_name, change_of, kept_in
from services.report.colours import colour
from services.report.page import write_report
from services.report.responses import Filter, responses_of, token_texts
from services.report.showing import show

MODEL = resolve_model("rlad:kk-student")
IDS = Tokenizer.from_file(f"{MODEL}/tokenizer.json").encode("Mia is a knight, no.").ids
TEXT = "Mia is a knight, no."
EVIL = "\x1b[2J<script>alert(1)</script>\x9b2J"


def answer(name: str, *, correct: bool, response: str = TEXT, **more: Any) -> dict[str, Any]:
    """A row of ANSWERS."""
    return {
        "prompt_id": name, "task": "knights_knaves", "subset": "2_people", "sample_index": 0,
        "prompt": "Who is who?", "gold": "Mia: knight", "opened": "", "response": response,
        "finish_reason": "stop", "tokens": len(IDS), "reward": 3.0 if correct else -0.5,
        "reward_parts": {"format": 1.0, "answer": 2.0 if correct else -1.5}, "correct": correct,
        "verdict": "right" if correct else "wrong answer: Mia is a knave",
        "fault": "" if correct else "wrong answer", "response_token_ids": IDS,
        "rollout_logprobs": [-0.01] + [-3.0] * (len(IDS) - 1), **more,
    }  # fmt: skip


def experience() -> pa.Table:
    """EXPERIENCE of one response, with a teacher's log-probs."""
    row = answer("aa", correct=False)
    kept = {name: row[name] for name in ("prompt_id", "task", "subset", "sample_index", "response")}
    judged = {name: row[name] for name in ("finish_reason", "reward", "reward_parts", "correct", "verdict")}
    return schema.build(
        schema.EXPERIENCE,
        [
            kept
            | judged
            | {
                "group_id": "aa#0",
                "sequence_id": "aa#0/0",
                "prompt_token_ids": IDS[:3],
                "response_token_ids": IDS,
                "rollout_logprobs": row["rollout_logprobs"],
                "policy_versions": [0] * len(IDS),
                "teacher_logprobs": [-0.02] * len(IDS),
                "advantage": -0.7,
            }
        ],
        tokenizer_fingerprint="sha256:0",
    )


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run whose second evaluation has two more problems right, and one less."""
    folder = tmp_path / "run"
    (folder / "evaluations").mkdir(parents=True)
    (folder / "experience").mkdir()
    (folder / "recipe.yaml").write_text(dump(load("kk-tiny-trrd")))
    for when, step, right in (("before", 0, "ad"), ("after", 9, "abc")):
        rows = [answer(name * 2, correct=name in right) for name in "abcd"]
        table = pa.Table.from_pylist(rows, schema=ANSWERS)
        schema.to_parquet(table, folder / "evaluations" / answers_name(when, step))
    (folder / "experience" / "step-000003.arrows").write_bytes(schema.to_ipc(experience()))
    lines = [
        {"step": step, "when": when, "subset": "2_people", "total": 4, "accuracy": share, "low": 0, "high": 1}
        for when, step, share in (("before", 0, 0.5), ("after", 9, 0.75))
    ]
    (folder / "evaluation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def check_closed(page: str) -> None:
    """Every tag is closed, in its order."""
    opened: list[str] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Tags().feed(page)
    assert not opened


def test_what_is_kept(run_dir: Path) -> None:
    assert [kept.label for kept in kept_in(run_dir)] == ["before", "after", "training, step 3"]
    [line] = change_of(run_dir)
    assert (line.difference, line.gained, line.lost, line.p_value) == (0.25, 2, 1, 1.0)


@pytest.fixture
def worked_solutions(run_dir: Path) -> int:
    """The last step that is kept is one on worked solutions, which nobody judged."""
    row = {"sequence_id": "aa#0/0", "prompt_token_ids": IDS[:3], "response_token_ids": IDS}
    table = schema.build(schema.SEQUENCES, [row], tokenizer_fingerprint="sha256:0")
    (run_dir / "experience" / "step-000005.arrows").write_bytes(schema.to_ipc(table))
    return 5


def test_a_report_of_a_run_on_worked_solutions(run_dir: Path, worked_solutions: int) -> None:
    paths = write_report(run_dir)
    assert not any("esponses" in remark for remark in paths.remarks)
    page = paths.html.read_text()
    assert "Not right (after)" in page
    assert f"Trained on (step {worked_solutions})" not in page


def test_worked_solutions_are_no_responses(
    run_dir: Path, worked_solutions: int, rlad: Callable[..., Said]
) -> None:
    said = rlad("show", str(run_dir), "--when", str(worked_solutions))
    assert (said.code, said.err.strip()) == (
        1,
        "training, step 5 is on worked solutions, which are the task's and not judged",
    )
    assert "advantage -0.70" in rlad("show", str(run_dir), "--when", "training").out  # of step 3


def test_tokens_add_up_to_the_text(run_dir: Path) -> None:
    texts, remark = token_texts(run_dir)
    assert texts is not None
    assert remark == ""
    assert "".join(texts(IDS)).strip() == TEXT
    [trained] = responses_of(kept_in(run_dir)[-1], Filter(), texts)
    assert trained.tokens is not None
    assert [token.policy for token in trained.tokens][:2] == pytest.approx([-0.01, -3.0])
    assert [token.teacher for token in trained.tokens] == pytest.approx([-0.02] * len(IDS))
    assert trained.prompt  # from its token ids
    assert trained.advantage == pytest.approx(-0.7)


def test_show(run_dir: Path, rlad: Callable[..., Said]) -> None:
    folder = str(run_dir)
    said = rlad("show", folder)
    assert said.code == 0
    assert said.out.count("after · 2_people") == 4  # the last evaluation
    assert all(text in said.out for text in ("Who is who?", TEXT, "reward 3", "format 1", "gold Mia: knight"))
    wrong = rlad("show", folder, "--wrong").out
    assert wrong.count("after · 2_people") == 1
    assert "prompt dd" in wrong
    assert "wrong answer: Mia is a knave" in wrong
    before = rlad("show", folder, "--wrong", "--when", "before", "--limit", "1").out
    assert "prompt bb" in before
    assert "There are more; --limit 4 shows them." in before
    one = rlad("show", folder, "--prompt", "a").out  # wherever it is
    assert [one.count(f"─ {source} ·") for source in ("before", "after", "training, step 3")] == [1, 1, 1]
    trained = rlad("show", folder, "--when", "training").out
    assert all(text in trained for text in ("by the policy", "by the teacher", "advantage -0.70"))
    assert rlad("show", folder, "--when", "3").out == trained


def test_what_was_not_told_of_a_response_is_shown_as_such(run_dir: Path, rlad: Callable[..., Said]) -> None:
    file = run_dir / "evaluations" / answers_name("after", 9)
    silent = {"finish_reason": None, "tokens": None, "response_token_ids": None, "rollout_logprobs": None}
    rows = [answer("aa", correct=False, **silent), answer("bb", correct=False, finish_reason="length")]
    schema.to_parquet(pa.Table.from_pylist(rows, schema=ANSWERS), file)
    assert (
        "length not told, end not told" in rlad("show", str(run_dir), "--prompt", "aa", "--when", "after").out
    )
    assert (
        f"{len(IDS)} tokens, cut off" in rlad("show", str(run_dir), "--prompt", "bb", "--when", "after").out
    )
    page = write_report(run_dir).html.read_text()
    assert "length not told, end not told ·" in page
    assert f"{len(IDS)} tokens, cut off ·" in page


def test_show_refusals(run_dir: Path, rlad: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = rlad("show", str(tmp_path / "empty"))
    assert (said.code, "keeps no responses" in said.err) == (2, True)
    said = rlad("show", str(run_dir), "--when", "7")
    assert (said.code, said.err.strip()) == (
        2, "--when 7: there is before, after, training, or a step: 0, 3, 9",
    )  # fmt: skip
    for written in ("before", "after", "training", "0", "3", "9"):
        assert rlad("show", str(run_dir), "--when", written).code == 0
    (tmp_path / "alone").mkdir()
    shutil.copy(run_dir / "evaluations" / answers_name("after", 9), tmp_path / "alone" / "responses.parquet")
    said = rlad("show", str(tmp_path / "alone"), "--when", "after")
    assert (said.code, said.err.strip()) == (2, "--when after: an evaluation was asked once. Leave it out")
    said = rlad("show", str(run_dir), "--subset", "2_peple")
    assert (said.code, said.err.strip()) == (2, "--subset 2_peple: there is 2_people")
    said = rlad("show", str(run_dir), "--fault", "wrong anser")
    assert (said.code, "--fault 'wrong anser': there is cut off, no answer," in said.err) == (2, True)
    said = rlad("show", str(run_dir), "--prompt", "zz")
    assert (said.code, "no response is like that" in said.err) == (1, True)
    broken = run_dir / "evaluations" / answers_name("after", 9)
    broken.write_bytes(broken.read_bytes()[:-9])
    said = rlad("show", str(run_dir))
    assert (said.code, str(broken) in said.err) == (1, True)
    said = rlad("report", str(run_dir))  # which has the rest
    assert (said.code, f"left out: {broken}" in "".join(said.err.splitlines())) == (0, True)
    assert "report.html" in said.out
    assert "is left out" in (run_dir / "report.html").read_text()


def test_the_page(run_dir: Path, rlad: Callable[..., Said]) -> None:
    said = rlad("report", str(run_dir))
    assert "Change on the same problems" in said.out
    assert "+25.0" in said.out
    page = (run_dir / "report.html").read_text()
    for text in ("Change on the same problems", "Not right (after)", "Trained on (step 3)", "by the teacher"):
        assert text in page
    assert page.count('<details class="response">') == 2
    assert f'style="background:{colour(-3.0)}" title="policy -3.000, teacher -0.020"' in page
    # Spaces and line breaks of the text stand as they are, and nothing else stands between tokens.
    [shown] = re.findall(r"by the policy</h4>\n\n?<div class=\"said\">(.*?)</div>", page, re.DOTALL)[:1]
    assert re.sub(r"<[^>]*>", "", shown).strip() == TEXT
    check_closed(page)


def test_what_a_model_writes_moves_no_cursor_and_runs_no_script(
    run_dir: Path, rlad: Callable[..., Said]
) -> None:
    rows = [
        answer("ee", correct=False, response=EVIL, prompt=EVIL, rollout_logprobs=None),
        answer("ff", correct=False, opened=EVIL),  # its tokens are coloured
    ]
    table = pa.Table.from_pylist(rows, schema=ANSWERS)
    schema.to_parquet(table, run_dir / "evaluations" / answers_name("after", 9))
    said = rlad("show", str(run_dir))
    assert not set(said.out) & set("\x1b\x9b")
    assert "␛[2J<script>" in said.out
    write_report(run_dir)
    page = (run_dir / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_without_the_tokenizer_the_text_is_shown(run_dir: Path) -> None:
    (run_dir / "recipe.yaml").unlink()
    texts, remark = token_texts(run_dir)
    assert texts is None
    assert "tokenizer.json is not here" in remark
    [first, *_] = responses_of(Kept("after", 9, kept_in(run_dir)[1].files), Filter(), texts)
    assert (first.tokens, first.response) == (None, TEXT)


def test_colours(run_dir: Path) -> None:
    assert colour(0.0) == "#ffffff"
    assert colour(-100.0) == colour(float("-inf")) == colour(-4.6)
    assert len({colour(value) for value in (-0.1, -0.7, -1.5, -2.3, -3.5, -4.6)}) == 6
    texts, _ = token_texts(run_dir)
    [first, *_] = responses_of(kept_in(run_dir)[1], Filter(), texts)
    console = Console(width=80, force_terminal=True, color_system="truecolor", file=io.StringIO())
    show(console, first)
    assert isinstance(console.file, io.StringIO)
    red, green, blue = (int(colour(-3.0)[place : place + 2], 16) for place in (1, 3, 5))
    # All but the first token, which was nearly certain.
    assert console.file.getvalue().count(f"48;2;{red};{green};{blue}m") == len(IDS) - 1
