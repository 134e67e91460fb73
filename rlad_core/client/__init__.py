"""Asking services from anywhere: httpx and pyarrow, without torch, Ray or anything of `services`.

In: token ids, texts, Arrow tables. Out: log-probs, responses, verdicts, and what a service says of itself; or
an error of `errors`.
Called by: training loops and scripts of any kind, and by our own runs for teachers that live elsewhere.

    from rlad_core.client import RolloutClient, TeacherClient, VerifierClient

    with TeacherClient("http://teacher:8000") as teacher:
        [logprobs] = teacher.score_tokens([([11, 12, 13], [14, 15])])

Each has its Async... with the same methods as coroutines. They share `endpoint` (connections, limits, what is
repeated) and `parts` (large requests in several).
"""

from rlad_core.client.endpoint import Endpoint
from rlad_core.client.errors import ServiceError
from rlad_core.client.forms import SequenceScore, TeacherInfo, TokenizerInfo
from rlad_core.client.rollout_forms import PolicyInfo, ResponseOut
from rlad_core.client.rollouts import AsyncRolloutClient, RolloutClient
from rlad_core.client.teacher import AsyncTeacherClient, TeacherClient
from rlad_core.client.verifier import AsyncVerifierClient, VerifierClient
from rlad_core.client.verifier_forms import Judged, VerifierInfo

__all__ = [
    "AsyncRolloutClient",
    "AsyncTeacherClient",
    "AsyncVerifierClient",
    "Endpoint",
    "Judged",
    "PolicyInfo",
    "ResponseOut",
    "RolloutClient",
    "SequenceScore",
    "ServiceError",
    "TeacherClient",
    "TeacherInfo",
    "TokenizerInfo",
    "VerifierClient",
    "VerifierInfo",
]
