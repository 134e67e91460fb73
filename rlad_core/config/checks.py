"""Rules that no single field can state: what must agree between the sections of a run.

``run_problems`` looks at nothing but the recipe, so a recipe that was accepted once is accepted
wherever it is read again. What depends on the machine (model folders) is in ``models.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rlad_core.config.engines import EngineSettings, TeacherEngine
from rlad_core.config.evaluation_recipe import EvaluationRecipe
from rlad_core.config.judging import judging_problems
from rlad_core.config.lora import ENDS_WITHOUT_ADAPTERS, MOST_RANK
from rlad_core.config.run import REFERENCE, RunConfig, Stage
from rlad_core.config.teaching import task_problems, teaching_problems
from rlad_core.sections.problems import Problem


def evaluation_problems(config: EvaluationRecipe) -> list[Problem]:
    """The same for the recipe of an evaluation alone, see `run_problems`."""
    return [
        *_lengths(config),
        *_sampling(config),
        *_truncation(config),
        *task_problems(config),
        *_engine("rollout", config.rollout),
        *_cluster(config),
    ]


def run_problems(config: RunConfig) -> list[Problem]:
    """Everything in a recipe that cannot work together, each with what to write instead."""
    return [
        *evaluation_problems(config),
        *_budgets(config),
        *teaching_problems(config),
        *judging_problems(config),
        *(problem for index, stage in enumerate(config.stages) for problem in _stage(config, index, stage)),
        *_batches(config),
        *_staleness(config),
        *_schedule(config),
        *_updates(config),
        *_reference(config),
        *_devices(config),
    ]


def _lengths(config: EvaluationRecipe) -> Iterator[Problem]:
    limit = config.policy.max_length
    lengths = [("rollout.max_response_length", config.rollout.max_response_length)]
    if config.evaluation.max_response_length is not None:
        lengths.append(("evaluation.max_response_length", config.evaluation.max_response_length))
    for path, length in lengths:
        if length >= limit:
            yield Problem(
                path,
                length,
                f"leaves no room for a prompt in policy.max_length {limit}. Write less than {limit}, or "
                "raise policy.max_length",
            )
    if (longest := config.policy.max_prompt_length) is not None and longest >= limit:
        yield Problem(
            "policy.max_prompt_length",
            longest,
            f"leaves no room for a response in policy.max_length {limit}. Write less than {limit}",
        )


def _sampling(config: EvaluationRecipe) -> Iterator[Problem]:
    settings = config.evaluation
    if settings.samples > 1 and settings.temperature == 0:
        yield Problem(
            "evaluation.samples",
            settings.samples,
            "at temperature 0 all of them are the same. Write 1, or evaluation.temperature above 0",
        )


def _truncation(config: EvaluationRecipe) -> Iterator[Problem]:
    """The settings of the overlong penalty belong together."""
    rollout = config.rollout
    if rollout.truncated == "penalise":
        if rollout.overlong_buffer is None:
            yield Problem(
                "rollout.overlong_buffer",
                None,
                "truncated: penalise grows over so many tokens. Write a number, such as a fifth of "
                "rollout.max_response_length",
            )
        elif rollout.overlong_buffer > rollout.max_response_length:
            yield Problem(
                "rollout.overlong_buffer",
                rollout.overlong_buffer,
                f"is above rollout.max_response_length. Write at most {rollout.max_response_length}",
            )
        return
    for name in ("overlong_buffer", "overlong_penalty"):
        if (value := getattr(rollout, name)) != type(rollout).model_fields[name].default:
            yield Problem(
                f"rollout.{name}",
                value,
                f"has no effect with truncated: {rollout.truncated}. Write truncated: penalise, or leave it "
                "out",
            )


def _updates(config: RunConfig) -> Iterator[Problem]:
    learner = config.learner
    if learner.max_kl is not None and learner.updates_per_batch * learner.epochs_per_batch == 1:
        yield Problem(
            "learner.max_kl",
            learner.max_kl,
            "has no effect with a single update for each batch. Write null, or learner.epochs_per_batch: 2",
        )
    entropy = learner.adaptive_entropy
    if entropy is not None and entropy.start > entropy.most:
        yield Problem(
            "learner.adaptive_entropy.start", entropy.start, f"is above most. Write at most {entropy.most:g}"
        )


def _reference(config: RunConfig) -> Iterator[Problem]:
    if config.needs_reference and config.reference is None:
        yield Problem(
            "reference",
            None,
            "an objective has a reference_kl, or is exopd. Write reference: {kind: serve, model: ...}, with "
            "the model that the policy starts from",
        )
    if config.reference is not None and not config.needs_reference:
        yield Problem(
            "reference", config.reference.where, "no objective has a reference_kl. Write one, or null"
        )
    if config.reference is not None and config.reference.tasks is not None:
        yield Problem(
            "reference.tasks", list(config.reference.tasks), "a reference is asked of every task. Write null"
        )


def _schedule(config: RunConfig) -> Iterator[Problem]:
    learner = config.learner
    if not learner.min_lr:
        return
    if learner.schedule == "constant":
        yield Problem(
            "learner.min_lr",
            learner.min_lr,
            "has no effect with schedule: constant. Write 0, or schedule: cosine",
        )
    for index, stage in enumerate(config.stages):
        peak = stage.lr or learner.lr
        if learner.min_lr > peak:
            yield Problem(
                "learner.min_lr",
                learner.min_lr,
                f"is above the peak of stages.{index} ({stage.label}), {peak:g}. Write at most {peak:g}",
            )


def _budgets(config: RunConfig) -> Iterator[Problem]:
    limit = config.policy.max_length
    budgets = [("learner.tokens_per_micro_batch", config.learner.tokens_per_micro_batch, limit, "")]
    for place, teacher in config.served_teachers.items():
        longest = teacher.longest(limit)
        more = f" and {place}.prefix_tokens {teacher.prefix_tokens}" if longest > limit else ""
        budgets.append((f"{place}.max_tokens_per_batch", teacher.max_tokens_per_batch, longest, more))
    for path, budget, longest, more in budgets:
        if budget < longest:
            yield Problem(
                path,
                budget,
                f"the longest sequence (policy.max_length {limit}{more}) would not fit. Write {longest} or "
                "more",
            )


def _stage(config: RunConfig, index: int, stage: Stage) -> Iterator[Problem]:
    objective, path = stage.objective, f"stages.{index}.objective"
    if objective.uses_group_advantage and config.rollout.group_size < 2:
        yield Problem(
            "rollout.group_size",
            config.rollout.group_size,
            f"{path} ({objective.label}) compares the responses of a group, so one alone has no advantage. "
            "Write 2 or more (the paper: 8)",
        )
    yield from (replace(each, path=f"{path}.{each.path}") for each in objective.problems())
    if stage.until is not None:
        until = f"stages.{index}.until"
        if index == len(config.stages) - 1:
            yield Problem(until, None, "the last stage ends with the run. Write null, or a stage after it")
        found = stage.until.problems(
            evaluates=config.evaluation.every > 0, asks_teacher=objective.scores_with_teacher
        )
        yield from (replace(each, path=f"{until}.{each.path}".rstrip(".")) for each in found)
    if config.learner.warmup_steps > 0 and config.learner.warmup_steps >= stage.steps:
        yield Problem(
            "learner.warmup_steps",
            config.learner.warmup_steps,
            f"stages.{index} ({stage.label}) has {stage.steps} steps and would never reach its lr. "
            f"Write less than {stage.steps}",
        )


def _staleness(config: RunConfig) -> Iterator[Problem]:
    if not config.rollout.max_staleness:
        return
    for index, stage in enumerate(config.stages):
        if stage.until is not None:
            yield Problem(
                f"stages.{index}.until",
                None,
                f"may end the stage, and with rollout.max_staleness {config.rollout.max_staleness} groups "
                "are sampled for it ahead. Write null, or max_staleness: 0",
            )
        if getattr(stage.objective, "mismatch_cap", 0.0) is None:
            yield Problem(
                f"stages.{index}.objective.mismatch_cap",
                None,
                f"with rollout.max_staleness {config.rollout.max_staleness} tokens are those of older "
                "policies, and this weight alone corrects for it. Write 2.0, or max_staleness: 0",
            )


def _batches(config: RunConfig) -> Iterator[Problem]:
    rollout, learner = config.rollout, config.learner
    if rollout.prompts_per_step % learner.updates_per_batch:
        yield Problem(
            "rollout.prompts_per_step",
            rollout.prompts_per_step,
            f"cannot be split into learner.updates_per_batch {learner.updates_per_batch} equal parts "
            f"of whole groups. Write a multiple of {learner.updates_per_batch}",
        )
    groups = rollout.prompts_per_step // learner.updates_per_batch
    for index, stage in enumerate(config.stages):
        each = rollout.group_size if stage.objective.trains_on_rollouts else 1
        if groups * each < learner.workers:
            yield Problem(
                "learner.workers",
                learner.workers,
                f"stages.{index} ({stage.label}) has {groups * each} sequences for one update, less than one "
                f"a worker. Write {max(groups * each, 1)} or less, or raise rollout.prompts_per_step",
            )
    if rollout.refill_rounds and not rollout.drop_uninformative:
        yield Problem(
            "rollout.refill_rounds",
            rollout.refill_rounds,
            "nothing is dropped, so nothing is refilled. Write 0, or drop_uninformative: true",
        )


def _devices(config: RunConfig) -> Iterator[Problem]:
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
    for place, teacher in config.served_teachers.items():
        yield from _engine(place, teacher)
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
        if teacher.engine == "torch" and teacher.tensor_parallel_size > 1:
            yield Problem(
                f"{place}.tensor_parallel_size",
                teacher.tensor_parallel_size,
                "the torch engine runs on one device. Write 1, or engine: vllm",
            )
        if teacher.engine == "torch" and teacher.pipeline_parallel_size > 1:
            yield Problem(
                f"{place}.pipeline_parallel_size",
                teacher.pipeline_parallel_size,
                "the torch engine runs on one device. Write 1, or engine: vllm",
            )
        if teacher.engine == "torch" and teacher.engine_args:
            yield Problem(
                f"{place}.engine_args",
                teacher.engine_args,
                "are vLLM's, and the torch engine has none. Write {}, or engine: vllm",
            )


def _engine(section: str, engine: EngineSettings) -> Iterator[Problem]:
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


def _cluster(config: EvaluationRecipe) -> Iterator[Problem]:
    if config.cluster.address is not None:
        for field in ("num_cpus", "num_gpus"):
            value = getattr(config.cluster, field)
            if value is not None:
                yield Problem(
                    f"cluster.{field}",
                    value,
                    f"the cluster at {config.cluster.address} decides that. Write null",
                )
