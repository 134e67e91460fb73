"""Tokens that the engine holds back: what is told in the end is what would have been told one by one."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.metrics.stats import PrefillStats
from vllm.v1.outputs import LogprobsLists

from services.rollout.holding import MOST, HoldingScheduler, joined, wanted_whole


def output(request: str, place: int, *, last: bool = False) -> EngineCoreOutput:
    """Of the token at this place, with what is told of two tokens there."""
    return EngineCoreOutput(
        request_id=request,
        new_token_ids=[place],
        new_logprobs=LogprobsLists(
            np.array([[place, 7]], np.int32), np.array([[-place, -9.0]], np.float32), np.array([place % 3])
        ),
        finish_reason=FinishReason.STOP if last else None,
        stop_reason=1 if last else None,
        prefill_stats=PrefillStats() if place == 0 else None,
    )


class Stepped:
    """A `HoldingScheduler` of which vLLM's part does what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *held: str) -> None:
        self.made: list[EngineCoreOutput] = []
        self.paused = PauseState.UNPAUSED
        monkeypatch.setattr(
            Scheduler,
            "update_from_output",
            lambda *_: {0: EngineCoreOutputs(outputs=list(self.made))} if self.made else {},
        )
        monkeypatch.setattr(Scheduler, "has_requests", lambda _: False)
        monkeypatch.setattr(Scheduler, "pause_state", property(lambda _: self.paused))
        monkeypatch.setattr(
            Scheduler, "finish_requests", lambda _, ids, __: [SimpleNamespace(request_id=ids)]
        )
        self.scheduler = HoldingScheduler.__new__(HoldingScheduler)
        self.scheduler._held = {request: [] for request in held}
        self.scheduler.requests = {request: SimpleNamespace(client_index=0) for request in held}  # type: ignore[misc]

    def step(self, *made: EngineCoreOutput) -> list[EngineCoreOutput]:
        self.made = list(made)
        told = self.scheduler.update_from_output(None, None)  # type: ignore[arg-type]
        return [each for client in told.values() for each in client.outputs]


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> Stepped:
    return Stepped(monkeypatch, "a", "b")


@pytest.mark.parametrize("length", [1, 2, MOST, MOST + 1, MOST + 2, 3 * MOST + 5])
def test_a_response_is_told_at_its_first_token_each_so_many_and_its_end(
    stepped: Stepped, length: int
) -> None:
    told = [stepped.step(output("a", place, last=place == length - 1)) for place in range(length)]
    parts = [each for [each] in filter(None, told)]
    assert len(parts) == 1 + -(-(length - 1) // MOST)
    assert [token for each in parts for token in each.new_token_ids] == list(range(length))
    ids, values, ranks, _ = zip(*(each.new_logprobs for each in parts if each.new_logprobs), strict=True)
    np.testing.assert_array_equal(np.concatenate(ids), [[place, 7] for place in range(length)])
    np.testing.assert_array_equal(np.concatenate(values), [[-place, -9] for place in range(length)])
    np.testing.assert_array_equal(np.concatenate(ranks), [place % 3 for place in range(length)])
    assert [each.finish_reason for each in parts] == [None] * (len(parts) - 1) + [FinishReason.STOP]
    assert parts[0].prefill_stats is not None
    assert parts[-1].stop_reason == 1
    assert stepped.scheduler._held.keys() == {"b"}


def test_what_is_read_as_it_is_written_is_told_at_once(stepped: Stepped) -> None:
    for place in range(1, 3):
        [told] = stepped.step(output("streamed", place))
        assert told.new_token_ids == [place]


def test_before_new_weights_all_that_is_held_is_told_in_a_step_of_its_own(stepped: Stepped) -> None:
    for place in range(3):
        stepped.step(output("a", place), output("b", place))
    assert not stepped.scheduler.has_requests()
    stepped.paused = PauseState.PAUSED_ALL
    assert stepped.scheduler.has_requests()
    assert [(each.request_id, each.new_token_ids) for each in stepped.step()] == [
        ("a", [1, 2]),
        ("b", [1, 2]),
    ]
    assert not stepped.scheduler.has_requests()
    stepped.paused = PauseState.UNPAUSED
    assert stepped.step(output("a", 3), output("b", 3)) == []
    [last] = stepped.step(output("a", 4, last=True))
    assert last.new_token_ids == [3, 4]


def test_of_a_response_that_is_given_up_nothing_is_kept(stepped: Stepped) -> None:
    stepped.step(output("a", 0))
    stepped.step(output("a", 1))
    stepped.scheduler.finish_requests("a", None)  # type: ignore[arg-type]
    assert stepped.scheduler._held.keys() == {"b"}


@given(st.lists(st.integers(1, 4), min_size=1, max_size=9))
def test_joining_keeps_every_token(lengths: list[int]) -> None:
    one_by_one = [output("a", place) for place in range(1, sum(lengths) + 1)]
    rest = iter(one_by_one)
    parts = [joined([next(rest) for _ in range(length)]) for length in lengths]
    whole = joined(parts)
    assert whole.new_token_ids == list(range(1, sum(lengths) + 1))
    assert whole.new_logprobs is not None
    assert whole.new_logprobs.logprobs[:, 0].tolist() == [-token for token in whole.new_token_ids]


def test_without_logprobs_tokens_alone_are_joined() -> None:
    parts = [EngineCoreOutput(request_id="a", new_token_ids=[token]) for token in (4, 5)]
    assert (joined(parts).new_token_ids, joined(parts[1:]).new_logprobs) == ([4, 5], None)


def test_whole_are_responses_that_no_one_reads_before_their_end() -> None:
    final = RequestOutputKind.FINAL_ONLY
    assert wanted_whole(SamplingParams(output_kind=final))
    assert not wanted_whole(SamplingParams(output_kind=final, stop=["\n"]))
    assert not wanted_whole(SamplingParams(output_kind=RequestOutputKind.DELTA))
