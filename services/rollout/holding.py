"""vLLM's scheduler, for responses that nobody reads before they end.

vLLM packs each token that is sampled, with its log-prob, for the replica's process, which unpacks it and
books it there: work in Python for each token of each response, in both processes. Of a response that is
wanted whole, tokens are kept here and sent together. What comes out is the same.

    sampled -> held (by request) -> joined: at its end, every `MOST` tokens, before new weights
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.outputs import LogprobsLists, ModelRunnerOutput
from vllm.v1.request import Request, RequestStatus

MOST = 64
"""Tokens of a response that are held. Sent by 64, a token costs next to nothing; and held, some 500 bytes."""

_TOLD = ("request_id", "new_token_ids", "new_logprobs")
_rest = attrgetter(*(name for name in EngineCoreOutput.__struct_fields__ if name not in _TOLD))
_NOTHING = _rest(EngineCoreOutput(request_id="", new_token_ids=[]))


class HoldingScheduler(Scheduler):
    """A `Scheduler` for engines that compute and schedule in turns, as on CPUs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: dict[str, list[EngineCoreOutput]] = {}

    def add_request(self, request: Request) -> None:
        """See `Scheduler.add_request`."""
        super().add_request(request)
        if request.sampling_params is not None and wanted_whole(request.sampling_params):
            self._held[request.request_id] = []

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        """What is told of a step, by client; see `Scheduler.update_from_output`."""
        told = super().update_from_output(scheduler_output, model_runner_output)
        for client in told.values():
            client.outputs = [due for each in client.outputs if (due := self._due(each)) is not None]
        if self.pause_state == PauseState.PAUSED_ALL:
            self._tell_all(told)
        return told

    def has_requests(self) -> bool:
        """Whether a step is to be made: also one that only tells what is held, before new weights come, whose
        version vLLM says of whatever it tells afterwards.
        """
        pausing = self.pause_state == PauseState.PAUSED_ALL and any(self._held.values())
        return pausing or super().has_requests()

    def finish_requests(
        self, request_ids: str | Iterable[str] | None, finished_status: RequestStatus
    ) -> list[Request]:
        """End them from outside; see `Scheduler.finish_requests`. Nobody wants what is held of them."""
        finished = super().finish_requests(request_ids, finished_status)
        for request in finished:
            self._held.pop(request.request_id, None)
        return finished

    def _due(self, output: EngineCoreOutput) -> EngineCoreOutput | None:
        held = self._held.get(output.request_id)
        if held is None:
            return output
        held.append(output)
        if output.finished:
            del self._held[output.request_id]
        # The first token of a response says more than itself: vLLM's metrics know by it that it has begun.
        elif len(held) < MOST and _rest(output) == _NOTHING:
            return None
        else:
            self._held[output.request_id] = []
        return joined(held)

    def _tell_all(self, told: dict[int, EngineCoreOutputs]) -> None:
        for request_id, held in self._held.items():
            if held:
                client = told.setdefault(self.requests[request_id].client_index, EngineCoreOutputs())
                client.outputs.append(joined(held))
                self._held[request_id] = []


def wanted_whole(params: SamplingParams) -> bool:
    """Whether nobody looks at a response before its end; stop strings are looked for in the replica."""
    return params.output_kind == RequestOutputKind.FINAL_ONLY and not params.stop


def joined(outputs: Sequence[EngineCoreOutput]) -> EngineCoreOutput:
    """One output of the tokens of several, which follow one another; the last says what else there is."""
    last = outputs[-1]
    if len(outputs) > 1:
        logprobs = [each.new_logprobs for each in outputs if each.new_logprobs is not None]
        last.new_token_ids = [token for each in outputs for token in each.new_token_ids]
        if logprobs:
            ids, values, ranks, _ = zip(*logprobs, strict=True)
            last.new_logprobs = LogprobsLists(*map(np.concatenate, (ids, values, ranks)))
    return last
