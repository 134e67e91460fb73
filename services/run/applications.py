"""The Serve applications of a run: what is deployed for a recipe."""

from ray.serve import Application

from rlad_core.client.rollout_forms import RolloutLimits
from rlad_core.config import EngineSettings, RunConfig, ServeTeacher, place_of
from services.clients.handles import ServiceNames
from services.rollout import service as rollout
from services.rollout.settings import RolloutArgs
from services.serve.replica_settings import ReplicaArgs
from services.teacher import service as teacher
from services.teacher.settings import TeacherArgs
from services.verifier import service as verifier
from services.verifier.settings import VerifierArgs


def service_args(config: RunConfig, policy_folder: str) -> dict[str, ReplicaArgs]:
    """The settings of the applications that a run needs, by name.

    Args:
        config: the run.
        policy_folder: where the policy starts from.
    """
    names = ServiceNames(config.services_name)
    policy = RolloutArgs.of_run(
        config,
        policy_folder,
        policy_store=names.policy_store,
        transfer=config.weights.transfer,
        update_timeout_s=config.weights.timeout_s,
        adapter=config.learner.published_adapter,
        limits=RolloutLimits(max_top_k=max(RolloutLimits().max_top_k, config.policy_top_k)),
    )
    args: dict[str, ReplicaArgs] = {
        names.of("rollout"): policy,
        names.of("verifier"): VerifierArgs.of_run(config),
    }
    for place, settings in config.scoring_services.items():
        args[names.teacher_app(place)] = TeacherArgs.of_run(config, settings, settings.timeout_s)
    for settings in config.demonstrators.values():
        args[names.of("demonstrator")] = demonstrator_args(config, settings)
    return args


def application(args: ReplicaArgs) -> Application:
    """The service that is started with these settings."""
    if isinstance(args, RolloutArgs):
        return rollout.build(args)
    if isinstance(args, TeacherArgs):
        return teacher.build(args)
    assert isinstance(args, VerifierArgs)
    return verifier.build(args)


def demonstrator_args(config: RunConfig, settings: ServeTeacher) -> RolloutArgs:
    """A teacher that demonstrates: a rollout service with the teacher's resources, and no new versions."""
    shared = (*EngineSettings.model_fields, "gpu_memory_utilization", "engine_args", "sleep")
    theirs = settings.model_dump(include=set(shared))
    args = RolloutArgs.of_run(config, place_of(config, settings.model))
    return args.model_copy(update={**theirs, "dtype": settings.dtype})
