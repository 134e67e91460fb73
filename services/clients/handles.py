"""How the services of a run are reached from any process of its cluster: names, handles, teachers."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from ray import serve
from ray.serve.handle import DeploymentHandle

from rlad_core import schema
from rlad_core.client import AsyncTeacherClient, Endpoint, ServiceError
from rlad_core.client.details import names_tokens
from rlad_core.config import (
    HttpTeacher,
    OpenAITeacher,
    OwnTeacher,
    ServeTeacher,
    TeacherSection,
    resolve_model,
)
from rlad_core.sections import code
from services.clients.teachers import RestTeacher, StockServerTeacher, Teacher
from services.clients.teachers.handle import HandleTeacher


@dataclass(frozen=True)
class ServiceNames:
    """Names of a run's applications and store; every process gets its own handles from them."""

    run: str

    def of(self, role: str) -> str:
        """The application or actor with this role."""
        return f"{self.run}-{role}"

    @property
    def policy_store(self) -> str:
        """The actor that holds the policy's versions."""
        return self.of("policy")

    def rollout(self) -> DeploymentHandle:
        """Samples from the policy."""
        return serve.get_app_handle(self.of("rollout"))

    def demonstrator(self) -> DeploymentHandle:
        """Samples from the teacher, for offline distillation."""
        return serve.get_app_handle(self.of("demonstrator"))

    def verifier(self) -> DeploymentHandle:
        """Judges responses."""
        return serve.get_app_handle(self.of("verifier"))

    def teacher_app(self, place: str) -> str:
        """The application of a teacher that the run deploys, by its place in the recipe."""
        return self.of(place.replace("teachers.", "teacher-"))


class _OwnTeacher(Teacher):
    """A user's teacher: a section of the recipe that answers by itself."""

    def __init__(self, section: OwnTeacher) -> None:
        self._section = section

    async def score(self, sequences: pa.Table, end_token_ids: Sequence[int] = (), top_k: int = 0) -> pa.Table:
        if top_k or names_tokens(sequences):
            raise ServiceError(
                f"the teacher {self._section.where} is asked about the response's tokens alone"
            )
        limit = asyncio.timeout(self._section.timeout_s)
        try:
            async with limit:
                scores = await self._section.score(sequences)
            schema.validate(scores, schema.TEACHER_SCORES)
        except Exception as error:
            if limit.expired():
                waited = f"{self._section.timeout_s:g} s for the teacher {self._section.where}"
                raise TimeoutError(f"waited {waited}; its timeout_s sets the limit") from error
            raise ServiceError(f"the teacher {self._section.where} failed: {code.fault(error)}") from error
        if end_token_ids and scores.column("teacher_end_logprobs").null_count:
            raise ServiceError(
                f"the teacher {self._section.where} told no teacher_end_logprobs, the log of the probability "
                f"that one of the tokens {list(end_token_ids)} comes"
            )
        return scores

    async def close(self) -> None:
        await self._section.close()


def reach_teacher(
    run: str,
    place: str,
    settings: TeacherSection,
    token: str | None = None,
    say: Callable[[str], None] | None = None,
) -> Teacher:
    """A teacher that can be asked; to be used on the event loop that it is made on.

    Args:
        run: name of the run that asks.
        place: of the teacher in the recipe.
        token: for a remote one, see `services.clients.teachers.teacher_tokens`.
        say: told while a remote one does not answer, and what a stock server's probe finds.
    """
    if isinstance(settings, OwnTeacher):
        return _OwnTeacher(settings)
    if isinstance(settings, ServeTeacher):
        handle = serve.get_app_handle(ServiceNames(run).teacher_app(place))
        return HandleTeacher(
            handle,
            resolve_model(settings.model),
            timeout_s=settings.timeout_s,
            tells_all=settings.engine == "torch",
        )
    reach = {
        "token": token,
        "say": say,
        **settings.model_dump(include={"call_timeout_s", "timeout_s", "connections"}),
    }
    if isinstance(settings, HttpTeacher):
        return RestTeacher(AsyncTeacherClient(settings.url, **reach))
    assert isinstance(settings, OpenAITeacher)
    return StockServerTeacher(Endpoint(settings.url, **reach), settings.model, settings.api, say)
