"""Schemas: what is refused and how it is named, round trips without loss, joins by id."""

import contextlib
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core import schema
from rlad_core.schema import SchemaError

VOCAB = {"a": 0, "b": 1, "c": 2, "</s>": 3}
MINE = schema.tokenizer_fingerprint(VOCAB)


def rollout_columns(count: int = 4) -> dict[str, Any]:
    lengths = [2 + i % 3 for i in range(count)]
    return {
        "group_id": [f"p{i // 2}#0" for i in range(count)],
        "sample_index": [i % 2 for i in range(count)],
        "prompt_id": [f"p{i // 2}" for i in range(count)],
        "prompt_token_ids": [[0, 1]] * count,
        "response_token_ids": [np.arange(n) % 4 for n in lengths],
        "rollout_logprobs": [np.full(n, -0.5) for n in lengths],
        "policy_versions": [[7] * n for n in lengths],
        "finish_reason": ["stop", "length"] * (count // 2),
        "response": ["a b"] * count,
    }


def rollouts(count: int = 4, **changes: Any) -> pa.Table:
    columns = rollout_columns(count) | changes
    return schema.build(schema.ROLLOUTS, columns, tokenizer_fingerprint=MINE, vocab_size=4)


def prompts(ids: list[str]) -> pa.Table:
    rows = [
        {
            "prompt_id": i,
            "task": "toy",
            "subset": f"subset of {i}",
            "prompt": "?",
            "prompt_token_ids": [0, 1],
            "gold": json.dumps({"of": i}),
        }
        for i in ids
    ]
    return schema.build(schema.PROMPTS, rows, tokenizer_fingerprint=MINE)


def rewards(ids: list[str]) -> pa.Table:
    rows = [
        {
            "sequence_id": i,
            "reward": float(n),
            "reward_parts": {"format": 1.0, "answer": n - 1.0},
            "correct": n > 0,
            "verdict": f"about {i}",
        }
        for n, i in enumerate(ids)
    ]
    return schema.build(schema.REWARDS, rows)


def scores(table: pa.Table, value: float = -1.0) -> pa.Table:
    lengths = schema.lengths(table.column("response_token_ids"))
    columns = {
        "sequence_id": schema.sequence_ids(table),
        "teacher_logprobs": [np.full(n, value - i) for i, n in enumerate(lengths)],
    }
    return schema.build(schema.TEACHER_SCORES, columns, tokenizer_fingerprint=MINE)


class TestRefusals:
    @pytest.mark.parametrize(
        ("column", "row", "value", "words"),
        [
            ("rollout_logprobs", 2, [-0.5] * 3, "3 values for 4 response tokens"),
            ("policy_versions", 1, [7] * 4, "4 values for 3 response tokens"),
            ("rollout_logprobs", 0, [-0.5, float("nan")], "token 1 is nan"),
            ("rollout_logprobs", 3, [float("-inf"), -1], "token 0 is -inf"),
            ("rollout_logprobs", 0, [-0.5, 0.01], "at most 0"),
            ("rollout_logprobs", 0, [-0.5, None], "holds something that is no number"),
            ("rollout_logprobs", 1, None, "is null"),
            ("response_token_ids", 0, [0, 4], "token 1 is 4; the vocabulary has ids 0..3"),
            ("response_token_ids", 0, [-1, 0], "token 0 is -1"),
            ("response_token_ids", 3, [], "is empty"),
            ("prompt_token_ids", 2, [], "is empty"),
            ("policy_versions", 0, [-1, 0], "at least 0"),
            ("response_token_ids", 1, [0, 1, 2**40], "does not fit"),
            ("response_token_ids", 1, [0, 1.5, 2], "does not fit"),
            ("response_token_ids", 1, ["0", "1", "2"], "wanted numbers"),
            ("finish_reason", 1, "crash", "'crash' must be one of stop, length"),
            ("group_id", 2, None, "is null"),
            ("sample_index", 1, 0, "'p0#0/0' occurs a second time"),
            ("sample_index", 1, -1, "at least 0"),
        ],
    )
    def test_the_message_names_row_and_column(self, column: str, row: int, value: Any, words: str) -> None:
        columns = rollout_columns()
        columns[column] = [*columns[column][:row], value, *columns[column][row + 1 :]]
        with pytest.raises(SchemaError, match=words.replace(".", r"\.")) as caught:
            schema.build(schema.ROLLOUTS, columns, tokenizer_fingerprint=MINE, vocab_size=4)
        assert (caught.value.schema, caught.value.column, caught.value.row) == ("rollouts", column, row)
        assert f"row {row}, column '{column}'" in str(caught.value)

    @pytest.mark.parametrize("column", ["rollout_logprobs", "response_token_ids", "policy_versions"])
    def test_a_null_inside_a_list_is_found(self, column: str) -> None:
        # Tables from elsewhere may declare the values nullable; only what they hold counts.
        table = rollouts()
        kind = pa.list_(table.schema.field(column).type.value_type)
        rows = table.column(column).to_pylist()
        position = table.column_names.index(column)
        open_ended = table.set_column(position, column, pa.array(rows, kind))
        schema.validate(open_ended, schema.ROLLOUTS)
        assert schema.label(open_ended, schema.ROLLOUTS, tokenizer_fingerprint=MINE).equals(table, True)
        rows[2][1] = None
        holed = table.set_column(position, column, pa.array(rows, kind))
        words = f"row 1, column '{column}': token 1 is null"
        with pytest.raises(SchemaError, match=words):
            schema.validate(holed.slice(1), schema.ROLLOUTS)
        with pytest.raises(SchemaError, match=words.replace("row 1", "row 2")):
            schema.label(holed, schema.ROLLOUTS, tokenizer_fingerprint=MINE)

    def test_faults_are_found_in_any_chunk_and_slice(self) -> None:
        good, table = rollouts(), rollouts()
        bad = pa.array(
            [[0, 1], [0, 9, 2], [0, 1, 2, 3], [0, 1]], table.schema.field("response_token_ids").type
        )
        position = table.column_names.index("response_token_ids")
        broken = table.set_column(position, table.schema.field(position), bad)
        other = rollouts(group_id=["q0#0", "q0#0", "q1#0", "q1#0"])
        joined = pa.concat_tables([other, broken.slice(1)])
        with pytest.raises(SchemaError, match="row 4, column 'response_token_ids': token 1 is 9"):
            schema.validate(joined, schema.ROLLOUTS, vocab_size=4)
        schema.validate(pa.concat_tables([other, good.slice(1)]), schema.ROLLOUTS, vocab_size=4)

    def test_labels(self) -> None:
        table = rollouts()
        schema.validate(table, schema.ROLLOUTS, tokenizer_fingerprint=MINE)
        with pytest.raises(SchemaError, match="sequences: the table is labelled 'rollouts'"):
            schema.validate(table, schema.SEQUENCES)
        with pytest.raises(SchemaError, match="carries no label"):
            schema.validate(table.replace_schema_metadata(None), schema.ROLLOUTS)
        with pytest.raises(SchemaError, match=r"made with tokenizer sha256:.*, wanted sha256:other"):
            schema.validate(table, schema.ROLLOUTS, tokenizer_fingerprint="sha256:other")
        old = table.replace_schema_metadata({**table.schema.metadata, b"rlad.version": b"0"})
        with pytest.raises(SchemaError, match="version 0, this code reads version 1"):
            schema.validate(old, schema.ROLLOUTS)
        with pytest.raises(SchemaError, match="say whose"):
            schema.build(schema.ROLLOUTS, rollout_columns())

    def test_columns(self) -> None:
        table = rollouts()
        with pytest.raises(SchemaError, match="'response': missing"):
            schema.validate(table.drop_columns(["response"]), schema.ROLLOUTS)
        with pytest.raises(SchemaError, match="'extra': not part of the schema"):
            schema.validate(table.append_column("extra", pa.array([1] * 4)), schema.ROLLOUTS)
        wide = table.set_column(1, "sample_index", table.column("sample_index").cast(pa.int64()))
        with pytest.raises(SchemaError, match="'sample_index': has type int64, wanted int32"):
            schema.validate(wide, schema.ROLLOUTS)
        schema.validate(table.select(table.column_names[::-1]), schema.ROLLOUTS)
        with pytest.raises(SchemaError, match="different lengths"):
            rollouts(response=["a"])
        one = {"sequence_id": "s", "reward": 1, "reward_parts": {}, "correct": True, "verdict": ""}
        lacking = {k: v for k, v in one.items() if k != "verdict"}
        with pytest.raises(SchemaError, match="row 1, column 'verdict': missing"):
            schema.build(schema.REWARDS, [one, lacking])

    def test_reward_parts_must_be_finite(self) -> None:
        rows = [
            {"sequence_id": i, "reward": 1.0, "reward_parts": parts, "correct": True, "verdict": ""}
            for i, parts in enumerate([{"a": 1.0, "b": 2.0}, {}, {"a": float("inf")}])
        ]
        rows = [row | {"sequence_id": str(row["sequence_id"])} for row in rows]
        with pytest.raises(SchemaError, match="row 2, column 'reward_parts'"):
            schema.build(schema.REWARDS, rows)

    def test_an_empty_table_is_fine(self) -> None:
        empty = {name: [] for name in schema.ROLLOUTS.names}
        table = schema.build(schema.ROLLOUTS, empty, tokenizer_fingerprint=MINE)
        schema.validate(schema.from_ipc(schema.to_ipc(table)), schema.ROLLOUTS, tokenizer_fingerprint=MINE)
        assert schema.build(schema.REWARDS, []).num_rows == 0


class TestStorage:
    def test_round_trips_lose_nothing(self, tmp_path: Any) -> None:
        table = joined(rollouts())
        assert schema.from_ipc(schema.to_ipc(table)).equals(table, check_metadata=True)
        schema.to_parquet(table, tmp_path / "table.parquet")
        back = schema.from_parquet(tmp_path / "table.parquet")
        assert back.equals(table, check_metadata=True)
        assert back.schema.equals(table.schema, check_metadata=True)

    def test_every_truncation_is_noticed(self) -> None:
        data = schema.to_ipc(rollouts())
        for size in range(len(data)):
            with pytest.raises(SchemaError):
                schema.from_ipc(data[:size])

    def test_a_stream_cut_between_batches_is_noticed(self) -> None:
        table = rollouts()
        sink = pa.BufferOutputStream()
        writer = pa.ipc.new_stream(sink, table.schema)
        writer.write_table(table.slice(0, 2))
        cut = sink.tell()
        writer.write_table(table.slice(2))
        writer.close()
        whole = sink.getvalue().to_pybytes()
        assert schema.from_ipc(whole).num_rows == 4
        with pytest.raises(SchemaError, match=r"2 rows read.*no end mark"):
            schema.from_ipc(whole[:cut])

    @pytest.mark.parametrize("codec", ["zstd", "lz4"])
    def test_compressed_streams_are_refused_before_they_expand(self, codec: str) -> None:
        table = pa.table({"zeros": np.zeros(2**22, np.int32)})
        data = stream(table, pa.ipc.IpcWriteOptions(compression=codec))
        assert len(data) < table.nbytes / 100
        before, peak = pa.total_allocated_bytes(), pa.default_memory_pool().max_memory()
        with pytest.raises(SchemaError, match=r"buffers are compressed; write it without"):
            schema.from_ipc(data)
        assert pa.total_allocated_bytes() - before < 2**20
        assert pa.default_memory_pool().max_memory() == peak

    def test_a_compressed_batch_after_others_is_noticed(self) -> None:
        # Arrow leaves tiny buffers as they are, and the batch still counts as compressed.
        table = rollouts()
        plain, packed = stream(table), stream(table, pa.ipc.IpcWriteOptions(compression="zstd"))
        head = len(stream(table.slice(0, 0))) - 8
        with pytest.raises(SchemaError, match="buffers are compressed"):
            schema.from_ipc(plain[:-8] + packed[head:])
        assert schema.from_ipc(plain[:-8] + plain[head:]).num_rows == 2 * table.num_rows

    def test_other_ways_to_hide_size_are_refused(self) -> None:
        encoded = pa.table({"a": pa.array(["x", "x"]).dictionary_encode()})
        with pytest.raises(SchemaError, match="message of the type dictionary"):
            schema.from_ipc(stream(encoded))
        old = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
        with pytest.raises(SchemaError, match="version V4; write V5"):
            schema.from_ipc(stream(rollouts(), old))

    def test_corrupt_files_are_named(self, tmp_path: Any) -> None:
        (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
        with pytest.raises(SchemaError, match=r"bad\.parquet is not a readable Parquet file"):
            schema.from_parquet(tmp_path / "bad.parquet")
        with pytest.raises(FileNotFoundError):
            schema.from_parquet(tmp_path / "none.parquet")

    @given(st.integers(0, 2**32), st.integers(0, 255))
    @settings(max_examples=150, deadline=None)
    def test_damaged_bytes_never_do_worse_than_an_error(self, place: int, value: int) -> None:
        data = bytearray(schema.to_ipc(rollouts()))
        data[place % len(data)] = value
        with contextlib.suppress(SchemaError):
            schema.validate(schema.from_ipc(bytes(data)), schema.ROLLOUTS, vocab_size=4)


def stream(table: pa.Table, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def joined(table: pa.Table, teacher: bool = True, seed: int = 0) -> pa.Table:
    """Experience from inputs in an order of their own."""
    ids = schema.sequence_ids(table).to_pylist()
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    return schema.join_experience(
        table,
        prompts=prompts(sorted(set(table.column("prompt_id").to_pylist()), reverse=True)),
        rewards=rewards(ids).take(shuffled),
        advantages={ids[i]: float(i) for i in shuffled[::-1]},
        teacher_scores=scores(table).take(shuffled[::-1]) if teacher else None,
    )


class TestJoin:
    def test_rows_are_matched_by_id(self) -> None:
        table = joined(rollouts())
        schema.validate(table, schema.EXPERIENCE, vocab_size=4, tokenizer_fingerprint=MINE)
        for index, row in enumerate(table.to_pylist()):
            assert row["sequence_id"] == f"{row['group_id']}/{row['sample_index']}"
            assert row["subset"] == f"subset of {row['prompt_id']}"
            assert row["verdict"] == f"about {row['sequence_id']}"
            assert row["reward"] == row["advantage"] == index
            assert dict(row["reward_parts"]) == {"format": 1.0, "answer": index - 1.0}
            assert row["teacher_logprobs"] == [-1.0 - index] * len(row["response_token_ids"])

    @given(st.integers(0, 1000), st.integers(1, 12))
    @settings(max_examples=30, deadline=None)
    def test_the_order_of_the_inputs_does_not_matter(self, seed: int, half: int) -> None:
        table = rollouts(2 * half)
        assert joined(table, seed=seed).equals(joined(table), check_metadata=True)

    def test_without_a_teacher_the_column_is_null_throughout(self) -> None:
        table = joined(rollouts(), teacher=False)
        assert table.column("teacher_logprobs").null_count == table.num_rows
        schema.validate(schema.from_ipc(schema.to_ipc(table)), schema.EXPERIENCE)
        mixed = pa.concat_tables([joined(rollouts()), table.slice(0, 1)])
        with pytest.raises(SchemaError, match="row 4, column 'teacher_logprobs': null in some rows"):
            schema.validate(mixed, schema.EXPERIENCE)

    def test_missing_unknown_and_doubled_ids_are_named(self) -> None:
        table = rollouts()
        ids = schema.sequence_ids(table).to_pylist()
        complete: dict[str, Any] = {
            "prompts": prompts(["p0", "p1"]),
            "rewards": rewards(ids),
            "advantages": dict.fromkeys(ids, 0.0),
            "teacher_scores": scores(table),
        }
        twice = pa.concat_tables([rewards(ids), rewards(ids[:1])])
        for change, words in (
            ({"prompts": prompts(["p0"])}, r"prompts, column 'prompt_id': no row for 'p1'"),
            ({"rewards": rewards(ids[1:])}, r"rewards, .*no row for 'p0#0/0'"),
            ({"rewards": rewards([*ids, "x#0/0"])}, r"rewards, .*rows for 'x#0/0', which no rollout has"),
            ({"rewards": twice}, r"rewards, row 4, .*'p0#0/0' occurs a second time"),
            ({"advantages": {ids[0]: 1.0}}, r"advantages, .*no row for 'p0#0/1', 'p1#0/0', 'p1#0/1'"),
            ({"teacher_scores": scores(table).slice(1)}, r"teacher_scores, .*no row for 'p0#0/0'"),
        ):
            with pytest.raises(SchemaError, match=words):
                schema.join_experience(table, **(complete | change))

    def test_scores_of_another_length_or_tokenizer_are_refused(self) -> None:
        table = rollouts()
        ids = schema.sequence_ids(table).to_pylist()
        inputs: dict[str, Any] = {
            "prompts": prompts(["p0", "p1"]),
            "rewards": rewards(ids),
            "advantages": dict.fromkeys(ids, 0.0),
        }
        short = {"sequence_id": ids, "teacher_logprobs": [[-1.0, -1.0]] * 4}
        wrong = schema.build(schema.TEACHER_SCORES, short, tokenizer_fingerprint=MINE)
        with pytest.raises(SchemaError, match="row 1, column 'teacher_logprobs': 2 values for 3"):
            schema.join_experience(table, **inputs, teacher_scores=wrong)
        foreign = schema.build(schema.TEACHER_SCORES, short, tokenizer_fingerprint="sha256:foreign")
        with pytest.raises(SchemaError, match="scored with tokenizer sha256:foreign"):
            schema.join_experience(table, **inputs, teacher_scores=foreign)

    def test_what_teacher_and_verifier_get(self) -> None:
        table = rollouts()
        sequences = schema.to_sequences(table)
        schema.validate(sequences, schema.SEQUENCES, tokenizer_fingerprint=MINE, vocab_size=4)
        assert sequences.column("sequence_id").to_pylist() == ["p0#0/0", "p0#0/1", "p1#0/0", "p1#0/1"]
        responses = schema.to_responses(table, prompts(["p1", "p0"]))
        schema.validate(responses, schema.RESPONSES)
        assert [json.loads(g)["of"] for g in responses.column("gold").to_pylist()] == ["p0", "p0", "p1", "p1"]


class TestFingerprint:
    def test_it_follows_the_map_and_not_its_order_or_padding(self) -> None:
        assert schema.tokenizer_fingerprint(dict(reversed(VOCAB.items()))) == MINE
        assert schema.tokenizer_fingerprint(VOCAB | {"a": 1, "b": 0}) != MINE
        assert schema.tokenizer_fingerprint(VOCAB, "{{ messages }}") != MINE
        assert schema.tokenizer_fingerprint(VOCAB, "") != MINE

    def test_it_is_stable_across_releases(self) -> None:
        assert MINE == "sha256:73223475eda28a86f02214cd487d6dd5"


rows_of_floats = st.lists(
    st.lists(st.floats(-100, 0, width=32), min_size=1, max_size=6), min_size=1, max_size=8
)


class TestColumns:
    @given(rows_of_floats, st.data())
    @settings(max_examples=60, deadline=None)
    def test_flatten_and_unflatten_are_inverse(self, rows: list[list[float]], data: st.DataObject) -> None:
        kind = schema.ROLLOUTS.field("rollout_logprobs").type
        start = data.draw(st.integers(0, len(rows) - 1))
        column = pa.chunked_array([schema.list_column(rows, kind)]).slice(start)
        values, offsets = schema.flatten(column)
        assert values.dtype == np.float32
        assert offsets[0] == 0
        assert [values[a:b].tolist() for a, b in pairwise(offsets)] == rows[start:]
        assert schema.unflatten(values, offsets, kind).equals(column.combine_chunks())

    def test_one_chunk_is_not_copied(self) -> None:
        column = rollouts().column("rollout_logprobs")
        values, _ = schema.flatten(column)
        assert values.ctypes.data == column.chunk(0).values.buffers()[1].address

    def test_nonsense_is_refused(self) -> None:
        kind = schema.ROLLOUTS.field("rollout_logprobs").type
        with pytest.raises(ValueError, match="rise from 0"):
            schema.unflatten([1.0, 2.0], [0, 1], kind)
        with pytest.raises(ValueError, match="rows are null"):
            schema.flatten(pa.array([[1.0], None], pa.list_(pa.float32())))
        with pytest.raises(ValueError, match=r"shape \(1, 1\)"):
            schema.list_column([[[1.0]]], kind)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), min_size=1, max_size=5),
            st.lists(st.integers(0, 9), min_size=1, max_size=5),
        ),
        max_size=10,
    )
)
@settings(max_examples=50, deadline=None)
def test_anything_built_survives_the_wire(pairs: list[tuple[list[int], list[int]]]) -> None:
    rows = [
        {"sequence_id": str(i), "prompt_token_ids": p, "response_token_ids": r}
        for i, (p, r) in enumerate(pairs)
    ]
    table = schema.build(schema.SEQUENCES, rows, tokenizer_fingerprint=MINE, vocab_size=10)
    back = schema.from_ipc(schema.to_ipc(table))
    schema.validate(back, schema.SEQUENCES, vocab_size=10, tokenizer_fingerprint=MINE)
    assert back.to_pylist() == rows
