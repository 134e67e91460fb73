"""A user's code is loaded in worker processes alone; what does not load says where."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from user_rewards import HELPER, judging

from rlad_core.tasks.base import TaskSpec, Verdict
from services.verifier.checking import process
from services.verifier.checking.messages import Check, Failed, Outcome
from services.verifier.checking.pool import CheckPool


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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\nraise ValueError('no key')", r"does not run: ValueError: no key \(reward\.py, line 2\)"),
        ("def score(:", r"does not run: SyntaxError: .* \(reward\.py, line 1\)"),
        ("import no_such_module", r"does not run: ModuleNotFoundError: .* \(reward\.py, line 1\)"),
        ("\nimport sys; sys.exit(1)", r"does not run: SystemExit: 1 \(reward\.py, line 2\)"),
        ("def other(): ...", r"there is no score in .*reward\.py; it has other"),
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
        if response == "vast":
            return Verdict(1e39, {}, True, "")
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
    asked = ["no verdict", "nan", "vast", "part", "correct", "numpy", "4", None]

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
        "returned a Verdict whose reward is 1e+39, too large for a number of 32 bits "
        f"(riddles.py, line {line})",
        f"returned a Verdict whose part a is None, not a number (riddles.py, line {line})",
        f"returned a Verdict whose correct is 'yes', not True or False (riddles.py, line {line})",
        "raised SystemExit (riddles.py, line 28)",
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
