"""What is left of jobs that could not be kept, or whose process ended while it kept them: nothing."""

import errno
import os
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest

from services.serve.jobs.job import Handed
from services.serve.jobs.store import JobStore

HANDED = Handed("me", time.time(), "json", "json", "identity", {})


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def left(store: Path) -> list[str]:
    return sorted(str(each.relative_to(store)) for each in store.rglob("*") if each.name != ".adding")


def test_a_full_disk_is_not_made_fuller_by_jobs_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JobStore(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            store.add(HANDED, b"[]")
    assert left(tmp_path) == []
    job = store.add(HANDED, b"[]")
    kept = left(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        job.keep_part(0, pa.table({"number": [1]}))
    assert left(tmp_path) == kept


def test_a_job_that_a_killed_process_was_adding_goes(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.add(HANDED, b"[]")
    shutil.copytree(job.folder, tmp_path / f".{job.id}")
    store.expire(keep_s=60)
    assert [each.id for each in store.all()] == [job.id]
    assert not (tmp_path / f".{job.id}").exists()


def test_a_job_goes_whole_and_never_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = JobStore(tmp_path)
    job = store.add(HANDED, b"[]")
    job.cancel()

    # Whoever looks while its files go, or after a process was killed at it, finds none of it.
    def in_part(folder: Path, ignore_errors: bool) -> None:
        assert ignore_errors
        (folder / "cancelled").unlink(missing_ok=True)

    monkeypatch.setattr(shutil, "rmtree", in_part)
    store.expire(keep_s=-1)
    assert store.all() == []
    monkeypatch.undo()
    store.expire(keep_s=60)
    assert left(tmp_path) == []
