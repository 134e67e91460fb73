"""The collector's work on a step's tables, part by part, adds up, and hands out all of the batch."""

import pyarrow as pa
import pytest

from benchmarks.data_plane import collected, groups_of, put


@pytest.mark.parametrize("ranks", [1, 2])
def test_all_parts_are_in_the_total(ranks: int) -> None:
    groups, prompts = groups_of(32, 40)
    parts, responses, tokens = collected(groups, prompts, ranks)
    names = [part for part, _, _ in parts.found]
    assert names == [
        "join", "plan", "stale tokens", "numbers of the step", "visits and their versions", "trained tokens",
        "take", "put", "all",
    ]  # fmt: skip
    assert responses == 32
    assert tokens == sum(group.response_tokens for group in groups)
    *seconds, whole = [wall for _, wall, _ in parts.found]
    assert sum(seconds) <= whole


def test_what_is_put_is_the_whole_table() -> None:
    table = pa.table({"tokens": pa.array([list(range(1000))] * 3)})
    with put(table) as stored:
        assert table.nbytes <= len(stored) < table.nbytes + 2000
        assert pa.array(range(1000)).buffers()[1].to_pybytes() * 3 in stored[:]
