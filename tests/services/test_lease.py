"""A run's folder has one owner: processes that race for it, are killed, are silent, or come back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from services.run.lease import FOLDER, HeldError, leased

HOLD = """
import sys, time
from pathlib import Path
from services.run.lease import HeldError, leased
try:
    with leased(Path(sys.argv[1]), print, beat_s=0.1, lapse_s=float(sys.argv[2])):
        print("mine", flush=True)
        sys.stdin.readline()
except HeldError as error:
    print(f"held: {error}", flush=True)
"""


def holder(run_dir: Path, lapse_s: float = 2) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run_dir), str(lapse_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=60)


def from_elsewhere(run_dir: Path) -> None:
    """Have the newest lease look as if made on another host."""
    file = max((run_dir / FOLDER).glob("*.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"machine": "another", "host": "elsewhere"}))


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").touch()
    return tmp_path / "run"


def test_a_second_owner_is_refused_with_who_has_it(run_dir: Path) -> None:
    first = holder(run_dir)
    assert line(first) == "mine"
    with pytest.raises(HeldError, match=rf"process {first.pid} on .*, since 20.* UTC"), leased(run_dir):
        pass
    end(first)
    said: list[str] = []
    with leased(run_dir, said.append):
        assert said == []


def test_a_killed_owner_is_followed_at_once_and_with_a_word(run_dir: Path) -> None:
    first = holder(run_dir)
    assert line(first) == "mine"
    first.kill()
    first.wait()
    said: list[str] = []
    with leased(run_dir, said.append, lapse_s=600):
        assert f"taking over {run_dir} from process {first.pid}" in said[-1]


def test_of_several_that_come_at_once_one_wins(run_dir: Path) -> None:
    for _ in range(2):
        all_of_them = [holder(run_dir) for _ in range(4)]
        told = [line(process) for process in all_of_them]
        assert sum(each == "mine" for each in told) == 1, told
        assert sum(each.startswith("held: ") for each in told) == 3, told
        for process in all_of_them:
            end(process)


def test_of_several_that_take_over_one_wins(run_dir: Path) -> None:
    first = holder(run_dir)
    assert line(first) == "mine"
    first.kill()
    first.wait()
    from_elsewhere(run_dir)
    takers = [holder(run_dir, lapse_s=1) for _ in range(3)]
    told = []
    for process in takers:
        while "mine" not in (said := line(process)) and not said.startswith("held"):
            assert "waiting 1 s for a sign of life" in said or "taking over" in said
        told.append(said)
    assert sum(each == "mine" for each in told) == 1, told
    for process in takers:
        end(process)


def test_an_owner_on_another_host_is_watched(run_dir: Path) -> None:
    beating = threading.Event()

    def beat() -> None:
        file = max((run_dir / FOLDER).glob("*.json"))
        while not beating.wait(0.2):
            fields = json.loads(file.read_text())
            file.write_text(json.dumps(fields | {"beats": fields["beats"] + 1}))

    with leased(run_dir):
        pass
    file = max((run_dir / FOLDER).glob("*.json"))
    file.write_text(json.dumps(json.loads(file.read_text()) | {"ended": False}))
    from_elsewhere(run_dir)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(HeldError, match="on elsewhere"), leased(run_dir, lapse_s=30):
            pass
    finally:
        beating.set()
        thread.join()
    os.utime(file, (0, time.time() + 7200))  # its clock does not count
    said: list[str] = []
    with leased(run_dir, said.append, lapse_s=0.5):
        assert "waiting 0.5 s" in said[0]
        assert "taking over" in said[1]


def test_an_owner_that_was_taken_for_dead_learns_it(run_dir: Path) -> None:
    with leased(run_dir, beat_s=0.05) as first:
        from_elsewhere(run_dir)
        file = max((run_dir / FOLDER).glob("*.json"))
        (file.parent / "000002.json").write_text(file.read_text())
        deadline = time.monotonic() + 30
        while not first.lost and time.monotonic() < deadline:
            time.sleep(0.05)
    assert first.lost
    assert "on elsewhere" in first.lost


def test_a_stopped_owner_keeps_what_it_has(run_dir: Path) -> None:
    first = holder(run_dir)
    assert line(first) == "mine"
    first.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(HeldError), leased(run_dir, lapse_s=0.3):
            pass
    finally:
        first.send_signal(signal.SIGCONT)
        end(first)


def test_a_folder_that_only_has_a_lease_goes_with_it(tmp_path: Path) -> None:
    with leased(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_taken_away_hides_nothing_of_what_went_wrong(tmp_path: Path) -> None:
    def go_wrong() -> None:
        shutil.rmtree(tmp_path / "new")
        raise ValueError("what went wrong")

    with pytest.raises(ValueError, match="what went wrong"), leased(tmp_path / "new"):
        go_wrong()
