"""What of a run must agree with its devices: GPUs of engines and ranks, what sleeps, how weights travel."""

from __future__ import annotations

from collections.abc import Iterator

from rlad_core.config.engines import EngineSettings, TeacherEngine
from rlad_core.config.lora import ENDS_WITHOUT_ADAPTERS, MOST_RANK
from rlad_core.config.run import REFERENCE, RunConfig
from rlad_core.objectives import Objective
from rlad_core.sections.problems import Problem


def device_problems(config: RunConfig) -> Iterator[Problem]:
    """Where settings and devices do not fit each other, each with what to write instead."""
    yield from _hand_over(config)
    yield from _ranks(config)
    yield from _fused(config)
    yield from _sleep(config)
    for place, teacher in config.served_teachers.items():
        yield from engine_problems(place, teacher)
        yield from _teacher(config, place, teacher)


def engine_problems(section: str, engine: EngineSettings) -> Iterator[Problem]:
    """Where the GPUs of a replica are not those that its engine spans."""
    stages = engine.pipeline_parallel_size if isinstance(engine, TeacherEngine) else 1
    spans, gpus = engine.tensor_parallel_size * stages, engine.num_gpus
    if spans > 1 and gpus != spans:
        of_stages = f" times {section}.pipeline_parallel_size" if stages > 1 else ""
        yield Problem(
            f"{section}.num_gpus",
            gpus,
            f"a replica reserves whole GPUs, {section}.tensor_parallel_size{of_stages} of them. "
            f"Write {spans}",
        )
    if spans == 1 and gpus > 1:
        yield Problem(
            f"{section}.num_gpus",
            gpus,
            f"only 1 of them would be used. Write 1, or {section}.tensor_parallel_size: {int(gpus)}",
        )


def _hand_over(config: RunConfig) -> Iterator[Problem]:
    if config.weights.transfer != "object_store":
        for section in ("rollout", "learner"):
            gpus = getattr(config, section).num_gpus
            if gpus < 1:
                yield Problem(
                    "weights.transfer",
                    config.weights.transfer,
                    f"moves weights between whole GPUs, and {section}.num_gpus is {gpus:g}. Write "
                    "object_store, or give each its own GPU",
                )
    learner = config.learner
    if learner.lora is not None and (ends := ENDS_WITHOUT_ADAPTERS & set(learner.lora.modules)):
        yield Problem(
            "learner.lora.modules",
            list(learner.lora.modules),
            f"embedding and head have no adapters: log-probs are computed from their weights. Leave "
            f"{', '.join(sorted(ends))} out",
        )
    if (adapter := learner.published_adapter) is not None:
        if config.weights.transfer != "object_store":
            yield Problem(
                "weights.transfer", config.weights.transfer, "pushes whole models. Write object_store, or "
                "learner.lora.publish: merged",
            )  # fmt: skip
        if adapter.rank > MOST_RANK:
            yield Problem(
                "learner.lora.rank",
                adapter.rank,
                f"is more than vLLM takes of an adapter. Write at most {MOST_RANK}, or publish: merged",
            )


def _ranks(config: RunConfig) -> Iterator[Problem]:
    learner = config.learner
    if learner.num_gpus > 1:
        yield Problem(
            "learner.num_gpus",
            learner.num_gpus,
            "a worker is one rank on one device. Write 1, and more workers",
        )
    if learner.workers > 1 and 0 < learner.num_gpus < 1:
        yield Problem(
            "learner.num_gpus",
            learner.num_gpus,
            "NCCL wants a GPU for each of several workers. Write 1 (or 0: CPU)",
        )
    size = learner.fsdp_size
    if size is not None and learner.workers % size:
        yield Problem(
            "learner.fsdp_size",
            size,
            f"copies of equal size need a divisor of learner.workers {learner.workers}. Write one, or null",
        )


def _fused(config: RunConfig) -> Iterator[Problem]:
    """A kernel of GPUs for 16 bits, which gives no entropy."""
    learner = config.learner
    if learner.logprobs != "fused":
        return
    if not learner.num_gpus:
        why, way_out = "is a kernel of GPUs, and learner.num_gpus is 0", "Write chunked"
    elif config.policy.dtype == "float32":
        why, way_out = "computes in 16 bits, and policy.dtype is float32", "Write chunked, or dtype: bfloat16"
    elif learner.entropy_every == 1:
        why = "gives no entropy, and learner.entropy_every 1 measures it in every step"
        way_out = "Write chunked, or entropy_every: 10"
    elif learner.adaptive_entropy is not None:
        why = "gives no entropy, and learner.adaptive_entropy goes by that of every step"
        way_out = "Write chunked, or adaptive_entropy: null"
    elif not any(_has_fused_passes(stage.objective) for stage in config.stages):
        why = "gives the response's own tokens alone, and every stage wants more of each place"
        way_out = "Write chunked"
    else:
        return
    yield Problem("learner.logprobs", learner.logprobs, f"{why}. {way_out}")


def _has_fused_passes(objective: Objective) -> bool:
    """Whether some pass under it wants one log-prob of each place, and no entropy."""
    wants_more = objective.teacher_top_k or objective.policy_top_k or objective.hidden_alpha(0) is not None
    return not (wants_more or objective.needs_entropy)


def _sleep(config: RunConfig) -> Iterator[Problem]:
    sleeping = ["rollout"] if config.rollout.sleep else []
    sleeping += [place for place, teacher in config.served_teachers.items() if teacher.sleep]
    if sleeping and config.slots > config.rollout.prompts_per_step:
        yield Problem(
            "rollout.max_staleness",
            config.rollout.max_staleness,
            f"has engines at work while the learner is, and {sleeping[0]}.sleep has them asleep then. Write "
            "0, or sleep: false",
        )
    if config.rollout.sleep and not config.rollout.num_gpus:
        yield Problem("rollout.sleep", True, "is vLLM's, which has it on GPUs alone. Write false")


def _teacher(config: RunConfig, place: str, teacher: TeacherEngine) -> Iterator[Problem]:
    answers = config.demonstrates and place != REFERENCE
    if teacher.sleep and not teacher.num_gpus and (teacher.engine == "vllm" or answers):
        advice = "false: a stage trains on its responses" if answers else "false, or engine: torch"
        yield Problem(f"{place}.sleep", True, f"is vLLM's, which has it on GPUs alone. Write {advice}")
    if answers and teacher.pipeline_parallel_size > 1:
        yield Problem(
            f"{place}.pipeline_parallel_size",
            teacher.pipeline_parallel_size,
            "a teacher whose responses a stage trains on runs as a rollout engine, on one node. Write 1, "
            "and as many more tensor_parallel_size",
        )
    if teacher.engine != "torch":
        return
    for field in ("tensor_parallel_size", "pipeline_parallel_size"):
        if (size := getattr(teacher, field)) > 1:
            told = "the torch engine runs on one device. Write 1, or engine: vllm"
            yield Problem(f"{place}.{field}", size, told)
    if teacher.engine_args:
        yield Problem(
            f"{place}.engine_args",
            teacher.engine_args,
            "are vLLM's, and the torch engine has none. Write {}, or engine: vllm",
        )
