"""What is kept of an evaluation: written as it is made, read by who goes on, and by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlad_core.evaluation import ANSWERS, rows_of, verdicts_of
from rlad_core.tasks import Prompt
from services.evaluate.questions import Questions
from services.evaluate.respondents.deployed import folder_identity
from services.evaluate.respondents.interface import opened_before
from services.evaluate.session import missing
from services.evaluate.store import RESPONSES, AnswerStore, StoreError, folder_name
from services.report.answers import kept_in

JUDGE = "judge 1"


def prompt(name: str, subset: str, gold: str = "5") -> Prompt:
    return Prompt(name, "math", subset, [{"role": "user", "content": name}], gold)


def answered(asked: Prompt, sample: int, *, correct: bool = True) -> dict[str, Any]:
    """A row of ANSWERS."""
    return {
        "prompt_id": asked.prompt_id, "task": asked.task, "subset": asked.subset, "sample_index": sample,
        "prompt": "text", "gold": asked.gold, "opened": "", "response": f"{asked.prompt_id} {sample}",
        "finish_reason": "stop", "tokens": 2, "reward": float(correct), "reward_parts": {"answer": 1.0},
        "correct": correct, "verdict": "right", "fault": "" if correct else "wrong answer",
        "response_token_ids": [1, 2], "rollout_logprobs": np.array([-0.5, 0.0], np.float32),
    }  # fmt: skip


A, B, ALSO_B = prompt("a", "x"), prompt("b", "x"), prompt("b", "y")


def test_what_was_added_is_there_for_the_next_one(tmp_path: Path) -> None:
    questions = Questions([A, B, ALSO_B], samples=2)
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        store.add([answered(A, 0), answered(B, 0)])
        store.flush()
        store.add([answered(A, 1, correct=False)])  # written at the end
    assert len(list((tmp_path / "parts").glob("*.parquet"))) == 2
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        again, wanted = missing(store, questions)
        # b is answered, and lacks its verdict in the other subset.
        assert [(each.prompt.subset, each.sample, each.answer.response) for each in again] == [
            ("y", 0, "b 0")
        ]
        assert again[0].answer.values["response_token_ids"].tolist() == [1, 2]
        assert [(each.prompt.prompt_id, each.sample, each.name) for each in wanted] == [("b", 1, "b#1")]
        store.add([answered(ALSO_B, 0), answered(B, 1), answered(ALSO_B, 1)])
        assert missing(store, questions) == ([], [])
        store.merge()
        table = store.table(questions.rows())
    assert not list((tmp_path / "parts").glob("*.parquet"))
    assert len(kept_in(tmp_path)[0].read()) == len(table) == 6
    assert {row.subset: row.accuracy for row in rows_of(table)} == {
        "x": 0.75, "y": 1.0, "average": 0.875, "all": 0.75
    }  # fmt: skip
    assert verdicts_of(table) == {"x": {"a": [True, False], "b": [True, True]}, "y": {"b": [True, True]}}


def test_more_samples_ask_only_for_those(tmp_path: Path) -> None:
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        store.add([answered(A, sample) for sample in range(2)])
        again, wanted = missing(store, Questions([A], samples=4))
    assert again == []
    assert [each.name for each in wanted] == ["a#2", "a#3"]


def test_another_judge_judges_the_same_responses(tmp_path: Path) -> None:
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        store.add([answered(A, 0)])
    with AnswerStore(tmp_path, {}, "judge 2") as store:
        again, wanted = missing(store, Questions([A], samples=1))
        assert ([each.answer.response for each in again], wanted) == (["a 0"], [])
        store.add([answered(A, 0, correct=False)])
        store.flush()
        # Stopped here, both verdicts are in files, and the later one counts.
        assert kept_in(tmp_path)[0].read()["correct"].to_pylist() == [False]
        store.merge()
    with AnswerStore(tmp_path, {}, "judge 2") as store:
        assert missing(store, Questions([A], samples=1)) == ([], [])
        assert store.table([("a", "x", 0)])["correct"].to_pylist() == [False]
        # Another gold for the same prompt is judged again too.
        again, wanted = missing(store, Questions([prompt("a", "x", gold="6")], samples=1))
        assert (len(again), wanted) == (1, [])


def test_a_folder_has_one_writer_and_a_killed_one_leaves_it(tmp_path: Path) -> None:
    holds = (
        "import sys, time; from pathlib import Path; from services.evaluate.store import AnswerStore; "
        f"store = AnswerStore(Path({str(tmp_path)!r}), {{}}, 'j'); print('held', flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", holds], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=f"another evaluation writes to {tmp_path}"):
            AnswerStore(tmp_path, {}, JUDGE)
        other.kill()
    with AnswerStore(tmp_path, {}, JUDGE):
        pass


def test_a_file_system_that_does_not_lock_is_no_other_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(OSError, match=rf"No locks available: '{tmp_path}/lock'"):
        AnswerStore(tmp_path, {}, JUDGE)


def test_what_killed_evaluations_had_not_finished_goes(tmp_path: Path) -> None:
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        store.add([answered(A, 0)])
    names = (f".{RESPONSES}.1a2b3c4d.unfinished", "parts/.7.parquet.1a2b3c4d.unfinished")
    ours = [tmp_path / name for name in names]
    page = tmp_path / ".report.html.1a2b3c4d.unfinished"  # of a command that may be at work
    for file in (*ours, page):
        file.touch()
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        assert store.gold("a", "x", 0) == "5"
    assert [file.exists() for file in (*ours, page)] == [False, False, True]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        store.add([answered(A, 0)])
    [part] = (tmp_path / "parts").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(StoreError, match=f"{part} holds no responses"):
        AnswerStore(tmp_path, {}, JUDGE)


def test_folders_by_model_and_settings(tmp_path: Path) -> None:
    name = folder_name("runs/mine/export", {"temperature": 0.6})
    assert name.startswith("mine-export-")
    assert name == folder_name("runs/mine/export", {"temperature": 0.6})
    assert name != folder_name("runs/mine/export", {"temperature": 0.7})
    assert folder_name("https://host:8000/v1", {}).startswith("host-8000-v1-")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    before = folder_identity(str(tmp_path))
    assert folder_identity(str(tmp_path)) == before
    (tmp_path / "model.safetensors").write_bytes(b"22")
    assert folder_identity(str(tmp_path)) != before
    assert folder_identity("owner/model") == {"model": "owner/model"}


@pytest.mark.parametrize(
    ("response", "opened"),
    [
        ("so</think>5", "<think>"),
        ("<think>so</think>5", ""),
        ("5", ""),
        ("a</think>b<think>c</think>", "<think>"),
    ],
)
def test_thoughts_that_a_template_elsewhere_opened(response: str, opened: str) -> None:
    assert opened_before(response) == opened


def test_responses_that_another_judge_gave_verdicts_to_stay_where_fewer_are_asked_for(tmp_path: Path) -> None:
    prompts = [prompt(str(number), "x") for number in range(10)]
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        store.add([answered(each, 0) for each in prompts])
        store.merge()
    with AnswerStore(tmp_path, {}, "judge 2") as store:
        store.add([answered(each, 0, correct=False) for each in prompts[:3]])
        store.merge()
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        assert [store.gold(each.prompt_id, "x", 0) for each in prompts] == [*[None] * 3, *["5"] * 7]
        assert all(store.response(each.prompt_id, 0) for each in prompts)
    # What is shown is the last judge's alone.
    [kept] = kept_in(tmp_path)
    assert sorted(kept.read()["prompt_id"].to_pylist()) == ["0", "1", "2"]
    with AnswerStore(tmp_path, {}, "judge 3") as store:
        store.add([answered(each, 0) for each in prompts])
        store.merge()
        assert [file.name for file in tmp_path.glob("*.parquet")] == ["responses.parquet"]


def test_what_a_server_did_not_tell_is_kept_as_such_beside_what_it_had_to_tell_before(tmp_path: Path) -> None:
    silent = answered(A, 0) | {"finish_reason": None, "tokens": None}
    with AnswerStore(tmp_path, {}, JUDGE) as store:
        store.add([silent])
        store.flush()
        before = [field.with_nullable(field.name not in ("finish_reason", "tokens")) for field in ANSWERS]
        old = pa.Table.from_pylist([answered(B, 0)], schema=pa.schema(before))
        pq.write_table(old, tmp_path / "parts" / "0.parquet")
    with AnswerStore(tmp_path, {}, "judge 2") as store:
        [again], wanted = missing(store, Questions([A], samples=1))
    assert (again.answer.finish_reason, again.answer.tokens, wanted) == (None, None, [])
    [kept] = kept_in(tmp_path)
    table = kept.read()
    assert sorted(table["tokens"].to_pylist(), key=str) == [2, None]
    assert [row.truncated for row in rows_of(table)] == [None]
