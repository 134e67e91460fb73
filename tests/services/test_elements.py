"""The rows of a request read a few at a time: the same rows, the same faults, however many there are."""

import json
import tracemalloc
from typing import Any

import hypothesis.strategies as st
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from msgspec import UNSET, Raw, UnsetType

from rlad_core import schema
from rlad_core.client.errors import InvalidRequestError, LimitError
from rlad_core.client.forms import TeacherLimits
from rlad_core.language_model.chat import OWN
from services.rollout.tables import check_prompts
from services.serve.http import counting, elements
from services.serve.http.answers import Telling
from services.serve.http.bodies import Body, json_answer, whole_answer
from services.serve.http.elements import AT_A_TIME, Elements, OwnIds, Strings, TokenLists, rows_of
from services.serve.http.problems import ProblemError
from services.serve.http.texts import Reader
from services.teacher.forms import DetailsQuery
from services.teacher.reading import read_request
from services.verifier import http as verifier
from services.verifier.settings import VerifierLimits
from tests.services.small_tokenizer import make_tokenizer

_TEXTS = st.text(st.sampled_from('a,[]{}"\\: \n\u00e9\U0001f600'), max_size=12)
_VALUES = st.recursive(
    st.none() | st.integers() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)
_SPACES = st.sampled_from(["", " ", "\n\t "])


class Any_(msgspec.Struct):
    """Whatever there is."""

    value: Any


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """With a number."""

    number: int


@given(st.lists(_VALUES, max_size=12), _SPACES, st.booleans(), st.integers(1, 5), st.integers(1, 40))
def test_elements_are_those_that_json_has(
    values: list[Any], space: str, ascii_: bool, at_a_time: int, piece: int
) -> None:
    rows = [json.dumps({"value": value}, ensure_ascii=ascii_) for value in values]
    text = ("[" + space + (space + "," + space).join(rows) + space + "]").encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elements, "AT_A_TIME", at_a_time)
        patch.setattr(counting, "_PIECE", piece)
        found = Elements(Raw(text), Any_, "rows", len(rows))
        for _ in range(2):  # it can be gone through again
            assert [each.value for each in found] == [json.loads(row)["value"] for row in rows]
        chosen = np.array([place % 3 == 1 for place in range(len(rows))], bool)
        order = [*np.flatnonzero(chosen).tolist(), *np.flatnonzero(~chosen).tolist()]
        wanted = [(place, json.loads(rows[place])["value"]) for place in order]
        assert [(place, each.value) for place, each in found.first(chosen)] == wanted
        assert len(found) == len(rows)
        if rows:
            with pytest.raises(LimitError, match=f"{len(rows)} rows in one request; at most {len(rows) - 1}"):
                Elements(Raw(text), Any_, "rows", len(rows) - 1)


@pytest.mark.parametrize("place", [0, AT_A_TIME - 1, AT_A_TIME, 3 * AT_A_TIME + 7, 4 * AT_A_TIME - 1])
def test_a_fault_is_told_by_its_place_in_the_whole(place: int) -> None:
    rows: list[Any] = [{"number": 1}] * (4 * AT_A_TIME)
    for wrong, where in (({"number": "1"}, ".number"), ({}, ".number"), (7, "")):
        text = json.dumps([*rows[:place], wrong, *rows[place + 1 :]]).encode()
        with pytest.raises(ProblemError) as refused:
            list(Elements(Raw(text), Row, "rows", len(rows)))
        assert [fault.path for fault in refused.value.problem.errors or ()] == [f"rows[{place}]{where}"]


@pytest.mark.parametrize("text", [b"{}", b"7", b'"[]"', b"null"])
def test_what_is_no_list_is_refused(text: bytes) -> None:
    with pytest.raises(ProblemError, match="rows: Expected `array`"):
        Elements(Raw(text), Row, "rows", 1)


@given(st.lists(st.sampled_from(["0", "1", "2", "01", "\u0661", "a"]) | st.just(UNSET), max_size=5))
def test_ids_are_given_or_places_and_differ(given_: list[str | UnsetType]) -> None:
    wanted = [str(place) if isinstance(name, UnsetType) else name for place, name in enumerate(given_)]
    ids = OwnIds("rows")

    def packed() -> list[str]:
        for name in given_:
            ids.add(name)
        told: list[str] = ids.packed().to_pylist()
        return told

    if len(set(wanted)) < len(wanted):
        with pytest.raises(ProblemError, match="occurs twice"):
            packed()
    else:
        assert packed() == wanted


@given(st.lists(_TEXTS), st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1)))
def test_columns_that_grow_are_as_arrow_makes_them(texts: list[str], ids: list[list[int]]) -> None:
    strings, lists = Strings(), TokenLists()
    sizes = [strings.add(text) for text in texts]
    for row in ids:
        lists.add(np.array(row, np.int32))
    assert sizes == [len(text.encode()) for text in texts]
    assert strings.packed().equals(pa.array(texts, pa.string()))
    assert len(lists) == len(ids)
    packed = lists.packed()
    packed.validate(full=True)
    assert packed.to_pylist() == ids
    assert packed.type == schema.PROMPTS.field("prompt_token_ids").type


def test_sequences_beyond_the_first_piece_are_read_as_they_are() -> None:
    tokenizer = make_tokenizer()
    reader = Reader(tokenizer, 64, 64, OWN)
    count = 2 * AT_A_TIME + 3
    given_ = [
        {"prompt_id": "shared", "response_token_ids": [place % 50]}
        if place % 3
        else {"id": f"own {place}", "prompt_token_ids": [place % 7, 1], "response": "a"}
        for place in range(count)
    ]
    asked = {"prompts": [{"id": "shared", "prompt": "b"}], "sequences": given_}
    body = Body(json.dumps(asked).encode(), "json", "json")
    wanted = read_request(
        body, DetailsQuery(), reader, "made up", TeacherLimits(max_sequences_per_request=count)
    )
    rows = wanted.sequences.to_pylist()
    shared, text = (tokenizer(each, add_special_tokens=False)["input_ids"] for each in "ba")
    for place, row in enumerate(rows):
        if place % 3:
            assert row == {
                "sequence_id": str(place),
                "prompt_token_ids": shared,
                "response_token_ids": [place % 50],
            }
        else:
            assert row == {
                "sequence_id": f"own {place}",
                "prompt_token_ids": [place % 7, 1],
                "response_token_ids": text,
            }
    assert wanted.text_rows.all()
    assert schema.fingerprint_of(wanted.sequences) == "made up"


@pytest.mark.parametrize("count", [0, 1, AT_A_TIME, 2 * AT_A_TIME + 1])
def test_answers_are_the_same_however_many_results_they_have(count: int) -> None:
    results = [{"id": str(place), "logprobs": np.array([-0.5, place], np.float32)} for place in range(count)]
    plain = [{**each, "logprobs": each["logprobs"].tolist()} for each in results]
    body = Body(b"", "json", "json")
    whole = bytes(json_answer({"model": "m", "results": iter(results), "usage": {"n": count}}, body).body)
    assert json.loads(whole) == {"model": "m", "results": plain, "usage": {"n": count}}
    assert json.loads(bytes(json_answer({}, body).body)) == {}
    telling = Telling(lambda *_: results)
    lines = bytes(whole_answer(telling, pa.table({}), Body(b"", "json", "ndjson")).body).splitlines()
    assert [json.loads(line) for line in lines] == [*plain, {"results": count}]


@pytest.mark.parametrize("field", ["gold", "opened", "task"])
def test_what_is_said_once_of_all_responses_counts_with_each(field: str) -> None:
    limits = VerifierLimits(max_body_bytes=2**20)
    asked = {
        "task": "t", "gold": "1", field: "x" * 2**16, "responses": [{"response": ""}] * 17,
    }  # fmt: skip
    with pytest.raises(LimitError, match=r"responses\[15\]: with task, gold and `opened` of each"):
        verifier.read_request(Body(json.dumps(asked).encode(), "json", "json"), {}, limits)
    asked["responses"] = [{"response": ""}] * 15
    rows = verifier.read_request(Body(json.dumps(asked).encode(), "json", "json"), {}, limits)
    assert rows.num_rows == 15


def test_gold_that_is_no_text_is_refused() -> None:
    half_a_pair = b"\xed\xa0\xbd"  # as Python writes the first half of a surrogate pair
    responses = b'[{"gold": "' + half_a_pair + b'", "response": ""}]'
    body = Body(b'{"task": "t", "responses": ' + responses + b"}", "json", "json")
    with pytest.raises(ProblemError, match=r"responses\[0\]\.gold: is no text"):
        verifier.read_request(body, {}, VerifierLimits())


def test_a_prompt_of_no_token_cannot_be_answered() -> None:
    rows = {"group_id": ["a", "b"], "prompt_id": ["a", "b"], "prompt_token_ids": [[1], []]}
    with pytest.raises(InvalidRequestError, match="the prompt of group 'b' has no token"):
        check_prompts(pa.table(rows), tokenizer_fingerprint="mine", vocab_size=9, max_model_len=8)


@given(
    st.lists(
        st.tuples(st.text(max_size=9), st.lists(st.integers(0, 9), max_size=9), st.floats(0, 1)), max_size=40
    ),
    st.integers(1, 400),
)
def test_rows_of_a_table_are_its_rows(rows: list[tuple[str, list[int], float]], at_a_time: int) -> None:
    names, ids, numbers = zip(*rows, strict=True) if rows else ((), (), ())
    table = pa.table(
        {
            "id": pa.array(names, pa.string()),
            "token_ids": pa.array(ids, pa.list_(pa.int32())),
            "reward": pa.array(numbers, pa.float64()),
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elements, "_BYTES_AT_A_TIME", at_a_time)
        assert list(rows_of(table)) == table.to_pylist()


def test_few_rows_are_objects_at_a_time_where_they_are_long() -> None:
    rows, tokens = 128, 4000
    ids = pa.array(np.arange(rows * tokens, dtype=np.int32))
    table = pa.table({"token_ids": pa.ListArray.from_arrays(np.arange(rows + 1) * tokens, ids)})
    tracemalloc.start()
    try:
        count = sum(1 for _ in rows_of(table))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == rows
    assert peak < 16 * elements._BYTES_AT_A_TIME  # all at once they are ten times as much
