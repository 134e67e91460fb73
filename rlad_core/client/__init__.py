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

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlad_core.client.endpoint import Endpoint
    from rlad_core.client.errors import ServiceError
    from rlad_core.client.forms import SequenceScore, TeacherInfo, TokenizerInfo
    from rlad_core.client.rollout_forms import PolicyInfo, ResponseOut
    from rlad_core.client.rollouts import AsyncRolloutClient, RolloutClient
    from rlad_core.client.teacher import AsyncTeacherClient, TeacherClient
    from rlad_core.client.verifier import AsyncVerifierClient, VerifierClient
    from rlad_core.client.verifier_forms import Judged, VerifierInfo

_NAMES = {
    "endpoint": ["Endpoint"],
    "errors": ["ServiceError"],
    "forms": ["SequenceScore", "TeacherInfo", "TokenizerInfo"],
    "rollout_forms": ["PolicyInfo", "ResponseOut"],
    "rollouts": ["AsyncRolloutClient", "RolloutClient"],
    "teacher": ["AsyncTeacherClient", "TeacherClient"],
    "verifier": ["AsyncVerifierClient", "VerifierClient"],
    "verifier_forms": ["Judged", "VerifierInfo"],
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names}

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


def __getattr__(name: str) -> Any:
    # The services take errors and forms from here, and are up sooner without httpx.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
