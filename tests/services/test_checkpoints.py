"""Checkpoints: written meanwhile, whole or not there, kept by count and score, taken by any ranks."""

import json
import multiprocessing
import os
import shutil
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
import torch
import torch.distributed as dist
from fsspec.implementations.memory import MemoryFileSystem
from made_up_experience import experience, small_config
from ranks import fork_from_server, join_ranks, start_ranks
from storage_faults import readable, unreadable
from torchao.optim.subclass_8bit import OptimState8bit

from rlad_core.adaptive_entropy import EntropyControl
from rlad_core.assembly import plan_shards
from services.learner.checkpoint import (
    FORKED,
    STATE_FILE,
    CheckpointError,
    Found,
    address_of,
    folder_name,
    forked,
    found_at,
    kept,
    remove_unfinished,
    storage_of,
    whole_ones,
)
from services.learner.checkpoints import Checkpoints, _copied, _writer, read_into
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.run.initial_policy import write_initial_policy

pytestmark = pytest.mark.timeout(600)


def test_the_last_ones_and_the_best_are_kept() -> None:
    scores = {1: 0.5, 2: 0.9, 3: None, 4: 0.9, 5: 0.1, 6: None}
    found = {step: Found("", {"step": step, "score": score}) for step, score in scores.items()}
    assert kept(found, 2, 0) == {5, 6}
    assert kept(found, 1, 1) == {4, 6}  # of equal ones the later
    assert kept(found, 1, 3) == {1, 2, 4, 6}
    assert kept(found, 9, 9) == set(scores)
    assert kept({}, 2, 2) == set()


def test_where_they_go() -> None:
    assert address_of("/runs/a", None, "a") == "/runs/a"
    assert address_of("/runs/a", "s3://bucket/runs/", "a") == "s3://bucket/runs/a"


def test_only_those_with_a_whole_state_file_count(tmp_path: Path) -> None:
    for steps, text in ((2, '{"step": 2}'), (4, '{"step": 4'), (6, None)):
        (folder := tmp_path / folder_name(steps)).mkdir()
        (folder / "weights").write_text("x")
        if text is not None:
            (folder / STATE_FILE).write_text(text)
    assert list(whole_ones(str(tmp_path))) == [2]
    remove_unfinished(str(tmp_path))
    assert [entry.name for entry in tmp_path.iterdir()] == [folder_name(2)]


def test_a_folder_of_this_machine_is_taken_as_it_is(tmp_path: Path) -> None:
    """Where "::" begins another address, checkpoints would lie in the folder that stands before it."""
    (folder := tmp_path / "c::d #2" / folder_name(2)).mkdir(parents=True)
    (folder / STATE_FILE).write_text('{"step": 2}')
    [found] = whole_ones(str(folder.parent)).values()
    assert found_at(found.address) == found
    assert Path(_writer(found.address).path) == folder
    remove_unfinished(str(folder.parent))
    assert folder.is_dir()
    assert storage_of("memory://a/b")[1] == "/a/b"
    assert storage_of("simplecache::memory://a/b")[0].protocol == "simplecache"
    with pytest.raises(CheckpointError, match="no checkpoints can lie at nowhere://a: Protocol not known"):
        whole_ones("nowhere://a")


@pytest.fixture
def two_whole(tmp_path: Path) -> Path:
    """A folder with whole checkpoints after two steps and after four, and what a kill left after six."""
    for steps in (2, 4, 6):
        (folder := tmp_path / folder_name(steps)).mkdir()
        (folder / "weights").write_text("x")
        if steps < 6:
            (folder / STATE_FILE).write_text(json.dumps({"step": steps}))
    return tmp_path


@pytest.mark.parametrize("steps", [2, 4])
def test_a_read_that_fails_once_costs_no_checkpoint(two_whole: Path, steps: int) -> None:
    """One that cannot be read is neither unfinished, nor is there none."""
    file = two_whole / folder_name(steps) / STATE_FILE
    content = unreadable(file)
    for look in (whole_ones, remove_unfinished):
        with pytest.raises(CheckpointError, match=rf"{file.parent} cannot be read \(OSError: "):
            look(str(two_whole))
    assert len(list(two_whole.iterdir())) == 3, "nothing was taken away"
    readable(file, content)
    remove_unfinished(str(two_whole))
    assert list(whole_ones(str(two_whole))) == [2, 4]
    assert len(list(two_whole.iterdir())) == 2


class OnceAway(MemoryFileSystem):
    """An object store that lists from memory, as those of fsspec do, and whose listing can fail."""

    protocol = "onceaway"
    fault: Exception | None = None
    _listed: ClassVar[dict[str, Any]] = {}

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        if self.fault is not None:
            raise self.fault
        if path not in self._listed:
            self._listed[path] = super().ls(path, detail=True, **kwargs)
        return self._listed[path]

    def invalidate_cache(self, path: str | None = None) -> None:
        self._listed.clear()


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> str:
    """Address with a checkpoint after two steps, on storage of another machine."""
    fsspec.register_implementation("onceaway", OnceAway, clobber=True)
    monkeypatch.setattr(OnceAway, "_listed", {})
    monkeypatch.setattr(OnceAway, "store", {})
    state = f"onceaway://bucket/run/{folder_name(2)}/{STATE_FILE}"
    fsspec.filesystem("onceaway").pipe_file(state, b'{"step": 2}')
    return "onceaway://bucket/run"


@pytest.mark.parametrize("fault", [PermissionError("Forbidden"), RuntimeError("no route to the endpoint")])
def test_storage_that_cannot_be_listed_is_not_empty(
    remote: str, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert whole_ones("onceaway://bucket/other") == {}
    monkeypatch.setattr(OnceAway, "fault", fault)
    with pytest.raises(CheckpointError, match=rf"the checkpoints in {remote} cannot be read \(.*{fault}\)"):
        whole_ones(remote)
    monkeypatch.setattr(OnceAway, "fault", None)
    assert list(whole_ones(remote)) == [2]


def test_what_another_thread_has_saved_is_seen(remote: str) -> None:
    assert list(whole_ones(remote)) == [2]
    files = fsspec.filesystem("onceaway")
    files.pipe_file(f"{remote}/{folder_name(4)}/{STATE_FILE}", b'{"step": 4}')
    files.pipe_file(f"{remote}/{folder_name(6)}/weights", b"x")
    assert list(whole_ones(remote)) == [2, 4]
    remove_unfinished(remote)
    assert not files.exists(f"{remote}/{folder_name(6)}")


def test_somebody_s_own_folders_are_neither_checkpoints_nor_unfinished(two_whole: Path) -> None:
    copy, notes = two_whole / f"{folder_name(2)}-mine", two_whole / "checkpoint_notes"
    shutil.copytree(two_whole / folder_name(2), copy)
    notes.mkdir()
    found = whole_ones(str(two_whole))
    assert [Path(one.address).name for one in found.values()] == [folder_name(2), folder_name(4)], (
        "the copy would be taken away in the place of the checkpoint that is no longer kept"
    )
    remove_unfinished(str(two_whole))
    left = sorted(entry.name for entry in two_whole.iterdir())
    assert left == [folder_name(2), copy.name, folder_name(4), notes.name]


def test_a_state_that_no_kill_has_left_is_told(two_whole: Path) -> None:
    file = two_whole / folder_name(4) / STATE_FILE
    file.write_text("{}")
    with pytest.raises(CheckpointError, match=rf"{file} is whole and tells of no step"):
        remove_unfinished(str(two_whole))
    assert file.is_file()


def test_a_fork_without_its_checkpoint_does_not_begin_with_nothing(two_whole: Path) -> None:
    assert forked(two_whole) is None
    shutil.copytree(two_whole / folder_name(4), two_whole / FORKED)
    found = forked(two_whole)
    assert found is not None
    assert found.step == 4
    (two_whole / FORKED / STATE_FILE).write_text('{"st')
    with pytest.raises(CheckpointError, match=rf"no whole checkpoint .*Delete {two_whole}, and fork again"):
        forked(two_whole)


def test_a_state_that_the_disk_has_not_taken_makes_nothing_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a loss of power it would be empty, and the ones before it are taken away by then."""

    def refuses(_: int) -> None:
        raise OSError(5, "Input/output error")

    (tmp_path / folder_name(2)).mkdir()
    monkeypatch.setattr(os, "fsync", refuses)
    with pytest.raises(OSError, match="Input/output error"):
        Checkpoints._write_state(
            Checkpoints.__new__(Checkpoints), f"{tmp_path}/{folder_name(2)}", {"step": 2}
        )
    assert whole_ones(str(tmp_path)) == {}


def saves(root: str, told: Any) -> None:
    """One checkpoint after the other, and when each was begun, until it is killed."""
    join_ranks(0, 1, root)
    checkpoints = Checkpoints(f"{root}/all", count=2, best=0)
    for step in count(1):
        weights = {f"w{place}": torch.full((2**16,), float(step)) for place in range(24)}
        checkpoints.save(weights, {"step": step})
        told.send(step)


def test_a_kill_at_any_moment_leaves_the_last_whole_one(tmp_path: Path) -> None:
    fork_from_server()
    context = multiprocessing.get_context("forkserver")
    for number, wait_s in enumerate((0.0, 0.013, 0.05, 0.111)):
        root = tmp_path / str(number)
        (root / "all").mkdir(parents=True)
        heard, told = context.Pipe(duplex=False)
        process = context.Process(target=saves, args=(str(root), told))
        process.start()
        while heard.poll(120) and heard.recv() < 5 + number:
            pass
        time.sleep(wait_s)
        process.kill()
        process.join(60)
        found = whole_ones(str(root / "all"))
        # A save begins when the one before it is whole.
        assert max(found) >= 4 + number
        for step, one in found.items():
            weights = {f"w{place}": torch.zeros(2**16) for place in range(24)}
            read_into(weights, one.address)
            assert {float(value) for each in weights.values() for value in (each.min(), each.max())} == {step}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


def two_steps(rank: int, ranks: int, folder: str, out: str, address: str, part: str) -> None:
    """`part`: "first" saves after the first step and makes the second meanwhile, "second" begins there."""
    join_ranks(rank, ranks, out, f"meeting-{part}-{ranks}")
    config = small_config(Path(folder), learner__workers=ranks, learner__adaptive_entropy={"target": 9.0})
    policy = TrainedPolicy(config, folder, torch.device("cpu"))
    table, groups = experience()
    objective = config.stages[0].objective
    plans = plan_shards(
        table, groups=groups, mini_batches=1, ranks=ranks, token_weights=objective.token_weights
    )

    def step(number: int) -> None:
        rows = TrainingRows(table.take(plans[rank].rows), plans[rank])
        policy.train_on(rows, objective, number)

    checkpoints = Checkpoints(address, count=2, best=1)
    if part == "first":
        assert checkpoints.last is None
        step(0)
        checkpoints.save(policy.state(), {"step": 1, "policy": policy.notes(), "score": 0.5})
        step(1)  # what is being written stays what it was
        checkpoints.wait()
        if rank == 0:
            checkpoints.rate(1, 0.75)
    last = checkpoints.last
    assert last is not None
    if part == "second":
        policy.load(last.address, last.state["policy"])
        step(1)
    weights = {name: tensor.clone() for name, tensor in policy.whole_weights(torch.float32)}
    if rank == 0:
        torch.save(weights, f"{out}/{part}-{ranks}.pt")
        told = {"state": dict(last.state), "control": policy.notes()}
        Path(out, f"{part}-{ranks}.json").write_text(json.dumps(told))
    dist.destroy_process_group()


def test_another_number_of_ranks_makes_the_same_next_step(folder: Path, tmp_path: Path) -> None:
    def run(ranks: int, part: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        start_ranks(two_steps, ranks, str(folder), str(tmp_path), str(tmp_path / "all"), part)
        told = json.loads((tmp_path / f"{part}-{ranks}.json").read_text())
        return torch.load(tmp_path / f"{part}-{ranks}.pt"), told

    expected, told = run(2, "first")
    assert (told["state"]["step"], told["state"]["score"]) == (1, 0.75)
    control = EntropyControl(9.0, 1e-4, 5e-3).restored(told["control"]["entropy_control"])
    assert control.coefficient == 2e-4
    before = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
    for ranks in (1, 2, 3):
        resumed, again = run(ranks, "second")
        assert again["control"]["entropy_control"]["coefficient"] == 2e-4
        for name, tensor in expected.items():
            if ranks == 2:
                assert torch.equal(resumed[name], tensor), name
            # The learning rate is 1e-2: what differs is rounding, divided by itself in AdamW.
            assert (resumed[name] - tensor).norm() < 1e-4 * (tensor - before[name]).norm(), name


def in_memory(rank: int, ranks: int, out: str) -> None:
    join_ranks(rank, ranks, out)
    checkpoints = Checkpoints("memory://bucket/run", count=1, best=0)
    for step in (1, 2, 3):
        checkpoints.save({"w": torch.full((8,), float(step))}, {"step": step})
    checkpoints.wait()
    [last] = whole_ones("memory://bucket/run").values()
    weights = {"w": torch.zeros(8)}
    read_into(weights, last.address)
    Path(out, "found.json").write_text(json.dumps([last.address, last.step, weights["w"].tolist()]))
    dist.destroy_process_group()


def test_any_address_of_fsspec_takes_them(tmp_path: Path) -> None:
    start_ranks(in_memory, 1, str(tmp_path))
    address, step, weights = json.loads((tmp_path / "found.json").read_text())
    assert address.startswith("memory://")
    assert (step, weights) == (3, [3.0] * 8)


class OnStorageThatHangs(Checkpoints):
    """Until `freed`."""

    freed = threading.Event()

    def _write(self, *_: Any) -> None:
        self.freed.wait(600)


def hangs(rank: int, ranks: int, out: str) -> None:
    join_ranks(rank, ranks, out)
    checkpoints = OnStorageThatHangs(f"{out}/all", count=1, best=0, timeout_s=1)
    checkpoints.save({"w": torch.zeros(8)}, {"step": 1})
    with pytest.raises(
        TimeoutError, match=r"waited 1 s \(learner.timeout_s\) for a checkpoint to be written"
    ):
        checkpoints.wait()
    checkpoints.freed.set()
    dist.destroy_process_group()


def test_storage_that_hangs_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    start_ranks(hangs, 1, str(tmp_path))


def test_moments_in_8_bits_are_copied_and_not_shared() -> None:
    moments = OptimState8bit.zeros((2, 256))
    copied = _copied(moments)
    moments.copy_(torch.ones(2, 256))
    assert torch.equal(copied.dequantize(), torch.zeros(2, 256))
    assert torch.equal(_copied(moments).dequantize(), moments.dequantize())
    assert copied.shape == moments.shape
