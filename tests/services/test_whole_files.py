"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from services.base.whole_files import remove_unfinished, whole, write_whole


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    write_whole(file, "before")
    with whole(file) as unfinished:
        unfinished.write_bytes(b"after")
        assert file.read_text() == "before"
        assert list(tmp_path.glob("*.parquet")) == [file]  # as who reads a folder looks for them
    assert file.read_text() == "after"
    write_whole(file, "Käse")
    assert file.read_bytes() == "Käse".encode()
    assert list(tmp_path.iterdir()) == [file]


def test_what_fails_leaves_what_was_there_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.json"
    write_whole(file, "before")
    with suppress(KeyboardInterrupt), whole(file) as unfinished:
        unfinished.write_bytes(b"hal")
        raise KeyboardInterrupt
    assert file.read_text() == "before"

    def refuses(_: int) -> None:
        raise OSError(5, "Input/output error")

    # A file that the disk has not taken does not get the name.
    monkeypatch.setattr(os, "fsync", refuses)
    with pytest.raises(OSError, match="Input/output"):
        write_whole(file, "after")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_two_that_write_the_same_file_do_not_meet(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    with whole(file) as first, whole(file) as second:
        first.write_text("first")
        second.write_text("second")
    assert file.read_text() == "first"  # the last to be whole
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_kill_leaves_is_known_by_its_name(tmp_path: Path) -> None:
    killed = (
        "import os, signal; from pathlib import Path; from services.base.whole_files import whole\n"
        "for name in ('a[1].json', 'b.json'):\n"
        "    whole(Path(name)).__enter__().write_text('hal')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", killed], cwd=tmp_path, env=environment, check=False)
    write_whole(tmp_path / "c.json", "whole")
    assert len(list(tmp_path.iterdir())) == 3
    remove_unfinished(tmp_path, "a[1].json")
    assert sorted(file.name[:8] for file in tmp_path.iterdir()) == [".b.json.", "c.json"]
    remove_unfinished(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]
