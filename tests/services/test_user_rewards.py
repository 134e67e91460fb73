"""A user's reward function that does what a program can do: it costs its own check and names its line."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from user_rewards import HELPER, Judging, judging

from rlad_core.tasks.base import Verdict
from services.verifier.checking.messages import Failed

REWARD = """\
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import helper
import numpy as np


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("I do not say")


def deeper(depth):
    return deeper(depth + 1) + 1


def alarmed(*_):
    raise TimeoutError("too late")


def score(response, gold, row):
    match response:
        case "loop":
            while True: gold
        case "regex":
            import re
            re.match(r"(a+)+$", "a" * 60 + "b")
        case "sleep":
            time.sleep(600)
        case "helper":
            helper.divide(1)
        case "segfault":
            ctypes.string_at(0)
        case "deep in C":
            for _ in range(3 * 10**5):
                gold = (gold,)
            hash(gold)
        case "deep":
            deeper(0)
        case "os._exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "kill all":
            os.kill(0, signal.SIGKILL)
        case "sys.exit":
            sys.exit("bye")
        case "interrupt":
            raise KeyboardInterrupt
        case "generator":
            raise GeneratorExit
        case "raise":
            return 1 / 0
        case "odd":
            raise Odd
        case "long":
            raise ValueError("x" * 10**7 + chr(0xD800))
        case "nan":
            return float("nan")
        case "none":
            return None
        case "eat":
            return len(bytearray(8 * 2**30))
        case "eat slowly":
            kept = []
            while True:
                kept.append("x" * 2**20)
        case "print":
            for _ in range(300_000):
                print("Here I am", chr(0xD800))
                print("and here", file=sys.stderr)
            os.write(1, b"x" * 10**6)
        case "read":
            return {"reward": 1, "read": len(sys.stdin.read()) + len(os.read(0, 10))}
        case "close":
            sys.stdout.close()
            sys.stdin.close()
            sys.stderr.detach()
            for each in range(3):
                os.close(each)
        case "close all":
            os.closerange(0, 1000)
        case "alarm":
            signal.signal(signal.SIGALRM, alarmed)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        case "handlers":
            for each in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(each, lambda *_: None)
        case "chdir":
            os.chdir("/proc")
        case "limit":
            sys.setrecursionlimit(60)
        case "fork":
            os.fork()
        case "children":
            subprocess.Popen(["sleep", "600"])
            os.system("sleep 600 &")
            os._exit(4)
        case "threads":
            threading.Thread(target=time.sleep, args=(600,)).start()
            ThreadPoolExecutor(2).submit(time.sleep, 600)
        case "later":
            threading.Timer(0.05, os._exit, [5]).start()
        case "keep":
            helper.kept.append(np.ones(100 * 2**17))
        case "look":
            print("still possible")
            deep = len(str([[[[[1]]]]]))
            return {"reward": 1, "here": os.getcwd() == row["folder"], "deep": deep}
        case "wait":
            time.sleep(0.01)
    return response != "wrong"
"""


def line_of(text: str, after: str = "") -> int:
    """Of a text in the reward function's file."""
    start = REWARD.index(f'case "{after}"') if after else 0
    return REWARD[: REWARD.index(text, start)].count("\n") + 1


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judging]:
    folder = tmp_path_factory.mktemp("mine")
    (folder / "reward.py").write_text(REWARD)
    (folder / "helper.py").write_text(HELPER)
    with judging(folder / "reward.py", workers=2) as made:
        yield made


STOPPED = "took longer than 1 s and was stopped (reward.py, line {})"


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ("loop", STOPPED.format(line_of("while True: gold"))),
        ("regex", STOPPED.format(line_of("re.match"))),
        ("sleep", STOPPED.format(line_of("time.sleep(600)"))),
        ("helper", "raised ZeroDivisionError: division by zero (helper.py, line 5)"),
        ("segfault", f"ended its process with SIGSEGV (reward.py, line {line_of('ctypes.string_at')})"),
        ("deep in C", f"ended its process with SIGSEGV (reward.py, line {line_of('hash(gold)')})"),
        ("os._exit", "ended its process with exit code 3 (reward.py)"),
        ("kill", "ended its process with SIGKILL (reward.py)"),
        ("kill all", "ended its process with SIGKILL (reward.py)"),
        ("sys.exit", f"raised SystemExit: bye (reward.py, line {line_of('sys.exit(')})"),
        ("interrupt", f"raised KeyboardInterrupt (reward.py, line {line_of('raise KeyboardInt')})"),
        ("generator", f"raised GeneratorExit (reward.py, line {line_of('raise GeneratorExit')})"),
        ("raise", f"raised ZeroDivisionError: division by zero (reward.py, line {line_of('1 / 0')})"),
        ("odd", "raised Odd (reward.py, line 61)"),
        ("eat", f"needed more than 256 MiB (reward.py, line {line_of('bytearray')})"),
        ("eat slowly", f"needed more than 256 MiB (reward.py, line {line_of('kept.append')})"),
        ("children", "ended its process with exit code 4 (reward.py)"),
    ],
)
def test_each_costs_its_own_check_and_is_told_by_its_line(judge: Judging, response: str, why: str) -> None:
    assert judge.why(response) == why


def test_what_is_no_reward_says_what_came_back(judge: Judging) -> None:
    for response, said in (("nan", "nan, not a finite number"), ("none", "None, not a number")):
        why = judge.why(response)
        assert why.startswith(f"raised RewardError: score returned {said} (reward.py, line")
    assert judge.why("deep").startswith("raised RecursionError: maximum recursion depth exceeded")
    # What is too long to be read, and what Arrow could not take, is neither sent nor stored.
    why = judge.why("long")
    assert why.startswith("raised ValueError: xxxxx")
    assert len(why.encode()) <= 1100


def test_printing_and_reading_harm_nothing(judge: Judging, monkeypatch: pytest.MonkeyPatch) -> None:
    # Printing so much takes a second on a busy machine.
    monkeypatch.setattr(judge.pool._crew, "_time_limit_s", 30.0)
    assert judge.why("print") == "judged 1"
    [outcome] = judge("read")
    assert isinstance(outcome, Verdict)
    assert outcome.parts == {"read": 0.0}


@pytest.mark.parametrize(
    "response", ["close", "alarm", "handlers", "chdir", "limit", "fork", "threads", "children", "keep"]
)
def test_what_a_check_leaves_behind_is_not_felt_by_the_next(judge: Judging, response: str) -> None:
    checks = [response, "look", "wait", "wait", "wait", "wait", "wait", "wait", "deep", "sys.exit", "look"]
    outcomes = judge(*checks)
    for check, outcome in zip(checks, outcomes, strict=True):
        if check == "look":
            assert isinstance(outcome, Verdict), outcome
            assert outcome.parts == {"here": 1.0, "deep": 11.0}
        elif check == "wait":
            assert isinstance(outcome, Verdict), outcome
        elif check in ("deep", "sys.exit"):
            assert isinstance(outcome, Failed)
            assert outcome.why.startswith("raised ")


def test_a_handler_that_was_replaced_does_not_hide_the_line(judge: Judging) -> None:
    outcomes = judge("handlers", "sleep", "handlers", "segfault")
    whys = [outcome.why for outcome in outcomes if isinstance(outcome, Failed)]
    assert whys == [
        STOPPED.format(line_of("time.sleep(600)")),
        f"ended its process with SIGSEGV (reward.py, line {line_of('ctypes.string_at')})",
    ]


def test_closing_everything_ends_the_process_and_no_more(judge: Judging) -> None:
    assert judge.why("close all").startswith("ended its process with ")


def test_a_process_that_a_check_forks_does_not_answer_for_it(judge: Judging) -> None:
    judge("fork", "right", "right")
    for _ in range(10):
        outcomes = judge("wrong", "wrong", "wrong")
        assert [isinstance(outcome, Verdict) and outcome.correct for outcome in outcomes] == [False] * 3


def test_a_thread_that_ends_the_process_later_is_not_the_next_ones_fault(tmp_path: Path) -> None:
    (tmp_path / "reward.py").write_text(REWARD)
    (tmp_path / "helper.py").write_text(HELPER)
    with judging(tmp_path / "reward.py") as judge:
        for _ in range(3):
            [first] = judge("later")
            [second] = judge(*["wait"])
            time.sleep(0.1)
            [third] = judge("right")
            assert all(isinstance(outcome, Verdict) for outcome in (first, second, third))


def test_memory_that_is_kept_does_not_fail_those_after(tmp_path: Path) -> None:
    (tmp_path / "reward.py").write_text(REWARD)
    (tmp_path / "helper.py").write_text(HELPER)
    with judging(tmp_path / "reward.py", memory_limit_bytes=2**28) as judge:
        processes = set()
        for _ in range(12):  # each keeps 100 MiB of 256
            [outcome] = judge("keep")
            assert isinstance(outcome, Verdict), outcome
            processes |= set(judge.pool.pids)
        assert len(processes) > 2


def test_children_are_gone_with_the_worker(judge: Judging) -> None:
    def sleeping() -> set[str]:
        found = set()
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if status.read_bytes() == b"sleep\x00600\x00":
                    found.add(status.parent.name)
            except OSError:  # it has just ended
                continue
        return found

    before = sleeping()
    assert judge.why("children").startswith("ended its process")
    deadline = time.monotonic() + 10
    while sleeping() - before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_check_that_fails_has_a_reward_of_its_task(judge: Judging) -> None:
    [outcome] = judge(None)
    assert outcome == Verdict(0.0, {"score": 0.0}, False, "")
    assert judge.pool.is_users("mine")
