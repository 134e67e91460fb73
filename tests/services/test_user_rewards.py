"""A user's reward function that does what a program can do: it costs its own check and names its line."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rlad_core.tasks.base import TaskSpec, Verdict
from services.verifier.checking import process
from services.verifier.checking.messages import Check, Failed, Outcome
from services.verifier.checking.pool import CheckPool

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
            for _ in range(10**6):
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
HELPER = """\
kept = []


def divide(value):
    return value / 0
"""


def line_of(text: str, after: str = "") -> int:
    """Of a text in the reward function's file."""
    start = REWARD.index(f'case "{after}"') if after else 0
    return REWARD[: REWARD.index(text, start)].count("\n") + 1


class Judging:
    """A pool with the function, and the one event loop it is used on."""

    def __init__(self, runner: asyncio.Runner, pool: CheckPool) -> None:
        self.run, self.pool = runner.run, pool

    def __call__(self, *responses: str | None) -> list[Outcome]:
        gold = json.dumps({"gold": 1, "row": {"folder": os.getcwd()}})
        return self.run(self.pool.judge([Check("mine", response, gold) for response in responses]))

    def why(self, response: str) -> str:
        """What is said of it. Its neighbours, before and after, keep their verdicts."""
        before, outcome, *after = self(*["right"] * 1, response, *["right", "wrong"] * 10)
        verdicts = [each for each in (before, *after) if isinstance(each, Verdict)]
        assert [verdict.correct for verdict in verdicts] == [True, *[True, False] * 10]
        return outcome.why if isinstance(outcome, Failed) else f"judged {outcome.reward:g}"


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judging]:
    folder = tmp_path_factory.mktemp("mine")
    (folder / "reward.py").write_text(REWARD)
    (folder / "helper.py").write_text(HELPER)
    with judging(folder / "reward.py", workers=2) as made:
        yield made


@contextmanager
def judging(path: Path, *, workers: int = 1, memory_limit_bytes: int = 2**28) -> Iterator[Judging]:
    """A started pool for a reward function."""
    spec = TaskSpec("rlad_core.tasks.prompts.task:Prompts", {"reward": f"{path}:score"})
    pool = CheckPool({"mine": spec}, workers=workers, time_limit_s=1.0, memory_limit_bytes=memory_limit_bytes)
    with asyncio.Runner() as runner:
        try:
            runner.run(pool.start())
            yield Judging(runner, pool)
        finally:
            pool.close()


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
        ("odd", "raised Odd"),
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
    monkeypatch.setattr(judge.pool, "_time_limit_s", 30.0)
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


def test_code_travels_to_where_its_files_are_not(tmp_path: Path) -> None:
    place = "/nowhere/on/this/machine"
    sources = {
        f"{place}/reward.py": "import helper\n\ndef score(a):\n    return helper.divide(1)\n",
        f"{place}/helper.py": HELPER,
    }
    spec = TaskSpec("rlad_core.tasks.prompts.task:Prompts", {"reward": f"{place}/reward.py:score"})

    async def judged() -> Outcome:
        pool = CheckPool({"mine": spec}, workers=1, time_limit_s=1.0, memory_limit_bytes=2**28, code=sources)
        try:
            await pool.start()
            return (await pool.judge([Check("mine", "a", '{"gold": 1}')]))[0]
        finally:
            pool.close()

    outcome = asyncio.run(judged())
    assert isinstance(outcome, Failed)
    assert outcome.why == "raised ZeroDivisionError: division by zero (helper.py, line 5)"


# Loading


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\nraise ValueError('no key')", r"does not run: ValueError: no key \(reward\.py, line 2\)"),
        ("def score(:", r"does not run: SyntaxError: .* \(reward\.py, line 1\)"),
        ("import no_such_module", r"does not run: ModuleNotFoundError: .* \(reward\.py, line 1\)"),
        ("\nimport sys; sys.exit(1)", r"does not run: SystemExit: 1 \(reward\.py, line 2\)"),
        ("other = 1", r"there is no score in .*reward\.py; it has other"),
        ("async def score(a): return 1", r"score is asynchronous \(reward\.py, line 1\)"),
        (
            "import os, sys\nprint('the disk is full', file=sys.stderr)\nos._exit(3)",
            r"while it was loaded, a worker process ended with exit code 3 \(reward\.py\); "
            r"its last words were: the disk is full",
        ),
        (
            "import ctypes\n\nctypes.string_at(0)",
            r"while it was loaded, a worker process ended with SIGSEGV \(reward\.py, line 3\)",
        ),
        (
            "import time\ntime.sleep(600)",
            r"while it was loaded, a worker process was not ready within 1 s \(reward\.py, line 2\)",
        ),
        (
            "import sys\nwhile True: print('again', file=sys.stderr)",
            r"while it was loaded, a worker process was not ready within 1 s \(reward\.py, line 2\)",
        ),
    ],
)
def test_code_that_does_not_load_fails_the_start_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    if "not ready" in says:
        monkeypatch.setattr(process, "START_LIMIT_S", 1.0)
    (tmp_path / "reward.py").write_text(text)
    with pytest.raises(RuntimeError, match=rf"task 'mine': .*{says}"), judging(tmp_path / "reward.py"):
        pass


RIDDLES = """\
class Riddles:
    subsets = ("hard",)

    def __init__(self, bonus=0.0):
        self.bonus = bonus

    def prompts(self, split, subset, count, seed):
        return []

    def verify(self, response, gold):
        from rlad_core.tasks.base import Verdict
        import numpy as np
        if response == "no verdict":
            return True
        if response == "nan":
            return Verdict(float("nan"), {}, True, "")
        if response == "part":
            return Verdict(1.0, {"a": None}, True, "")
        if response == "correct":
            return Verdict(1.0, {}, "yes", "")
        if response == "numpy":
            return Verdict(np.float32(0.5), {"a": np.int64(3)}, np.bool_(True), chr(0xD800) + "x" * 10**6)
        return Verdict(1.0 + self.bonus, {}, response == gold, "")

    def failed(self, gold):
        raise SystemExit
"""


def riddles(folder: Path, text: str = RIDDLES, **settings: Any) -> CheckPool:
    (folder / "riddles.py").write_text(text)
    spec = TaskSpec(f"{folder}/riddles.py:Riddles", settings)
    return CheckPool({"riddles": spec}, workers=1, time_limit_s=1.0, memory_limit_bytes=2**28)


def test_a_users_class_needs_nothing_of_ours(tmp_path: Path) -> None:
    asked = ["no verdict", "nan", "part", "correct", "numpy", "4", None]

    async def judged() -> list[Outcome]:
        pool = riddles(tmp_path, bonus=0.5)
        try:
            await pool.start()
            # It is not run in this process.
            assert pool.tasks == {"riddles": None}
            assert pool.is_users("riddles")
            return await pool.judge([Check("riddles", response, "4") for response in asked])
        finally:
            pool.close()

    outcomes = asyncio.run(judged())
    line = RIDDLES[: RIDDLES.index("def verify")].count("\n") + 1
    assert [outcome.why for outcome in outcomes if isinstance(outcome, Failed)] == [
        f"returned True, which is no Verdict (riddles.py, line {line})",
        f"returned a Verdict whose reward is nan, not a finite number (riddles.py, line {line})",
        f"returned a Verdict whose part a is None, not a finite number (riddles.py, line {line})",
        f"returned a Verdict whose correct is 'yes', not True or False (riddles.py, line {line})",
        "raised SystemExit (riddles.py, line 26)",
    ]
    odd, right = (outcome for outcome in outcomes if isinstance(outcome, Verdict))
    assert (odd.reward, odd.parts, odd.correct) == (0.5, {"a": 3.0}, True)
    assert len(odd.reason.encode()) <= 1000
    assert right == Verdict(1.5, {}, True, "")


@pytest.mark.parametrize(
    ("text", "settings", "says"),
    [
        (RIDDLES, {"bonsu": 1}, r"task 'riddles': TypeError: .*unexpected keyword argument 'bonsu'"),
        ("Riddles = 5", {}, "task 'riddles': .* is no class but int"),
        ("class Riddles: pass", {}, "has no prompts and no verify"),
        (
            RIDDLES.replace("self.bonus = bonus", "1 / 0"),
            {},
            r"task 'riddles': ZeroDivisionError: division by zero \(riddles\.py, line 5\)",
        ),
    ],
)
def test_a_class_that_is_no_task_fails_the_start(
    tmp_path: Path, text: str, settings: dict[str, Any], says: str
) -> None:
    pool = riddles(tmp_path, text, **settings)
    with pytest.raises(RuntimeError, match=says):
        asyncio.run(pool.start())
    pool.close()


_FROM_A_FOLDER = """
import asyncio, sys
sys.path.append({root!r})
from rlad_core.tasks.base import TaskSpec
from services.verifier.checking.messages import Check
from services.verifier.checking.pool import CheckPool
sys.path.insert(0, {here!r})  # as python -m, a shell or Ray have it

async def main():
    spec = TaskSpec({place!r}, {{}})
    pool = CheckPool({{"mine": spec}}, workers=1, time_limit_s=5, memory_limit_bytes=2**28)
    await pool.start()
    print((await pool.judge([Check("mine", "a", "{{}}")]))[0].reason)
    pool.close()

asyncio.run(main())
"""


def test_nothing_in_the_current_folder_takes_the_place_of_what_is_installed(tmp_path: Path) -> None:
    here = tmp_path / "services"
    here.mkdir()
    for name in ("services", "rlad_core", "app", "random", "json", "pickle", "numpy", "tests"):
        (here / f"{name}.py").write_text("raise SystemExit('this is not yours')")
    (here / "mine.py").write_text(
        "from services import *\n"  # the package that is installed
        "import random, helper\n"
        "from rlad_core.tasks.base import Verdict\n\n"
        "class Mine:\n"
        "    prompts = None\n"
        "    def prompts(self, *asked): return []\n"
        "    def verify(self, response, gold):\n"
        "        return Verdict(1.0, {}, True, helper.TEXT + str(random.random() < 1))\n"
    )
    (here / "helper.py").write_text("TEXT = 'with its neighbour: '")
    root = str(Path(__file__).parents[2])
    program = _FROM_A_FOLDER.format(root=root, here=str(here), place=f"{here}/mine.py:Mine")
    ran = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "with its neighbour: True\n"
