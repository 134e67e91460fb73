"""The probe of a teacher, where it needs no engine: which teachers, with which token, and a known text."""

import asyncio
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from rlad_command import Said
from transformers import AutoTokenizer

from rlad_core import schema
from rlad_core.client import ServiceError
from rlad_core.config import OwnTeacher, RunConfig, load, resolve_model
from rlad_core.metric_specs import SHARED
from services.base.log_lines import configure_logging
from services.base.telemetry import name_run
from services.base.tokenizer import load_tokenizer, tokenizer_info
from services.clients.handles import reach_teacher
from services.clients.teachers import (
    Compared,
    MismatchError,
    PolicyFacts,
    RestTeacher,
    compare_here,
    compare_model,
    padded,
    teacher_tokens,
)
from services.clients.teachers.policy import CHAT, REPLY
from services.experience import collector as experience
from services.experience.collector import ExperienceCollector

STUDENT = resolve_model("rlad:kk-student")
REMOTE = "teacher={kind: http, url: 'http://localhost:1', token_env: TEACHER_TOKEN, verify: false}"


class Client:
    """As `AsyncTeacherClient` of a teacher that knows one text; what it makes of it as text can be set."""

    def __init__(self, *, dtype: str = "float32", off_by: float = 0.0, instead: dict[int, int] | None = None):
        self.tokens = AutoTokenizer.from_pretrained(STUDENT)
        self.dtype, self.off_by, self.instead = dtype, off_by, instead or {}

    async def tokenizer(self) -> Any:
        return tokenizer_info(self.tokens, STUDENT)

    async def info(self) -> Any:
        limits = SimpleNamespace(max_top_k=128)
        told = {"dtype": self.dtype, "details": ["end_token_ids"], "limits": limits, "vocab_size": 224}
        return SimpleNamespace(max_model_len=10_000, **told)

    async def score(self, sequences: pa.Table, end_token_ids: Any = (), top_k: int = 0) -> pa.Table:
        [length] = schema.lengths(sequences.column("response_token_ids")).tolist()
        return schema.build(
            schema.TEACHER_SCORES,
            {"sequence_id": ["probe"], "teacher_logprobs": [[-0.5] * length]},
            tokenizer_fingerprint=schema.fingerprint_of(sequences),
        )

    async def score_texts(self, texts: Any) -> list[Any]:
        chat = self.tokens.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False)
        assert texts == [(chat, REPLY), (SENT, REPLY)]
        return [self._told(prompt, response) for prompt, response in texts]

    def _told(self, *texts: str) -> Any:
        prompt, response = (self.tokens(text, add_special_tokens=False)["input_ids"] for text in texts)
        for place, token_id in self.instead.items():
            response[place] = token_id
        logprobs = [-0.5 + self.off_by] * len(response)
        return SimpleNamespace(prompt_token_ids=prompt, response_token_ids=response, logprobs=logprobs)


SENT = "Zoey says: Mia is a knave."
POLICY = PolicyFacts(load_tokenizer(STUDENT), 256, end_tokens=(1,), prompts=(SENT,))


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        ({}, None),
        ({"off_by": 0.01, "dtype": "bfloat16"}, None),
        (
            {"off_by": 0.01},
            r"the teacher says \[.*\] of a known text, and \[.*\] of the same in token",
        ),
        (
            {"instead": {2: 7}},
            r"a text becomes other tokens .* first at token 2: \d+ \('\.'\) to the pol",
        ),
    ],
)
def test_a_remote_teacher_reads_and_scores_a_known_text_as_the_policy_does(
    odd: dict[str, Any], says: str | None
) -> None:
    client: Any = Client(**odd)
    if says is None:
        assert asyncio.run(RestTeacher(client).probe(POLICY)) == Compared((1,), (), tells_end_tokens=True)
        return
    with pytest.raises(MismatchError, match=says):
        asyncio.run(RestTeacher(client).probe(POLICY))


def test_a_teacher_s_folder_is_compared_before_anything_starts(
    rlad: Callable[..., Said], tmp_path: Path
) -> None:
    teacher = _copy(tmp_path, "rlad:kk-teacher")
    settings = json.loads((teacher / "tokenizer.json").read_text())
    words = settings["model"]["vocab"]
    one, other = list(words)[50:52]
    words[one], words[other] = words[other], words[one]
    (teacher / "tokenizer.json").write_text(json.dumps(settings))
    config = load("kk-tiny-trrd", [f"teacher.model={teacher}"])
    with pytest.raises(MismatchError, match=rf"^teacher \({teacher}\): token id \d+ is"):
        compare_here(config, STUDENT)
    compare_here(load("kk-tiny-trrd"), STUDENT)
    compare_here(load("kk-tiny-grpo", [f"teacher={{model: {teacher}}}"]), STUDENT)  # which nobody asks
    held = ["stages.0.objective.reference_kl=0.1", f"reference={{model: {teacher}}}"]
    with pytest.raises(MismatchError, match=r"^reference "):
        compare_here(load("kk-tiny-grpo", held), STUDENT)
    few = (
        "--set",
        f"teacher.model={teacher}",
        "--set",
        "task.evaluation.count=4",
        "--set",
        "task.train.count=4",
    )
    for command in (("plan", "kk-tiny-trrd", "--data"), ("run", "kk-tiny-trrd")):
        said = rlad(*command, *few)
        assert said.code == 2
        assert f"teacher ({teacher}): token id" in said.err
    (teacher / "tokenizer.json").write_text("{")
    with pytest.raises(MismatchError, match=r"its tokenizer cannot be loaded"):
        compare_here(config, STUDENT)


@pytest.mark.parametrize("of", ["teacher", "policy"])
@pytest.mark.parametrize("model", ["rlad:kk-teacher", "rlad:kk-student"])
def test_more_likely_tokens_than_there_are_are_refused_before_anything_starts(of: str, model: str) -> None:
    def wanting(top_k: int) -> RunConfig:
        objective = f"stages.0.objective={{kind: gkd, top_of: {of}, top_k: {top_k}}}"
        return load("kk-tiny-trrd", [objective, f"teacher.model={model}"])

    tokens = len(load_tokenizer(STUDENT).get_vocab())
    compare_here(wanting(tokens), STUDENT)
    said = f"^teacher \\({model}\\): .* {tokens + 1} likeliest .* Write top_k: {tokens} or less"
    with pytest.raises(MismatchError, match=said):
        compare_here(wanting(tokens + 1), STUDENT)


def test_one_vocabulary_read_in_two_ways_is_a_mismatch(tmp_path: Path) -> None:
    teacher = _copy(tmp_path, "rlad:kk-teacher")
    read = json.loads((teacher / "tokenizer.json").read_text())
    read["normalizer"] = {"type": "Lowercase"}
    (teacher / "tokenizer.json").write_text(json.dumps(read))
    compare_model(POLICY, resolve_model("rlad:kk-teacher"))
    with pytest.raises(MismatchError, match="a chat becomes other tokens on the teacher's side"):
        compare_model(POLICY, str(teacher))


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 10, 267, 4095, 4096, 5000])
def test_rows_that_are_no_tokens_are_counted_by_halving(rows: int) -> None:
    asked: list[int] = []

    async def reads(token_id: int) -> bool:
        asked.append(token_id)
        return token_id < 151_669 + rows

    async def mass(token_ids: Sequence[int]) -> float:
        return len(token_ids) * 2.0**-14

    found = asyncio.run(padded.measured(151_669, reads, mass))
    wanted = min(rows, padded.MOST_ROWS)
    assert found == padded.Padding(wanted, wanted * 2.0**-14)
    assert len(asked) <= 26


def test_what_such_rows_take_is_told_in_nats() -> None:
    said = str(padded.Padding(267, 0.02))  # log(1 - 0.02) = -0.0202
    assert said == (
        "267 rows of the served model are no tokens, and take up to 0.02 of its probability in a known "
        "text: log-probs of tokens are up to 0.02 nats too low there"
    )
    assert "inf nats" in str(padded.Padding(1, 1.0))


class Odd(OwnTeacher):
    """A user's teacher with one fault."""

    fault: str

    async def score(self, sequences: pa.Table) -> pa.Table:
        if self.fault == "hangs":
            await asyncio.sleep(60)
        if self.fault == "gives up by itself":
            raise TimeoutError("the queue is full")
        return sequences


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ("hangs", TimeoutError, "^waited 0.1 s for the teacher Odd; its timeout_s sets the limit$"),
        ("gives up by itself", ServiceError, "^the teacher Odd failed: TimeoutError: the queue is full"),
        ("answers with what was asked", ServiceError, "^the teacher Odd failed: SchemaError: "),
    ],
)
def test_a_fault_of_a_teacher_of_ones_own_is_told_with_its_name(
    fault: str, error: type[Exception], says: str
) -> None:
    teacher = reach_teacher("run", "teacher", Odd(kind="odd.py:Odd", fault=fault, timeout_s=0.1))
    with pytest.raises(error, match=says):
        asyncio.run(teacher.probe(POLICY))


@pytest.mark.parametrize("recipe", ["kk-tiny-trrd", "kk-tiny-sft"])
def test_every_teacher_is_probed_and_asked_with_the_token_of_where_the_run_was_started(
    recipe: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    probed: list[Any] = []

    class Noting:
        def __init__(
            self, run: str, place: str, settings: Any, token: str | None, say: Callable[[str], None]
        ) -> None:
            self.what = (run, place, settings.kind, token)

        async def probe(self, policy: PolicyFacts) -> Compared:
            assert policy.max_length == 144
            probed.append(self.what)
            return Compared()

    def compared(policy: PolicyFacts, model: str) -> Compared:
        probed.append(model)
        return Compared()

    monkeypatch.setattr(experience, "reach_teacher", Noting)
    monkeypatch.setattr(experience, "compare_model", compared)
    monkeypatch.setenv("TEACHER_TOKEN", "secret")
    few = ["task.train.count=20", "task.evaluation.count=4"]
    config = load(recipe, [*few, REMOTE] if recipe == "kk-tiny-trrd" else few)
    tokens = teacher_tokens(config)
    monkeypatch.delenv("TEACHER_TOKEN")  # as on another node

    async def body() -> None:
        collector = ExperienceCollector(config, STUDENT, str(tmp_path))
        await collector.probe_teachers(tokens)

    asyncio.run(body())
    # A demonstrator is compared too, and asked for no scores.
    scored = [("kk-tiny-trrd", "teacher", "http", "secret")]
    assert probed == (scored if recipe == "kk-tiny-trrd" else [resolve_model("rlad:kk-teacher")])
    assert b"secret" not in pickle.dumps(config)
    configure_logging(None)
    name_run(SHARED)


def test_what_does_not_fit_is_told_with_the_teachers_place(tmp_path: Path) -> None:
    teacher = _copy(tmp_path, "rlad:kk-teacher")
    read = json.loads((teacher / "tokenizer.json").read_text())
    read["normalizer"] = {"type": "Lowercase"}
    (teacher / "tokenizer.json").write_text(json.dumps(read))
    few = ["task.train.count=20", "task.evaluation.count=4", f"teacher.model={teacher}"]

    async def body() -> None:
        await ExperienceCollector(load("kk-tiny-sft", few), STUDENT, str(tmp_path)).probe_teachers({})

    with pytest.raises(MismatchError, match="teacher: a chat becomes other tokens"):
        asyncio.run(body())
    configure_logging(None)
    name_run(SHARED)


def _copy(tmp_path: Path, model: str) -> Path:
    shutil.copytree(resolve_model(model), folder := tmp_path / "teacher")
    return folder


@pytest.mark.parametrize("own", [None, [1]])
def test_a_chat_teacher_of_a_base_student_is_told_and_ends_its_responses_too(
    own: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = _copy(tmp_path, "rlad:kk-teacher")
    (teacher / "chat_template.jinja").write_text("{{ messages }}")
    (teacher / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 1]}))
    few = ["task.train.count=20", "task.evaluation.count=4", f"teacher.model={teacher}"]
    if own:
        few.append(f"policy.stop_token_ids={own}")
    said: list[str] = []
    monkeypatch.setattr(
        ExperienceCollector, "_say", lambda self, place, text: said.append(f"{place}: {text}")
    )

    async def body() -> tuple[int, ...]:
        collector = ExperienceCollector(load("kk-tiny-sft", few), STUDENT, str(tmp_path))
        await collector.probe_teachers({})
        return await collector.end_tokens()

    # The union of both, unless the recipe says which tokens end a response.
    assert asyncio.run(body()) == ((1,) if own else (1, 7))
    assert [line.partition(",")[0] for line in said] == [
        "teacher: the policy ends a response with 1 ('<|im_end|>')",
        "teacher: the chat templates differ; the teacher reads prompts as the policy's makes them",
    ]
    configure_logging(None)
    name_run(SHARED)
