"""The Serve applications of a run: what is deployed for a recipe, and how to reach it from any process."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from rlad_core.config import SFT, HttpTeacher, RunConfig, ServeTeacher, resolve_model
from rlad_core.config import Teacher as TeacherConfig
from services import rollout, teacher, verifier
from services.clients import AsyncTeacherClient
from services.requests import Endpoint, token_from
from services.rollout_settings import RolloutArgs
from services.teacher_settings import TeacherArgs, TeacherLimits
from services.teachers import HandleTeacher, RestTeacher, StockServerTeacher, Teacher


@dataclass(frozen=True)
class RunServices:
    """Names of a run's applications; every process of the cluster gets its own handles from them."""

    run: str
    teachers: Mapping[str, TeacherConfig] = field(default_factory=dict)
    """By their place in the recipe, see `RunConfig.teacher_sections`."""

    def rollout(self) -> DeploymentHandle:
        """Samples from the policy."""
        return serve.get_app_handle(f"{self.run}-rollout")

    def demonstrator(self) -> DeploymentHandle:
        """Samples from the teacher, for offline distillation."""
        return serve.get_app_handle(f"{self.run}-demonstrator")

    def verifier(self) -> DeploymentHandle:
        """Judges responses."""
        return serve.get_app_handle(f"{self.run}-verifier")

    def teacher(self, place: str, token: str | None = None) -> Teacher:
        """Scores responses; to be used on the event loop that it is made on.

        Args:
            place: of the teacher in the recipe.
            token: for a remote one, see `teacher_tokens`.
        """
        settings = self.teachers[place]
        if isinstance(settings, ServeTeacher):
            handle = serve.get_app_handle(teacher_app(self.run, place))
            return HandleTeacher(handle, timeout_s=settings.timeout_s)
        reach = {
            "token": token,
            **settings.model_dump(include={"call_timeout_s", "timeout_s", "connections"}),
        }
        if isinstance(settings, HttpTeacher):
            return RestTeacher(AsyncTeacherClient(settings.url, **reach))
        return StockServerTeacher(Endpoint(settings.url, **reach), settings.model, settings.api)


def policy_store_name(config: RunConfig) -> str:
    """Name of the actor that holds the run's policy versions."""
    return f"{config.name}-policy"


def teacher_app(run: str, place: str) -> str:
    """Name of the application of a teacher that the run deploys."""
    return f"{run}-{place.replace('teachers.', 'teacher-')}"


def run_services(config: RunConfig) -> RunServices:
    """How to reach the services of a run."""
    return RunServices(config.name, config.teacher_sections if config.needs_teacher else {})


def teacher_tokens(config: RunConfig) -> dict[str, str]:
    """Bearer tokens of the remote teachers that the run asks, by their place in the recipe.

    Raises:
        ValueError: a token is not where the recipe says; names the teacher.
    """
    tokens: dict[str, str] = {}
    for place, settings in run_services(config).teachers.items():
        if isinstance(settings, ServeTeacher):
            continue
        try:
            token = token_from(settings.token_env, settings.token_file)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        if token is not None:
            tokens[place] = token
    return tokens


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
    for place, settings in config.served_teachers.items():
        if config.scores_with_teacher:
            apps[teacher_app(config.name, place)] = teacher.build(teacher_args(config, settings))
        if demonstrates:
            apps[f"{config.name}-demonstrator"] = rollout.build(demonstrator_args(config, settings))
    return apps


def rollout_args(config: RunConfig, model: str) -> RolloutArgs:
    """The rollout service of a run."""
    settings = config.rollout
    return RolloutArgs(
        run=config.name,
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


def demonstrator_args(config: RunConfig, settings: ServeTeacher) -> RolloutArgs:
    """A teacher that demonstrates: a rollout service with the teacher's resources, and no new versions."""
    theirs = (
        "dtype", "kv_cache_memory_gib", "gpu_memory_utilization", "tensor_parallel_size",
        "num_replicas", "num_cpus", "num_gpus", "node_labels", "threads",
    )  # fmt: skip
    args = rollout_args(config, resolve_model(settings.model))
    return args.model_copy(
        update={"policy_store": None, "transfer": "object_store", **settings.model_dump(include={*theirs})}
    )


def teacher_args(config: RunConfig, settings: ServeTeacher) -> TeacherArgs:
    """A teacher service of a run."""
    group_tokens = config.rollout.group_size * config.policy.max_length
    usual = TeacherLimits()
    return TeacherArgs(
        run=config.name,
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
        kv_cache_memory_gib=settings.kv_cache_memory_gib,
        gpu_memory_utilization=settings.gpu_memory_utilization,
        # A run waits for its own teacher and is never refused: a request is a group, and all of a step's
        # groups may wait at once.
        limits=TeacherLimits(
            max_sequences_per_request=max(usual.max_sequences_per_request, config.rollout.group_size),
            max_tokens_per_request=max(usual.max_tokens_per_request, group_tokens),
            max_queued_tokens=max(usual.max_queued_tokens, config.slots * group_tokens),
            timeout_s=settings.timeout_s,
        ),
    )


def verifier_args(config: RunConfig) -> verifier.VerifierArgs:
    """The verifier service of a run, for its own tasks alone."""
    names = [task.name for task in config.task_sections.values()]
    settings = config.verifier
    return verifier.VerifierArgs(
        run=config.name,
        tasks={name: verifier.TASKS[name] for name in names},
        workers=settings.workers,
        time_limit_s=settings.time_limit_s,
        memory_limit_mib=settings.memory_limit_mib,
        limits=verifier.VerifierLimits(
            # A run is never refused by its own verifier, whatever the size of its groups.
            max_responses_per_request=2**31,
            # As long as the run itself waits: checks that hang have their own limit, and the groups of a step
            # wait for each other's.
            timeout_s=config.rollout.timeout_s,
        ),
    )
