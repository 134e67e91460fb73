"""Folders that are no model, and one that vanishes while it is served."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from rlad_core.config import resolve_model
from tests.abuse.losing import check_lost
from tests.abuse.served import ended, serving
from tests.abuse.target import Effort, Target

SENT = "model folders: empty, cut weights, no tokenizer, no JSON; one that vanishes while it is served"
_PATH, _BODY = "/v1/score", {"sequences": [{"prompt_token_ids": [5], "response_token_ids": [6]}]}


def _cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def _garbled_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(b"\xff" * 4096)


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda folder: [file.unlink() for file in folder.iterdir()],
    "cut weights": _cut_weights,
    "garbled weights": _garbled_weights,
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "no tokenizer": lambda folder: [file.unlink() for file in folder.glob("tokenizer*")],
    "no JSON": lambda folder: (folder / "config.json").write_text("{"),
}


def attack(target: Target, effort: Effort) -> str:
    """Refused in a sentence; a running service goes on, and one that needs the folder again says so."""
    with tempfile.TemporaryDirectory() as place:
        for name, breaks in BROKEN.items():
            folder = Path(place) / name.replace(" ", "-")
            shutil.copytree(resolve_model("rlad:kk-teacher"), folder)
            breaks(folder)
            told = ended("teacher", "--model", str(folder))
            assert told.code in (1, 2), (name, told)
            assert "Traceback" not in told.said, (name, told)
            assert str(folder) in told.said, (name, told)
        if not effort.long:
            return f"{len(BROKEN)} refused, each in a sentence"
        return f"{len(BROKEN)} refused, each in a sentence; {_vanished(Path(place))}"


def _vanished(place: Path) -> str:
    folder = place / "vanishing"
    shutil.copytree(resolve_model("rlad:kk-teacher"), folder)
    with serving(place / "log", "teacher", "--model", str(folder)) as (target, _), target.client(60) as http:
        http.post(_PATH, json=_BODY).raise_for_status()
        shutil.move(folder, place / "away")
        http.post(_PATH, json=_BODY).raise_for_status()
        target.replica("teacher").kill()
        for _ in range(5):
            check_lost(http.post(_PATH, json=_BODY))
        shutil.move(place / "away", folder)

        def answers() -> bool:
            return http.post(_PATH, json=_BODY).status_code == 200

        back_s = target.wait_until(answers, "the replica is replaced")
    return f"without its folder a replica serves on, a lost one is 503, and is back {back_s:.0f} s after it"
