"""The verifier service with real Ray and real worker processes."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from ray import serve

from rlad_core import schema
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from services.errors import InvalidRequestError, LimitError, UnknownNameError
from services.verifier import VerifierArgs, VerifierLimits, VerifierService, build

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def verifier(ray_cluster: None) -> Iterator[Any]:
    """As a run starts it."""
    args = VerifierArgs(num_cpus=0.1, limits=VerifierLimits(max_responses_per_request=1000))
    yield serve.run(build(args), name="verifier", route_prefix=None)
    serve.delete("verifier")


@pytest.fixture(scope="module")
def hostile(ray_cluster: None) -> Iterator[Any]:
    """With a task of this folder, which replicas don't have on their path."""
    args = VerifierArgs(tasks={"hostile": "hostile_task:Hostile"}, time_limit_s=3.0, memory_limit_mib=256)
    options = {"num_cpus": 0.1, "runtime_env": {"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}}}
    app = VerifierService.options(ray_actor_options=options).bind(args)
    yield serve.run(app, name="hostile-verifier", route_prefix=None)
    serve.delete("hostile-verifier")


def responses(rows: Sequence[tuple[str, str, str]]) -> pa.Table:
    """RESPONSES from (task, response, gold), with the ids s0, s1, ..."""
    task, response, gold = zip(*rows, strict=True)
    columns = {"sequence_id": [f"s{i}" for i in range(len(rows))], "task": task, "response": response}
    return schema.build(schema.RESPONSES, {**columns, "gold": gold})


def test_rewards_are_the_tasks_own(verifier: Any) -> None:
    task = KnightsKnaves()
    prompts = task.prompts("train", "3_people", 64, seed=0)
    rows = []
    for prompt in prompts:
        right = task.demonstration(prompt.gold)
        for response in (right, right.replace("knight", "knave"), right[:-12], ""):
            rows.append((task.name, response, prompt.gold))
    table = responses(rows)
    verifier.verify.remote(table).result(timeout_s=60)
    start = time.monotonic()
    rewards = verifier.verify.remote(table).result(timeout_s=60)
    seconds = time.monotonic() - start
    schema.validate(rewards, schema.REWARDS)
    assert rewards["sequence_id"].to_pylist() == table["sequence_id"].to_pylist()
    expected = [task.verify(response, gold) for _, response, gold in rows]
    assert rewards["reward"].to_pylist() == [verdict.reward for verdict in expected]
    assert [dict(parts) for parts in rewards["reward_parts"].to_pylist()] == [v.parts for v in expected]
    assert rewards["correct"].to_pylist() == [verdict.correct for verdict in expected]
    assert rewards["verdict"].to_pylist() == [verdict.reason for verdict in expected]
    assert 64 <= sum(verdict.correct for verdict in expected) < 128
    # 256 responses take 0.03 s on an idle machine; the rest is room for a busy one.
    assert seconds < 1.0


def test_a_check_over_its_limits_counts_as_wrong_and_harms_no_other(hostile: Any) -> None:
    offences = {5: "hang", 6: "eat", 50: "die", 51: "raise"}
    rows = [("hostile", offences.get(place, "a"), "{}") for place in range(80)]
    rewards = hostile.verify.remote(responses(rows)).result(timeout_s=120)
    verdicts = rewards["verdict"].to_pylist()
    assert {place: verdicts[place] for place in offences} == {
        5: "the check took longer than 3 s and was stopped; counts as wrong",
        6: "the check needed more than 256 MiB; counts as wrong",
        50: "the check ended its process with exit code 7; counts as wrong",
        51: "the check raised RecursionError: too deep; counts as wrong",
    }
    for place, (reward, correct) in enumerate(
        zip(rewards["reward"].to_pylist(), rewards["correct"].to_pylist(), strict=True)
    ):
        # What an empty response gets, where the check gave no verdict.
        assert (reward, correct) == ((-2.0, False) if place in offences else (1.0, True))


def test_the_loop_is_free_while_a_check_hangs(hostile: Any) -> None:
    hanging = hostile.verify.remote(responses([("hostile", "spin", "{}")]))
    quick = hostile.verify.remote(responses([("hostile", "a", "{}")])).result(timeout_s=60)
    assert quick["correct"][0].as_py()
    with pytest.raises(TimeoutError):
        hanging.result(timeout_s=0)
    assert not hanging.result(timeout_s=60)["correct"][0].as_py()


def test_gold_that_is_none_is_refused(hostile: Any, verifier: Any) -> None:
    rows = [("hostile", "a", "{}"), ("hostile", "a", "unreadable")]
    with pytest.raises(InvalidRequestError, match=r"sequence 's1'.*not my gold; so its gold is at fault"):
        hostile.verify.remote(responses(rows)).result(timeout_s=60)
    with pytest.raises(InvalidRequestError, match=r"sequence 's0'.*gold is at fault"):
        verifier.verify.remote(responses([("knights_knaves", "a", "[]")])).result(timeout_s=60)


def test_what_is_the_requests_own_fault_is_refused(verifier: Any) -> None:
    good = ("knights_knaves", "a", "{}")
    with pytest.raises(UnknownNameError, match=r"'s1': task 'sudoku' is not judged here; known are knig"):
        verifier.verify.remote(responses([good, ("sudoku", "a", "{}")])).result(timeout_s=60)
    with pytest.raises(LimitError, match="1001 responses in one request; at most 1000"):
        verifier.verify.remote(responses([good] * 1001)).result(timeout_s=60)
    with pytest.raises(InvalidRequestError, match="'gold': missing"):
        verifier.verify.remote(responses([good]).drop_columns(["gold"])).result(timeout_s=60)
