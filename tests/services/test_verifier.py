"""The verifier service with real Ray and real worker processes."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from ray import serve

from rlad_core import schema
from rlad_core.client.errors import InvalidRequestError, LimitError, UnknownNameError
from rlad_core.tasks.knights_knaves.task import KnightsKnaves
from services.verifier.checking.messages import Failed
from services.verifier.service import VerifierService, build
from services.verifier.settings import VerifierArgs, VerifierLimits

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
    rewards = verifier.verify.remote(table).result(timeout_s=60)
    schema.validate(rewards, schema.REWARDS)
    assert rewards["sequence_id"].to_pylist() == table["sequence_id"].to_pylist()
    expected = [task.verify(response, gold) for _, response, gold in rows]
    assert rewards["reward"].to_pylist() == [verdict.reward for verdict in expected]
    assert [dict(parts) for parts in rewards["reward_parts"].to_pylist()] == [v.parts for v in expected]
    assert rewards["correct"].to_pylist() == [verdict.correct for verdict in expected]
    assert rewards["verdict"].to_pylist() == [verdict.reason for verdict in expected]
    assert 64 <= sum(verdict.correct for verdict in expected) < 128


def test_a_check_over_its_limits_counts_as_wrong_and_harms_no_other(hostile: Any) -> None:
    offences = {5: "hang", 6: "eat", 50: "die", 51: "raise"}
    rows = [("hostile", offences.get(place, "a"), "{}") for place in range(80)]
    rewards = hostile.verify.remote(responses(rows)).result(timeout_s=120)
    verdicts = rewards["verdict"].to_pylist()
    assert {place: verdicts[place] for place in offences} == {
        5: "the check took longer than 3 s and was stopped (hostile_task.py, line 22); counts as wrong",
        6: "the check needed more than 256 MiB (hostile_task.py, line 27); counts as wrong",
        50: "the check ended its process with exit code 7 (hostile_task.py); counts as wrong",
        51: "the check raised RecursionError: too deep (hostile_task.py, line 31); counts as wrong",
    }
    for place, (reward, correct) in enumerate(
        zip(rewards["reward"].to_pylist(), rewards["correct"].to_pylist(), strict=True)
    ):
        # What the task gives where the check gave no verdict.
        assert (reward, correct) == ((-2.0, False) if place in offences else (1.0, True))


def test_the_loop_is_free_while_a_check_hangs(hostile: Any) -> None:
    hanging = hostile.verify.remote(responses([("hostile", "spin", "{}")]))
    quick = hostile.verify.remote(responses([("hostile", "a", "{}")])).result(timeout_s=60)
    assert quick["correct"][0].as_py()
    with pytest.raises(TimeoutError):
        hanging.result(timeout_s=0)
    assert not hanging.result(timeout_s=60)["correct"][0].as_py()


def test_gold_that_is_none_is_refused(verifier: Any) -> None:
    rows = [("knights_knaves", "a", "[]")]
    says = r"responses\[0\]\.gold: sequence 's0': its gold is at fault: .* raised ValueError"
    with pytest.raises(InvalidRequestError, match=says):
        verifier.verify.remote(responses(rows)).result(timeout_s=60)


def test_what_users_code_raises_never_fails_the_request(hostile: Any) -> None:
    rows = [("hostile", "a", "{}"), ("hostile", "a", "unreadable")]
    rewards = hostile.verify.remote(responses(rows)).result(timeout_s=60)
    assert rewards["correct"].to_pylist() == [True, False]
    # Its `failed` raises too.
    assert rewards["reward"].to_pylist() == [1.0, 0.0]
    assert "this is not my gold" in rewards["verdict"][1].as_py()


REWARD = """\
def score(response, gold, row):
    while response == "loop":
        pass
    if response == "odd":
        raise ValueError("half a character: " + chr(0xD800))
    return {"reward": gold["x"], "length": len(response)}
"""


def test_a_users_function_from_its_text_alone(ray_cluster: None) -> None:
    place = "/not/on/this/node/reward.py"
    task = {"place": "rlad_core.tasks.prompts.task:Prompts", "settings": {"reward": f"{place}:score"}}
    args = VerifierArgs(tasks={"mine": task}, code={place: REWARD}, time_limit_s=1.0, num_cpus=0.1)
    mine = serve.run(build(args), name="mine-verifier", route_prefix=None)
    try:
        gold = '{"gold": {"x": 0.5}}'
        rows = [("mine", response, gold) for response in ("a", "loop", "odd", "bc")]
        rewards = mine.verify.remote(responses(rows)).result(timeout_s=60)
    finally:
        serve.delete("mine-verifier")
    assert rewards["reward"].to_pylist() == [0.5, 0.0, 0.0, 0.5]
    assert [dict(parts) for parts in rewards["reward_parts"].to_pylist()] == [
        {"length": 1.0}, {"score": 0.0}, {"score": 0.0}, {"length": 2.0}
    ]  # fmt: skip
    slow, odd = rewards["verdict"].to_pylist()[1:3]
    assert re.fullmatch(
        r"the check took longer than 1 s and was stopped \(reward\.py, line [23]\); counts as wrong", slow
    )
    assert odd.startswith("the check raised ValueError: half a character: ?")


def test_code_that_does_not_load_is_told_by_its_line(ray_cluster: None) -> None:
    args = VerifierArgs(tasks={"mine": "/mine.py:Mine"}, code={"/mine.py": "x = 1\n1 / 0\n"}, num_cpus=0.1)
    with pytest.raises(RuntimeError):
        serve.run(build(args), name="broken-verifier", route_prefix=None)
    message = serve.status().applications["broken-verifier"].deployments["VerifierService"].message
    serve.delete("broken-verifier")
    assert (
        "task 'mine': /mine.py does not run: ZeroDivisionError: division by zero (mine.py, line 2)" in message
    )


def test_what_is_the_requests_own_fault_is_refused(verifier: Any) -> None:
    good = ("knights_knaves", "a", "{}")
    with pytest.raises(UnknownNameError, match=r"'s1': task 'sudoku' is not judged here; known are knig"):
        verifier.verify.remote(responses([good, ("sudoku", "a", "{}")])).result(timeout_s=60)
    with pytest.raises(LimitError, match="1001 responses in one request; at most 1000"):
        verifier.verify.remote(responses([good] * 1001)).result(timeout_s=60)
    with pytest.raises(InvalidRequestError, match="gold: missing"):
        verifier.verify.remote(responses([good]).drop_columns(["gold"])).result(timeout_s=60)


class ShippedTask:
    """Stands in for the pool: a task that ships."""

    def is_users(self, task: str) -> bool:
        return False


@pytest.mark.parametrize("kind", ["time", "memory", "crash"])
def test_a_limit_or_a_crash_is_no_fault_of_the_gold(kind: str) -> None:
    service = SimpleNamespace(_pool=ShippedTask())
    judged = VerifierService.func_or_class._as_wrong
    failed = Failed("crash", "ended its process")
    verdict = judged(service, failed, Failed(kind, "ended likewise"), "math", "s0", 0)
    assert (verdict.reward, verdict.correct) == (0.0, False)
    assert verdict.reason == "the check ended its process; counts as wrong"
    with pytest.raises(InvalidRequestError, match="its gold is at fault"):
        judged(service, failed, Failed("error", "raised ValueError"), "math", "s0", 0)
