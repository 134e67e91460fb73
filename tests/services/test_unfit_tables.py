"""Arrow that comes for an answer in parts, or as a job, is held to what holds for any other request."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from rlad_core import schema
from rlad_core.client.errors import InvalidRequestError, LimitError
from rlad_core.client.forms import TeacherLimits
from services.serve.http.bodies import Body
from services.serve.http.readings import Readings
from services.serve.openai.models import ServedModel
from services.teacher.forms import DetailsQuery
from services.teacher.service import TeacherService
from services.teacher.settings import TeacherArgs
from services.verifier.service import VerifierService
from services.verifier.settings import VerifierLimits


class Engine:
    """As far as requests are looked at."""

    vocab_size, max_model_len, hidden_size, tells = 100, 8, 4, frozenset[str]()

    def shutdown(self) -> None: ...


def bare(deployment: Any) -> Any:
    """A replica that was not started, without what Serve puts around its class."""
    kind = deployment.func_or_class.__mro__[1]
    replica = kind.__new__(kind)
    replica._intake = Readings()
    return replica


ONE_EACH = [(row, row + 1) for row in range(5)]


def teacher() -> Any:
    """A replica that has only what reading takes."""
    replica = bare(TeacherService)
    replica._args, replica._engine = TeacherArgs(model="m"), Engine()
    replica._reader, replica._fingerprint, replica._served = None, "sha256:mine", ServedModel("m", 8)
    replica._texts, replica._scorer = None, SimpleNamespace(check=lambda rows, details: None)
    return replica


def parts(sequences: pa.Table) -> list[tuple[int, int]]:
    body = Body(schema.to_ipc(sequences), "arrow", "ndjson")
    work = asyncio.run(teacher()._work(body, DetailsQuery(), TeacherLimits(), 4))
    found: list[tuple[int, int]] = work.parts
    return found


def sequences(prompt: Any, response: Any) -> pa.Table:
    return pa.table({"sequence_id": ["a"], "prompt_token_ids": prompt, "response_token_ids": response})


def test_what_is_streamed_is_cut_by_the_bytes_that_it_tells() -> None:
    rows = {"sequence_id": [*"abcde"], "prompt_token_ids": [[1]] * 5, "response_token_ids": [[3]] * 5}
    table = schema.build(schema.SEQUENCES, rows, tokenizer_fingerprint="sha256:mine")
    body = Body(schema.to_ipc(table), "arrow", "ndjson")
    details = DetailsQuery(details=["hidden"])  # 16 bytes each
    for most, parts in (
        (32, [(0, 2), (2, 4), (4, 5)]),
        (None, [(0, 5)]),
        (2**40, [(0, 5)]),
        (1, [*ONE_EACH]),
    ):
        assert asyncio.run(teacher()._work(body, details, TeacherLimits(), 16_384, most)).parts == parts


def test_sequences_are_cut_into_parts() -> None:
    rows = {"sequence_id": ["a", "b"], "prompt_token_ids": [[1, 2]] * 2, "response_token_ids": [[3]] * 2}
    assert parts(schema.build(schema.SEQUENCES, rows, tokenizer_fingerprint="sha256:mine")) == [
        (0, 1),
        (1, 2),
    ]


def test_a_row_that_is_wrong_is_told_with_its_part() -> None:
    rows = {"sequence_id": ["a", "b"], "prompt_token_ids": [[1, 2]] * 2, "response_token_ids": [[3], [10**6]]}
    assert parts(schema.build(schema.SEQUENCES, rows, tokenizer_fingerprint="sha256:mine")) == [
        (0, 1),
        (1, 2),
    ]


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"text": ["a"]}),
        sequences(["a"], ["b"]),
        sequences(pa.array([[1]], pa.list_(pa.int32(), 1)), pa.array([[1]], pa.list_(pa.int32(), 1))),
        pa.table([pa.array([[1]])] * 3, names=["prompt_token_ids", "prompt_token_ids", "response_token_ids"]),
    ],
    ids=["no such columns", "text", "lists of one length", "a column twice"],
)
def test_what_are_no_sequences_is_refused_before_it_is_cut(table: pa.Table) -> None:
    with pytest.raises(InvalidRequestError):
        parts(table)


def test_more_responses_than_a_request_may_have_are_no_parts_of_one() -> None:
    row = {"task": "math", "response": "x", "gold": "5"}
    table = schema.build(schema.RESPONSES, [{"sequence_id": str(place), **row} for place in range(11)])
    replica = bare(VerifierService)
    replica._pool = type("Pool", (), {"tasks": {"math": None}, "close": lambda self: None})()
    limits = VerifierLimits(max_responses_per_request=10)
    with pytest.raises(LimitError, match="11 responses in one request; at most 10 are taken"):
        asyncio.run(replica._work(Body(schema.to_ipc(table), "arrow", "ndjson"), limits))
