"""Responses and what they are worth: the rollout service and the verifier, asked by handle."""

from collections.abc import Callable

import pyarrow as pa
from ray.serve.handle import DeploymentHandle

from rlad_core.schema import to_responses
from services.base import tracing
from services.base.telemetry import span
from services.clients.calls import again, call, leaving
from services.clients.shared_calls import SharedCalls
from services.rollout.settings import SamplingSettings
from services.weights.held_policy import StaleReplicaError


class Responses:
    """Samples and judges, for many groups. Whatever is asked can be asked again after a fault.

    Args:
        rollout: handle of the rollout service (of the policy, or of a teacher that demonstrates); None where
            models elsewhere answer.
        verifier: handle of the verifier service.
        timeout_s: limit for each call.
        pushed: the learner pushes weights. A replica that was replaced has none until the next update, and
            others answer in its place.
    """

    def __init__(
        self,
        rollout: DeploymentHandle | None,
        verifier: DeploymentHandle,
        timeout_s: float,
        *,
        pushed: bool = False,
    ) -> None:
        self._also = (StaleReplicaError,) if pushed else ()
        self._rollout = rollout
        self._verifier = verifier
        self._timeout_s = timeout_s
        self._judging = SharedCalls(self.verdicts)

    async def sample(
        self, groups: pa.Table, sampling: SamplingSettings, version: int, top_tokens: int = 0
    ) -> pa.Table:
        """ROLLOUTS of these groups; ROLLOUT_DETAILS with ``top_tokens``.

        Args:
            groups: with the columns group_id, prompt_id, prompt_token_ids.
            version: oldest policy version that may sample.
            top_tokens: also tell so many of the likeliest tokens at each place.

        Raises:
            TimeoutError: the service did not answer.
        """
        assert self._rollout is not None
        wanted = groups.select(["group_id", "prompt_id", "prompt_token_ids"])
        return await call(
            self._rollout.generate,
            wanted,
            sampling,
            min_version=version,
            top_tokens=top_tokens,
            timeout_s=self._timeout_s,
            what="rollouts",
            also=self._also,
        )

    async def sample_in_parts(
        self,
        group: pa.Table,
        sampling: SamplingSettings,
        version: int,
        on_part: Callable[[pa.Table], None],
        top_tokens: int = 0,
    ) -> None:
        """What `sample` answers of one group, told in parts as responses finish; each response once.

        A replica that goes away is replaced, and samples the group anew; what had come stays as it is.

        Raises:
            TimeoutError: the service did not answer.
        """
        assert self._rollout is not None
        wanted = tracing.carry(group.select(["group_id", "prompt_id", "prompt_token_ids"]))
        method = self._rollout.options(stream=True).generate_in_parts
        known: set[int] = set()

        async def attempt() -> None:
            parts = method.remote(wanted, sampling, min_version=version, top_tokens=top_tokens)
            with leaving(parts):
                async for part in parts:
                    numbers = part.column("sample_index").to_pylist()
                    fresh = [number not in known for number in numbers]
                    known.update(numbers)
                    if any(fresh):
                        on_part(part if all(fresh) else part.filter(pa.array(fresh)))

        await again(attempt, timeout_s=self._timeout_s, what="rollouts", also=self._also)

    async def judge(self, rollouts: pa.Table, prompts: pa.Table) -> pa.Table:
        """REWARDS of these rollouts, judged together with those of others that come at the same time.

        Args:
            prompts: PROMPTS with every prompt of `rollouts`; it may hold more.

        Raises:
            TimeoutError: the service did not answer.
        """
        with span("verify", items=len(rollouts)):
            return await self._judging(to_responses(rollouts, prompts))

    async def verdicts(self, responses: pa.Table) -> pa.Table:
        """REWARDS of these RESPONSES.

        Raises:
            TimeoutError: the service did not answer.
        """
        return await call(self._verifier.verify, responses, timeout_s=self._timeout_s, what="rewards")
