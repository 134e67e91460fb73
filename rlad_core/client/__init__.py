"""Asking services from anywhere: httpx and pyarrow, without torch, Ray or anything of `services`.

In: token ids, texts, Arrow tables. Out: log-probs and what a teacher says of itself; or an error of `errors`.
Called by: training loops and scripts of any kind, and by our own runs for teachers that live elsewhere.

    from rlad_core.client import TeacherClient

    with TeacherClient("http://teacher:8000") as teacher:
        [logprobs] = teacher.score_tokens([([11, 12, 13], [14, 15])])
"""

from rlad_core.client.endpoint import Endpoint
from rlad_core.client.errors import ServiceError
from rlad_core.client.forms import SequenceScore, TeacherInfo, TokenizerInfo
from rlad_core.client.teacher import AsyncTeacherClient, TeacherClient

__all__ = [
    "AsyncTeacherClient",
    "Endpoint",
    "SequenceScore",
    "ServiceError",
    "TeacherClient",
    "TeacherInfo",
    "TokenizerInfo",
]
