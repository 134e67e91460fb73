"""The probe of a teacher, where it needs no engine: which teachers, with which token, and a known text."""

import asyncio
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from rlad_core import schema
from rlad_core.config import RunConfig, load, resolve_model
from services import experience
from services.app import RunServices, run_services, teacher_tokens
from services.experience import ExperienceCollector
from services.http.teacher_api import tokenizer_info
from services.teacher_probe import CHAT, REPLY, MismatchError, probe
from services.teachers import RestTeacher, Teacher

STUDENT = resolve_model("rlad:kk-student")
REMOTE = "teacher={kind: http, url: 'http://localhost:1', token_env: TEACHER_TOKEN}"


class Client:
    """As `AsyncTeacherClient` of a teacher that knows one text; what it makes of it as text can be set."""

    def __init__(self, *, dtype: str = "float32", off_by: float = 0.0, instead: dict[int, int] | None = None):
        self.tokens = AutoTokenizer.from_pretrained(STUDENT)
        self.dtype, self.off_by, self.instead = dtype, off_by, instead or {}

    async def tokenizer(self) -> Any:
        return tokenizer_info(self.tokens)

    async def info(self) -> Any:
        return SimpleNamespace(max_model_len=10_000, dtype=self.dtype)

    async def score(self, sequences: pa.Table) -> pa.Table:
        [length] = schema.lengths(sequences.column("response_token_ids")).tolist()
        return schema.build(
            schema.TEACHER_SCORES,
            {"sequence_id": ["probe"], "teacher_logprobs": [[-0.5] * length]},
            tokenizer_fingerprint=schema.fingerprint_of(sequences),
        )

    async def score_texts(self, texts: Any) -> list[Any]:
        assert texts == [(CHAT, REPLY)]
        chat = self.tokens.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
        prompt, response = (
            self.tokens(text, add_special_tokens=False)["input_ids"] for text in (chat, REPLY)
        )
        for place, token_id in self.instead.items():
            response[place] = token_id
        logprobs = [-0.5 + self.off_by] * len(response)
        return [SimpleNamespace(prompt_token_ids=prompt, response_token_ids=response, logprobs=logprobs)]


def run_probe(config: RunConfig, teacher: Teacher | None) -> None:
    asyncio.run(probe("teacher", config.teacher_sections["teacher"], teacher, STUDENT, 256))


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ({}, None),
        ({"off_by": 0.01, "dtype": "bfloat16"}, None),
        (
            {"off_by": 0.01},
            r"teacher: the teacher says \[.*\] of a known text, and \[.*\] of the same in token",
        ),
        (
            {"instead": {2: 7}},
            r"a known text becomes other tokens .* first at token 2: \d+ \('\.'\) to the pol",
        ),
    ],
)
def test_a_remote_teacher_reads_and_scores_a_known_text_as_the_policy_does(
    odd: dict[str, Any], says: str | None
) -> None:
    client: Any = Client(**odd)
    config = load("kk-tiny-trrd", [REMOTE])
    if says is None:
        run_probe(config, RestTeacher(client))
        return
    with pytest.raises(MismatchError, match=says):
        run_probe(config, RestTeacher(client))


def test_one_vocabulary_read_in_two_ways_is_a_mismatch(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(resolve_model("rlad:kk-teacher"), teacher)
    read = json.loads((teacher / "tokenizer.json").read_text())
    read["normalizer"] = {"type": "Lowercase"}
    (teacher / "tokenizer.json").write_text(json.dumps(read))
    run_probe(load("kk-tiny-sft"), None)
    with pytest.raises(MismatchError, match="a known chat becomes other tokens on the teacher's side"):
        run_probe(load("kk-tiny-sft", [f"teacher.model={teacher}"]), None)


@pytest.mark.parametrize("recipe", ["kk-tiny-trrd", "kk-tiny-sft"])
def test_every_teacher_is_probed_and_asked_with_the_token_of_where_the_run_was_started(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[tuple[str, Any]] = []

    async def note(place: str, _settings: Any, teacher: Any, *_: Any) -> None:
        probed.append((place, teacher))

    monkeypatch.setattr(experience, "probe", note)
    monkeypatch.setattr(RunServices, "teacher", lambda self, place, token=None: f"{place} by {token}")
    monkeypatch.setenv("TEACHER_TOKEN", "secret")
    few = ["task.train.count=20", "task.evaluation.count=4"]
    config = load(recipe, [*few, REMOTE] if recipe == "kk-tiny-trrd" else few)
    tokens = teacher_tokens(config)
    monkeypatch.delenv("TEACHER_TOKEN")  # as on another node

    async def body() -> None:
        collector = ExperienceCollector(config, STUDENT, run_services(config))
        await collector.probe_teachers(tokens)

    asyncio.run(body())
    # A demonstrator is compared too, and asked for no scores.
    assert probed == [("teacher", "teacher by secret" if recipe == "kk-tiny-trrd" else None)]
    assert "secret" not in repr(run_services(config))
