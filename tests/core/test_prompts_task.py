"""Prompts from a user's data files, and what a user's reward function may return."""

import datetime
import decimal
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlad_core.sections import code
from rlad_core.tasks.base import Verdict
from rlad_core.tasks.prompts.reading import rows
from rlad_core.tasks.prompts.reward import RewardError
from rlad_core.tasks.prompts.task import Prompts


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task(path: Path, **settings: Any) -> Prompts:
    usual = {"prompt_column": "question", "gold_column": "answer", "reward": "/nowhere/reward.py:score"}
    return Prompts(files={("train", "file"): path}, **usual | settings)


def gold_of(prompts: Prompts, place: int = 0) -> dict[str, Any]:
    gold: dict[str, Any] = json.loads(prompts.prompts("train", "file", None, 0)[place].gold)
    return gold


# Prompts


def test_a_row_is_a_prompt_and_all_of_it_travels(tmp_path: Path) -> None:
    rows = {"question": "How many?", "answer": {"at_least": 3}, "level": 2**70, "share": 0.1}
    [prompt] = task(jsonl(tmp_path / "a.jsonl", rows)).prompts("train", "file", None, 0)
    assert prompt.messages == [{"role": "user", "content": "How many?"}]
    assert (prompt.task, prompt.subset) == ("prompts", "file")
    assert json.loads(prompt.gold) == {"gold": {"at_least": 3}, "row": rows}


def test_a_chat_is_taken_as_it_is_and_gets_the_system_message_it_lacks(tmp_path: Path) -> None:
    user = {"role": "user", "content": "How many?"}
    own = {"role": "system", "content": "Count."}
    path = jsonl(
        tmp_path / "a.jsonl",
        {"question": [user], "answer": 1},
        {"question": [own, user], "answer": 1},
        {"question": "How?", "answer": 1},
    )
    prompts = task(path, system="Be brief.").prompts("train", "file", None, 0)
    brief = {"role": "system", "content": "Be brief."}
    assert [prompt.messages for prompt in prompts] == [
        [brief, user],
        [own, user],
        [brief, {"role": "user", "content": "How?"}],
    ]


def test_a_byte_order_mark_and_empty_lines_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"question": "\xc3\xa4?", "answer": 1}\n\n\n')
    [prompt] = task(tmp_path / "a.jsonl").prompts("train", "file", None, 0)
    assert prompt.messages[0]["content"] == "ä?"


def test_parquet_values_without_json_become_texts(tmp_path: Path) -> None:
    columns = {
        "question": [[{"role": "user", "content": "When?"}]],
        "answer": pa.array([2**63 - 1], pa.int64()),
        "day": [datetime.date(2024, 2, 29)],
        "price": pa.array([decimal.Decimal("0.10")], pa.decimal128(5, 2)),
        "name": [b"caf\xc3\xa9"],
        "image": [b"\xff\xd8"],
        "missing": [float("nan")],
        "ratio": [0.1],
        "none": pa.array([None], pa.string()),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    gold = gold_of(task(tmp_path / "a.parquet"))
    assert gold["gold"] == 2**63 - 1
    assert {name: gold["row"][name] for name in list(columns)[2:]} == {
        "day": "2024-02-29",
        "price": "0.10",
        "name": "café",
        "image": "/9g=",
        "missing": "nan",
        "ratio": 0.1,
        "none": None,
    }


def test_draws_follow_the_seed_and_the_files_order(tmp_path: Path) -> None:
    rows = [{"question": f"{place}?", "answer": place} for place in range(50)]
    prompts = task(jsonl(tmp_path / "a.jsonl", *rows))
    drawn = [json.loads(prompt.gold)["gold"] for prompt in prompts.prompts("train", "file", 10, 3)]
    assert drawn == sorted(drawn)
    assert len(set(drawn)) == 10
    assert drawn == [json.loads(p.gold)["gold"] for p in prompts.prompts("train", "file", 10, 3)]
    assert drawn != [json.loads(p.gold)["gold"] for p in prompts.prompts("train", "file", 10, 4)]
    with pytest.raises(ValueError, match="has 50 different prompts, fewer than 51"):
        prompts.prompts("train", "file", 51, 0)
    with pytest.raises(ValueError, match="no data file is named test/file; there is train/file"):
        prompts.prompts("test", "file", None, 0)


def test_equal_prompts_count_once_and_those_that_disagree_are_left_out(tmp_path: Path) -> None:
    same = [{"question": "2 + 2?", "answer": 4, "id": 1}, {"question": "2 + 2?", "answer": 4.0, "id": 2}]
    assert gold_of(task(jsonl(tmp_path / "a.jsonl", *same)))["row"]["id"] == 1
    path = jsonl(
        tmp_path / "b.jsonl", *same, {"question": "2 + 2?", "answer": 5}, {"question": "", "answer": 1}
    )
    made = task(jsonl(path, *same, {"question": "2 + 2?", "answer": 5}, {"question": "?", "answer": 1}))
    assert [prompt.messages[0]["content"] for prompt in made.prompts("train", "file", None, 0)] == ["?"]
    assert [str(fault.reason) for fault in made.faults("train", "file")] == [
        "asks the same as line 3 with another answer: 4 and 5",
        "asks the same as line 3 with another answer: 4 and 5",
        "asks the same as line 1 with another answer: 5 and 4",
    ]


def test_usual_names_of_columns_need_not_be_said(tmp_path: Path) -> None:
    usual = {"prompt_column": None, "gold_column": None}
    for row, gold in (
        ({"prompt": "?", "gold": 1}, 1),
        ({"question": "?", "answer": "2"}, "2"),
        ({"problem": "?", "answer": "3", "gold": None}, "3"),
        ({"prompt": "?", "reward_model": {"ground_truth": "4"}}, "4"),
    ):
        made = task(jsonl(tmp_path / "a.jsonl", row), **usual)
        assert json.loads(made.prompts("train", "file", None, 0)[0].gold) == {"gold": gold, "row": row}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"question": "a"', "line 2: is no JSON: "),
        ("[1]", "line 2: is no JSON object: '[1]'"),
        ('{"question": "a"}', "line 2: there is no column answer; there is question"),
        ('{"question": null, "answer": 1}', "line 2: nothing in column question; there is question, answer"),
        ('{"question": "a", "answer": null}', "line 2: nothing in column answer"),
        ('{"question": "a", "answer": NaN}', "line 2: answer is nan, which is or holds no finite number"),
        ('{"question": "a", "answer": [1, -Infinity]}', "line 2: answer is [1, -inf], which is or holds"),
        ('{"question": 5, "answer": 1}', "line 2: the prompt is neither a text nor a list of messages: '5'"),
        ('{"question": [], "answer": 1}', "line 2: the prompt is neither a text nor a list of messages"),
        ('{"question": [{"role": "user"}], "answer": 1}', "line 2: a message of the prompt has no role and"),
        ('{"question": " ", "answer": 1}', "line 2: nothing in column question; there is"),
        (
            '{"question": [{"role": "assistant", "content": "b"}], "answer": 1}',
            "line 2: the last message of the prompt is empty, or the assistant's own",
        ),
        ('{"question": "\\ud800", "answer": 1}', "line 2: the prompt holds half a character"),
    ],
)
def test_a_row_at_fault_is_named_and_costs_no_other(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "first", "answer": 1}\n' + line + "\n")
    made = task(path)
    assert [prompt.messages[0]["content"] for prompt in made.prompts("train", "file", None, 0)] == ["first"]
    [fault] = made.faults("train", "file")
    assert says in f"{fault.where}: {fault.reason}"
    assert fault.where == f"{path}, line 2"


def test_a_file_at_fault_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("no parquet")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "a.txt").write_text("a")
    for name, says in (
        ("a.parquet", r"a\.parquet is no Parquet file"),
        ("empty.jsonl", r"empty\.jsonl has no rows"),
        ("a.txt", r"a\.txt ends in none of \.jsonl, "),
    ):
        with pytest.raises(ValueError, match=says):
            task(tmp_path / name).prompts("train", "file", None, 0)


def test_rows_for_a_reader_that_takes_all_or_none(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"a": 1}, {"a": 2})
    assert list(rows(path)) == [("line 1", {"a": 1}), ("line 2", {"a": 2})]
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: is no JSON"):
        list(rows(path))


# Rewards


@pytest.fixture
def score(tmp_path: Path) -> Callable[..., Verdict]:
    """Judges with a function of this text."""

    def judged(text: str, *, response: str = "r", gold: Any = 7, correct_at: float = 1.0) -> Verdict:
        (tmp_path / "reward.py").write_text(text)
        made = Prompts(reward=f"{tmp_path}/reward.py:score", correct_at=correct_at)
        return made.verify(response, json.dumps({"gold": gold, "row": {"level": 2}}))

    return judged


def returning(value: str) -> str:
    return f"import numpy as np\n\ndef score(response, gold, row):\n    return {value}\n"


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        ("True", Verdict(1.0, {"score": 1.0}, True, "score: 1")),
        ("False", Verdict(0.0, {"score": 0.0}, False, "score: 0")),
        ("0.5", Verdict(0.5, {"score": 0.5}, False, "score: 0.5")),
        ("2", Verdict(2.0, {"score": 2.0}, True, "score: 2")),
        ("np.float32(0.5)", Verdict(0.5, {"score": 0.5}, False, "score: 0.5")),
        ("np.bool_(True)", Verdict(1.0, {"score": 1.0}, True, "score: 1")),
        ("np.array(3)", Verdict(3.0, {"score": 3.0}, True, "score: 3")),
        ("{'reward': 1}", Verdict(1.0, {"score": 1.0}, True, "score: 1")),
        ("{'reward': 1, 'correct': False}", Verdict(1.0, {"score": 1.0}, False, "score: 1")),
        (
            "{'reward': -0.5, 'correct': np.bool_(True), 'style': True, 'length': np.int64(-3)}",
            Verdict(-0.5, {"style": 1.0, "length": -3.0}, True, "score: -0.5"),
        ),
    ],
)
def test_what_a_function_may_return(score: Callable[..., Verdict], value: str, verdict: Verdict) -> None:
    judged = score(returning(value))
    assert judged == verdict
    assert (type(judged.reward), type(judged.correct)) == (float, bool)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("None", "score returned None, not a number (reward.py, line 3); return a number, True or False, or"),
        ("'1.0'", "score returned '1.0', not a number (reward.py, line 3)"),
        ("float('nan')", "score returned nan, not a finite number (reward.py, line 3)"),
        ("np.float64('-inf')", "score returned -inf, not a finite number"),
        ("10 ** 400", "too large for a number of 32 bits"),
        ("10 ** 5000", "score returned a int, too large for a number of 32 bits (reward.py, line 3)"),
        ("-1e39", "score returned -1e+39, too large for a number of 32 bits"),
        ("{'reward': 1, 'note': 1e39}", "whose note is 1e+39, too large for a number of 32 bits"),
        ("[1.0]", "score returned [1.0], not a number"),
        ("np.ones(2)", "score returned array([1., 1.]), not a number"),
        ("{'score': 1}", "score returned {'score': 1}, which has no reward"),
        ("{'reward': None}", "score returned {'reward': None}, whose reward is None, not a number"),
        ("{'reward': 1, 'correct': 1}", "whose correct is 1, neither True nor False"),
        ("{'reward': 1, 'note': 'ok'}", "whose note is 'ok', not a number"),
        ("{'reward': 1, 'note': float('inf')}", "whose note is inf, not a finite number"),
    ],
)
def test_what_is_no_reward_is_told_with_file_and_line(
    score: Callable[..., Verdict], value: str, says: str
) -> None:
    with pytest.raises(RewardError) as refused:
        score(returning(value))
    assert says in str(refused.value)


def test_correct_begins_where_it_is_said(score: Callable[..., Verdict]) -> None:
    assert score(returning("0.5"), correct_at=0.5).correct
    assert not score(returning("0.49"), correct_at=0.5).correct


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("def score(response, gold, row): return row['level'] + gold + len(response)", 10.0),
        ("def score(completion, answer): return answer", 7.0),
        ("def score(text): return len(text)", 1.0),
        ("def score(*everything): return len(everything)", 3.0),
        ("def score(text, gold=1, row=None, weight=2): return weight", 2.0),
        ("score = lambda text, gold: gold * 2", 14.0),
        ("from functools import partial\ndef f(weight, text): return weight\nscore = partial(f, 4)", 4.0),
        ("class Judge:\n    def __call__(self, text): return 5\nscore = Judge()", 5.0),
    ],
)
def test_a_function_gets_as_much_as_it_takes(score: Callable[..., Verdict], text: str, reward: float) -> None:
    assert score(text).reward == reward


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\nasync def score(a): return 1", r"score is asynchronous \(reward\.py, line 2\); write def score"),
        ("def score(): return 1", r"score\(\) cannot be called \(reward\.py, line 1\)"),
        ("def score(a, b, c, d): return 1", r"score\(a, b, c, d\) cannot be called"),
        ("def score(a, *, b): return 1", r"score\(a, \*, b\) cannot be called"),
        ("def score(gold, response): return 1", r"would get the response as its gold \(reward\.py, line 1\)"),
        (
            "def score(prompt, response): return 1",
            r"would get the gold as its response .*write def score\(response, gold, row\)",
        ),
        ("def score(response, row): return 1", r"score\(response, row\) would get the gold as its row"),
        (  # verl's
            "def score(data_source, solution_str, ground_truth, extra_info=None): return 1",
            r"extra_info=None\) would get the gold as its solution_str",
        ),
        (
            "def score(prompts, completions, **more): return 1",
            "would get the gold as its completions",
        ),  # TRL's
        ("score = 5", "5 is no function"),
        ("class score: pass", "is no function; write the name of one"),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_when_it_is_loaded(
    tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "reward.py").write_text(text)
    with pytest.raises(RewardError, match=says):
        Prompts(reward=f"{tmp_path}/reward.py:score").warm_up()


def test_making_prompts_never_runs_the_function(tmp_path: Path) -> None:
    (tmp_path / "reward.py").write_text("raise SystemExit")
    path = jsonl(tmp_path / "a.jsonl", {"question": "a", "answer": 1})
    made = task(path, reward=f"{tmp_path}/reward.py:score")
    assert made.prompts("train", "file", None, 0)
    with pytest.raises(code.CodeError, match=r"reward\.py does not run: SystemExit"):
        made.warm_up()


def test_what_a_function_raises_comes_through(score: Callable[..., Verdict]) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        score("def score(a):\n    return 1 / 0\n")
    assert code.fault(raised.value) == "ZeroDivisionError: division by zero (reward.py, line 2)"


def test_gold_that_callers_write_is_the_functions_to_read(tmp_path: Path) -> None:
    (tmp_path / "reward.py").write_text(
        "def score(response, gold, row):\n"
        "    return {'reward': 0, 'seen': len(row), 'right': gold == eval(response)}\n"
    )
    made = Prompts(reward=f"{tmp_path}/reward.py:score")
    for gold, seen in (
        ('{"gold": 1, "row": {"a": 2}}', 1),
        ('{"gold": 1}', 1),
        ("5", "5"),
        ("no JSON", "no JSON"),
        ("[]", "[]"),
        ('{"answer": 5}', {"answer": 5}),
    ):
        parts = made.verify(repr(seen), gold).parts
        assert parts["right"] == 1
        assert parts["seen"] == ("row" in gold)


def test_a_check_that_fails_has_the_same_parts(score: Callable[..., Verdict]) -> None:
    failed = Prompts(reward="reward.py:score").failed("{}")
    assert (failed.reward, failed.correct) == (0.0, False)
    assert failed.parts.keys() == score(returning("1")).parts.keys()
    assert math.isfinite(float(np.float64(failed.reward)))
