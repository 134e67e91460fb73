"""``rlad fetch`` against a hub of this machine: whole, in parts, damaged, for members, and without any
hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from small_hub import COMMIT, MODEL, Hub, serving
from storage_faults import readable, unreadable
from typer.testing import CliRunner

from rlad_core.config import UNFINISHED, resolve_model
from services.cli.app import app
from services.fetch import RECORD, FetchError, NoSuchModelError, fetch, source_of
from services.fetch.files import File, Record
from services.fetch.sources import HubSource

#: More than the hub's client hands on at once (10 MB), so that an interruption leaves something.
LARGE = np.random.default_rng(0).bytes(24_000_000)
CONFIG = b'{"model_type": "qwen3"}\n'
FILES = {"config.json": CONFIG, "model.safetensors": LARGE, "extra/tokenizer.json": b"{}" * 600}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(dict(FILES))) as serves:
        yield serves


def bring(hub: Hub, to: Path, revision: str | None = None) -> list[str]:
    """What came."""
    done = fetch(HubSource(MODEL, hub.url), to, revision, say=lambda _: None)
    return [file.path for file in done.came]


def held(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_model_comes_whole_and_is_recorded(hub: Hub, tmp_path: Path) -> None:
    hub.files |= {"pytorch_model.bin": b"pickled", "tf_model.h5": b"other", ".gitattributes": b"x"}
    assert sorted(bring(hub, tmp_path)) == sorted(FILES)
    assert held(tmp_path) == FILES
    assert not (tmp_path / UNFINISHED).exists()
    assert not (tmp_path / "pytorch_model.bin").exists()
    record = json.loads((tmp_path / RECORD).read_text())
    assert (record["model"], record["revision"]) == (MODEL, COMMIT)
    [large] = [file for file in record["files"] if file["path"] == "model.safetensors"]
    assert (large["size"], large["algorithm"]) == (len(LARGE), "sha256")


def test_a_second_call_asks_nobody_and_brings_what_is_damaged(hub: Hub, tmp_path: Path) -> None:
    bring(hub, tmp_path)
    hub.asked.clear()
    assert bring(hub, tmp_path) == []
    assert hub.asked == []  # the revision is pinned, and what it holds is recorded
    (tmp_path / "model.safetensors").write_bytes(LARGE[:-1] + bytes([LARGE[-1] ^ 1]))
    (tmp_path / "config.json").unlink()
    assert sorted(bring(hub, tmp_path)) == ["config.json", "model.safetensors"]
    assert held(tmp_path) == FILES


def test_what_arrives_damaged_comes_again_once(hub: Hub, tmp_path: Path) -> None:
    hub.damaged = {"model.safetensors": 1}
    bring(hub, tmp_path)
    assert held(tmp_path) == FILES
    assert sum(line.endswith("model.safetensors") for line in hub.asked) == 2


def test_what_is_damaged_twice_is_refused_and_nothing_is_recorded(hub: Hub, tmp_path: Path) -> None:
    hub.damaged = {"model.safetensors": 2}
    with pytest.raises(FetchError, match=r"model\.safetensors came twice .*sha256"):
        bring(hub, tmp_path)
    assert not (tmp_path / RECORD).exists()
    assert not (tmp_path / "model.safetensors").exists()
    assert (tmp_path / UNFINISHED).exists()


def test_a_killed_fetch_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    hub.stops_after = 15_000_000
    to = tmp_path / MODEL
    command = [sys.executable, "-m", "services", "fetch", MODEL, "--to", str(to)]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    environment.pop("HF_TOKEN", None)
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size for part in to.glob(f"{UNFINISHED}/model*")):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.kill()
    first.wait(30)
    [part] = to.glob(f"{UNFINISHED}/model*")
    begun = part.stat().st_size
    assert 0 < begun < len(LARGE)
    with pytest.raises(ValueError, match="is not whole"):
        resolve_model(str(to))
    hub.stops_after = None
    hub.go_on.set()
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 0, second.stderr
    assert f"{begun:,} of them from before" in second.stdout
    assert f"GET /{MODEL}/resolve/{COMMIT}/model.safetensors from {begun}" in hub.asked
    assert held(to) == FILES


def test_typed_in_the_folder_above_a_hub_id_stays_the_hubs(hub: Hub, tmp_path: Path) -> None:
    """The folder that is filled is called like it, and is there once something has come."""
    (tmp_path / MODEL / UNFINISHED).mkdir(parents=True)
    command = [sys.executable, "-m", "services", "fetch", MODEL, "--to", MODEL]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    for came in (3, 1):
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert f"{3 - came} were there, {came} came" in done.stdout
        assert held(tmp_path / MODEL) == FILES
        (tmp_path / MODEL / "config.json").unlink()


def test_a_token_is_sent_and_asked_for(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "of-a-member"
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(NoSuchModelError, match=r"for members.*HF_TOKEN"):
        bring(hub, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "of-a-member")
    bring(hub, tmp_path)
    assert held(tmp_path) == FILES


def test_revisions_are_pinned(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(NoSuchModelError, match="has no revision v9"):
        bring(hub, tmp_path, "v9")
    bring(hub, tmp_path, COMMIT)
    with pytest.raises(NoSuchModelError, match="holds small/model"):
        fetch(HubSource("other/model", hub.url), tmp_path)


def test_another_folder_is_a_source_too(hub: Hub, tmp_path: Path) -> None:
    """A node's own copy of what the volume has."""
    bring(hub, tmp_path / "volume")
    hub.asked.clear()
    source = source_of(str(tmp_path / "volume"))
    done = fetch(source, tmp_path / "node", say=lambda _: None)
    assert (done.record.revision, held(tmp_path / "node")) == (COMMIT, FILES)
    assert hub.asked == []
    again = fetch(source, tmp_path / "node", say=lambda _: None)
    assert again.came == ()
    (tmp_path / "volume" / "config.json").write_text("{}")
    with pytest.raises(FetchError, match=r"config\.json came twice .*\. Bring it there anew, or try another"):
        fetch(source, tmp_path / "other", say=lambda _: None)
    shipped = fetch(source_of("rlad:kk-teacher"), tmp_path / "shipped", say=lambda _: None)
    assert shipped.record.revision == source_of("rlad:kk-teacher").record(None).revision
    assert (tmp_path / "shipped" / "model.safetensors").exists()


def test_there_is_no_such_model(hub: Hub, tmp_path: Path) -> None:
    to = tmp_path / "models" / "mine"
    with pytest.raises(NoSuchModelError, match="has no other/model"):
        fetch(HubSource("other/model", hub.url), to)
    with pytest.raises(NoSuchModelError, match="no folder here, and no hub id"):
        fetch(source_of("a/b/c"), to)
    with pytest.raises(FetchError, match="HF_ENDPOINT"):
        fetch(HubSource(MODEL, "http://127.0.0.1:9"), to)
    assert list(tmp_path.iterdir()) == [], "a folder would be taken for a model's"


def test_a_model_is_not_copied_into_itself(hub: Hub, tmp_path: Path) -> None:
    bring(hub, tmp_path / "volume")
    for to in (tmp_path / "volume" / "copy", tmp_path / "volume" / "a" / ".." / "b" / "copy"):
        with pytest.raises(NoSuchModelError, match=r"lies in .*volume\. Write a folder outside of it"):
            source_of(str(tmp_path / "volume"), to)
    assert source_of(str(tmp_path / "volume"), tmp_path / "volume" / ".." / "volume 2").model == MODEL


@pytest.mark.parametrize(
    ("model", "to", "says"),
    [
        ("rlad:kk-teacher", "", "--to: is empty. Write a value"),
        ("", "mine", "MODEL: no model is named. Write a folder"),
    ],
)
def test_nothing_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, to: str, says: str
) -> None:
    """What an unset variable leaves of ``--to "$DIR"``."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["fetch", model, "--to", to])
    assert (done.exit_code, list(tmp_path.iterdir())) == (2, [])
    assert says in " ".join(done.output.replace("│", " ").split())


def test_a_proxy_that_does_not_answer_is_named_and_not_the_hub_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(FetchError, match=r"through the proxy http://127\.0\.0\.1:9 \(HTTP_PROXY; ") as caught:
        fetch(HubSource(MODEL, "http://hub.invalid"), tmp_path)
    assert "secret" not in str(caught.value)


def test_a_hub_id_means_the_fetched_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAD_MODELS", str(tmp_path))
    assert resolve_model("small/model") == "small/model"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="rlad fetch small/model --to"):
        resolve_model("small/model")
    folder = tmp_path / "small" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_bytes(CONFIG)
    assert resolve_model("small/model") == str(folder)


def test_places_outside_the_folder_are_refused(hub: Hub, tmp_path: Path) -> None:
    hub.files["../outside"] = b"x"
    with pytest.raises(FetchError, match="no path below a folder"):
        bring(hub, tmp_path / "in")


def test_a_full_disk_is_told_as_one_whatever_the_source(hub: Hub, tmp_path: Path) -> None:
    bring(hub, tmp_path / "volume")
    for source in (HubSource(MODEL, hub.url), source_of(str(tmp_path / "volume"))):
        to = tmp_path / type(source).__name__
        (to / UNFINISHED).mkdir(parents=True)
        [large] = [file for file in source.record(None).files if file.path == "model.safetensors"]
        (to / UNFINISHED / f"model.safetensors-{large.checksum[:16]}").symlink_to("/dev/full")
        with pytest.raises(FetchError, match=r"No space left on device. Make room") as told:
            fetch(source, to, say=lambda _: None)
        assert str(to) in str(told.value)


def test_what_a_disk_says_is_told_and_no_traceback(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "one" / "extra").parent.mkdir()
    (tmp_path / "one" / "extra").write_text("a file where a folder belongs")
    with pytest.raises(FetchError, match=r"one/extra: File exists"):
        bring(hub, tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / UNFINISHED).write_text("too")
    with pytest.raises(FetchError, match=r"File exists"):
        bring(hub, tmp_path / "two")


def test_a_record_that_cannot_be_read_is_not_to_be_removed(hub: Hub, tmp_path: Path) -> None:
    bring(hub, tmp_path)
    content = unreadable(tmp_path / RECORD)
    with pytest.raises(FetchError, match=rf"{RECORD} cannot be read: Input/output error\. See to it"):
        bring(hub, tmp_path)
    readable(tmp_path / RECORD, content)
    assert bring(hub, tmp_path) == []
    (tmp_path / RECORD).write_bytes(content[:-9])
    with pytest.raises(FetchError, match=rf"{RECORD} is broken .*\. Remove it, and fetch again"):
        bring(hub, tmp_path)


class Endless:
    """A source whose first file fails, while the others never end."""

    model = "endless"

    def __init__(self) -> None:
        self.begun = set[str]()

    def record(self, revision: str | None) -> Record:
        return Record(self.model, "1", tuple(File(f"{n}.bin", 1, "sha256", "0" * 64) for n in range(40)))

    def read(self, file: File, revision: str, into: BinaryIO, begun: int) -> None:
        self.begun.add(file.path)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if file.path == "0.bin" and len(self.begun) == 4:
                raise FetchError("the first has failed")
            into.write(b"x")
            time.sleep(0.01)


def test_one_that_fails_stops_the_others(tmp_path: Path) -> None:
    source, clock = Endless(), time.monotonic()
    with pytest.raises(FetchError, match="the first has failed"):
        fetch(source, tmp_path, say=lambda _: None)
    assert time.monotonic() - clock < 10
    assert len(source.begun) < 10
