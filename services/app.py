"""The Serve applications of a run: what is deployed for a recipe, and how to reach it from any process."""

from dataclasses import dataclass

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from rlad_core.config import SFT, HttpTeacher, RunConfig, ServeTeacher, resolve_model
from rlad_core.config import Teacher as TeacherConfig
from services import rollout, teacher, verifier
from services.clients import AsyncTeacherClient
from services.requests import Endpoint, token_from
from services.rollout_settings import RolloutArgs
from services.teacher_settings import TeacherArgs
from services.teachers import HandleTeacher, RestTeacher, StockServerTeacher, Teacher


@dataclass(frozen=True)
class RunServices:
    """Names of a run's applications; every process of the cluster gets its own handles from them."""

    run: str
    teacher_config: TeacherConfig | None = None

    def rollout(self) -> DeploymentHandle:
        """Samples from the policy."""
        return serve.get_app_handle(f"{self.run}-rollout")

    def demonstrator(self) -> DeploymentHandle:
        """Samples from the teacher, for offline distillation."""
        return serve.get_app_handle(f"{self.run}-demonstrator")

    def verifier(self) -> DeploymentHandle:
        """Judges responses."""
        return serve.get_app_handle(f"{self.run}-verifier")

    def teacher(self) -> Teacher:
        """Scores responses; to be used on the event loop that it is made on.

        Raises:
            LookupError: the run has no teacher.
            ValueError: a remote teacher's token is not where the recipe says.
        """
        settings = self.teacher_config
        if settings is None:
            raise LookupError(f"run {self.run!r} has no teacher; name one in its recipe")
        if isinstance(settings, ServeTeacher):
            return HandleTeacher(serve.get_app_handle(f"{self.run}-teacher"), timeout_s=settings.timeout_s)
        reach = {
            "token": token_from(settings.token_env, settings.token_file),
            **settings.model_dump(include={"call_timeout_s", "timeout_s", "connections"}),
        }
        if isinstance(settings, HttpTeacher):
            return RestTeacher(AsyncTeacherClient(settings.url, **reach))
        return StockServerTeacher(Endpoint(settings.url, **reach), settings.model, settings.api)


def policy_store_name(config: RunConfig) -> str:
    """Name of the actor that holds the run's policy versions."""
    return f"{config.name}-policy"


def run_services(config: RunConfig) -> RunServices:
    """How to reach the services of a run."""
    return RunServices(config.name, config.teacher if config.needs_teacher else None)


def applications(config: RunConfig, policy_folder: str) -> dict[str, Application]:
    """The applications a run needs, by name.

    Args:
        config: the run.
        policy_folder: where the policy starts from.
    """
    apps = {
        f"{config.name}-rollout": rollout.build(rollout_args(config, policy_folder)),
        f"{config.name}-verifier": verifier.build(verifier_args(config)),
    }
    demonstrates = any(
        isinstance(s.objective, SFT) and s.objective.source == "teacher" for s in config.stages
    )
    if config.served_teacher is not None and config.scores_with_teacher:
        apps[f"{config.name}-teacher"] = teacher.build(teacher_args(config))
    if config.served_teacher is not None and demonstrates:
        folder = resolve_model(config.served_teacher.model)
        args = rollout_args(config, folder).model_copy(update={"policy_store": None})
        apps[f"{config.name}-demonstrator"] = rollout.build(args)
    return apps


def rollout_args(config: RunConfig, model: str) -> RolloutArgs:
    """The rollout service of a run."""
    settings = config.rollout
    return RolloutArgs(
        model=model,
        policy_store=policy_store_name(config),
        transfer=config.weights.transfer,
        dtype=config.policy.dtype,
        max_model_len=config.policy.max_length,
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        kv_cache_memory_gib=settings.kv_cache_memory_gib,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        tensor_parallel_size=settings.tensor_parallel_size,
        num_replicas=settings.num_replicas,
        num_cpus=settings.num_cpus,
        num_gpus=settings.num_gpus,
        node_labels=settings.node_labels,
        threads=settings.threads,
        seed=config.seed,
        timeout_s=settings.timeout_s,
        update_timeout_s=config.weights.timeout_s,
    )


def teacher_args(config: RunConfig) -> TeacherArgs:
    """The teacher service of a run."""
    settings = config.served_teacher
    assert settings is not None
    return TeacherArgs(
        model=resolve_model(settings.model),
        engine=settings.engine,
        dtype=settings.dtype,
        max_model_len=config.policy.max_length,
        max_tokens_per_batch=settings.max_tokens_per_batch,
        num_replicas=settings.num_replicas,
        num_cpus=settings.num_cpus,
        num_gpus=settings.num_gpus,
        node_labels=settings.node_labels,
        tensor_parallel_size=settings.tensor_parallel_size,
        threads=settings.threads,
    )


def verifier_args(config: RunConfig) -> verifier.VerifierArgs:
    """The verifier service of a run, for its task alone."""
    name = config.task.name
    return verifier.VerifierArgs(tasks={name: verifier.TASKS[name]})
