"""What may be set of a service that ``rlad serve`` starts, and what is tried on it first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rlad_core.config import assigned, resolve_model
from rlad_core.config.model_folder import faults, settings_of
from rlad_core.sections import code
from rlad_core.sections.findings import problems_of
from rlad_core.tasks import example, own_task, shipped
from services.rollout.settings import RolloutArgs
from services.serve.replica_settings import ReplicaArgs
from services.teacher.settings import TeacherArgs
from services.verifier.checking.loading import LoadError, is_ours, load
from services.verifier.settings import VerifierArgs

if TYPE_CHECKING:
    from ray.serve import Application


class ServingError(Exception):
    """The services cannot be started as asked; the message is for the person who asked."""


@dataclass(frozen=True)
class Service:
    """A service that can be started alone.

    Args:
        args: class of its settings.
        place: of what makes its application from them. It is imported when that is wanted, since it takes
            longer than to see that the settings are right.
        try_it: path and body of a request to begin with.
    """

    args: type[ReplicaArgs]
    place: str
    try_it: tuple[str, str]

    def imported(self) -> ModuleType:
        """The module of its application."""
        return import_module(self.place.partition(":")[0])

    @property
    def build(self) -> "Callable[[Any], Application]":
        """Makes its application."""
        build: Callable[[Any], Application] = getattr(self.imported(), self.place.partition(":")[2])
        return build


SERVICES: Mapping[str, Service] = {
    "teacher": Service(
        TeacherArgs,
        "services.teacher.service:build",
        ("/v1/score", '{"sequences": [{"prompt_token_ids": [5], "response_token_ids": [6]}]}'),
    ),
    "rollout": Service(
        RolloutArgs,
        "services.rollout.service:build",
        (
            "/v1/rollouts",
            '{"prompts": [{"prompt_token_ids": [5]}], "sampling": {"group_size": 2, "max_tokens": 8}}',
        ),
    ),
    "verifier": Service(VerifierArgs, "services.verifier.service:build", ("/v1/verify", example())),
}


SHIPPED_MODELS: Mapping[str, str] = {"teacher": "rlad:kk-teacher", "rollout": "rlad:kk-student"}


def read_settings(
    service: str, settings: Mapping[str, Any], model: str | None = None
) -> dict[str, ReplicaArgs]:
    """Settings by name of the service, of one or of `all`.

    Args:
        settings: of the one; with `all`, by name of the service.
        model: see `read_args`.

    Raises:
        ServingError: see `read_args`; also what belongs to no service.
    """
    if service != "all":
        _refuse_odd_model(service, settings, model)
        return {service: read_args(service, settings, model)}
    for name, value in settings.items():
        if name not in SERVICES:
            raise ServingError(
                f"{name}: no such service, so nothing would read it. With all, write "
                f"{' or '.join(f'{known}.SETTING=VALUE' for known in SERVICES)}"
            )
        if not isinstance(value, Mapping):
            raise ServingError(f"{name}: has settings and no value ({value!r}). Write {name}.SETTING=VALUE")
    return {name: read_args(name, settings.get(name, {}), model, f"{name}.") for name in SERVICES}


def _refuse_odd_model(service: str, settings: Mapping[str, Any], model: str | None) -> None:
    """Raises ServingError: no model where one is needed, one where none is, or two."""
    if service not in SHIPPED_MODELS:
        if model is not None:
            raise ServingError(f"--model: a {service} has no model; leave it out")
    elif model is None and "model" not in settings:
        raise ServingError(
            f"no model is named; write --model, for instance --model {SHIPPED_MODELS[service]}"
        )
    elif model is not None and settings.get("model", model) != model:
        raise ServingError(f"--model {model} and --set model={settings['model']} name two; write one of them")


def assigned_to(service: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` says of a service's settings, or of `all`. To a shipped task's settings it adds: those
    that it does not name are judged as they were.

    Raises:
        ValueError: one is no assignment, or leads nowhere; names it.
    """
    of_verifier: dict[str, Any] = {"tasks": {name: {} for name in shipped()}}
    begun = {"verifier": of_verifier, "all": {"verifier": of_verifier}}.get(service, {})
    settings: dict[str, Any] = assigned(begun, overrides)
    return settings


def with_models(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings of all services with models that ship where none is named; and the names of those services."""
    named = [
        name
        for name in SHIPPED_MODELS
        if isinstance(own := settings.get(name, {}), Mapping) and "model" not in own
    ]
    return {
        **settings,
        **{name: {"model": SHIPPED_MODELS[name], **settings.get(name, {})} for name in named},
    }, named


def with_tasks(settings: Mapping[str, Any], places: Sequence[str]) -> dict[str, Any]:
    """The verifier's settings with tasks of the user's own beside those that it has.

    Args:
        places: of a task's class, or of a function ``score(response, gold, row)``, see
            `rlad_core.sections.code`; relative to the current folder.

    Raises:
        ServingError: there is none of the two at a place, or it is no place.
    """
    tasks: dict[str, Any] = dict(settings.get("tasks", shipped()))
    for place in places:
        if not code.is_place(place):
            raise ServingError(
                f"--task {place}: names no code. Write file.py:Class or file.py:function; tasks that ship "
                f"({', '.join(shipped())}) are judged without it"
            )
        try:
            name, spec = own_task(code.absolute(place, Path.cwd()))
        except (code.CodeError, TypeError) as error:
            raise ServingError(f"--task {place}: {error}") from error
        tasks[name] = spec
    return {**settings, "tasks": tasks}


def read_args(service: str, settings: Mapping[str, Any], model: str | None, prefix: str = "") -> ReplicaArgs:
    """A service's settings.

    Args:
        model: taken where the service has one and the settings name none.
        prefix: what ``--set`` has before a setting's name.

    Raises:
        ServingError: a setting is unknown or impossible; names it.
    """
    kind = SERVICES[service].args
    default = {"model": model} if model is not None and "model" in kind.model_fields else {}
    try:
        return _from_anywhere(kind.model_validate({**default, **settings}))
    except ValidationError as error:
        raise ServingError(setting_fault(error, kind, service, prefix)) from error


def setting_fault(error: ValidationError, settings: type[ReplicaArgs], service: str, prefix: str = "") -> str:
    """The first of what is wrong with a service's settings, in a line, as a recipe's are told.

    Args:
        settings: their class, which raised it.
        service: named where no setting is at fault alone.
        prefix: before the names of settings.
    """
    first = problems_of(error, settings, prefix)[0]
    of_several = not error.errors()[0]["loc"]  # looked at once each is right by itself
    return f"{service}: {first.advice}" if of_several else str(first)


def _from_anywhere(args: ReplicaArgs) -> ReplicaArgs:
    """With what a replica cannot find from its own current folder: a model's folder by its absolute path (the
    API calls it as it was given), the text of users' code.

    Raises:
        ServingError: a file with code cannot be read, a shipped task does not take its settings, there is no
            such model, or its folder is none.
    """
    if isinstance(args, VerifierArgs):
        try:
            for name, spec in args.tasks.items():
                if spec.settings and is_ours(spec):
                    load(name, spec)
            return args.with_code()
        except (code.CodeError, LoadError) as error:
            raise ServingError(f"tasks: {error}") from error
    if not isinstance(args, TeacherArgs | RolloutArgs):
        return args
    try:
        found = Path(resolve_model(args.model))
        settings = settings_of(found) if found.is_dir() else None
        wrong = [] if settings is None else [*faults(found, settings, needs_weights=True, trained=False)]
    except ValueError as error:
        wrong = [str(error)]
    if wrong:
        raise ServingError(f"model ({args.model}): {'; '.join(wrong)}")
    folder = Path(args.model).expanduser()
    if not folder.is_dir():
        return args
    return args.model_copy(update={"model": str(folder.absolute()), "served_name": args.name})
