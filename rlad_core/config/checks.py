"""Rules that no single field can state: what must agree between the sections of a run.

``run_problems`` looks at nothing but the recipe, so a recipe that was accepted once is accepted
wherever it is read again. What depends on the machine (model folders) is in ``models.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from rlad_core.config.devices import device_problems, engine_problems
from rlad_core.config.evaluation_recipe import EvaluationRecipe
from rlad_core.config.judging import judging_problems
from rlad_core.config.run import RunConfig, Stage
from rlad_core.config.staging import stage_problems, staleness_problems
from rlad_core.config.teaching import task_problems, teaching_problems
from rlad_core.sections.problems import Problem


def evaluation_problems(config: EvaluationRecipe) -> list[Problem]:
    """The same for the recipe of an evaluation alone, see `run_problems`."""
    return [
        *_lengths(config),
        *_sampling(config),
        *_at_a_time(config),
        *_truncation(config),
        *task_problems(config),
        *engine_problems("rollout", config.rollout),
        *_cluster(config),
    ]


def run_problems(config: RunConfig) -> list[Problem]:
    """Everything in a recipe that cannot work together, each with what to write instead."""
    return [
        *evaluation_problems(config),
        *_budgets(config),
        *teaching_problems(config),
        *judging_problems(config),
        *stage_problems(config),
        *_batches(config),
        *staleness_problems(config),
        *_schedule(config),
        *_best(config),
        *_updates(config),
        *_reference(config),
        *device_problems(config),
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


def _at_a_time(config: EvaluationRecipe) -> Iterator[Problem]:
    """vLLM refuses an engine that cannot give each of its responses a token in one step."""
    rollout = config.rollout
    # On CPUs a whole prompt goes into a step, see `services.rollout.settings.engine_args`.
    tokens = max(rollout.max_num_batched_tokens, 0 if rollout.num_gpus else config.policy.max_length)
    if tokens < rollout.max_num_seqs:
        yield Problem(
            "rollout.max_num_batched_tokens",
            rollout.max_num_batched_tokens,
            f"is less than a token for each of rollout.max_num_seqs {rollout.max_num_seqs} responses. Write "
            f"{rollout.max_num_seqs} or more, or lower max_num_seqs",
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


def _best(config: RunConfig) -> Iterator[Problem]:
    """Checkpoints are compared by what was measured after the same step."""
    every = (config.evaluation.every, config.learner.checkpoint_every)
    if config.output.keep_best and (0 in every or math.lcm(*every) >= config.total_steps):
        yield Problem(
            "output.keep_best",
            config.output.keep_best,
            "no checkpoint but the last has an accuracy: at no step before the end are evaluation.every "
            f"{every[0]} and learner.checkpoint_every {every[1]} both due. Write the same for both",
        )


def _budgets(config: RunConfig) -> Iterator[Problem]:
    limit = config.policy.max_length
    learner, more = config.learner.tokens_per_micro_batch, ""
    if config.learner_reads > limit:
        [(place, own)] = config.teacher_sections.items()
        more = f" and {place}.prefix_tokens {own.prefix_tokens}"
    budgets = [("learner.tokens_per_micro_batch", learner, config.learner_reads, more)]
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
        each = stage.objective.responses_to_a_prompt(rollout.group_size)
        if groups * each < learner.workers:
            yield Problem(
                "learner.workers",
                learner.workers,
                f"stages.{index} ({stage.label}) has {groups * each} sequences for one update, less than one "
                f"a worker. Write {max(groups * each, 1)} or less, or raise rollout.prompts_per_step",
            )
    if rollout.refill_rounds and not any(_drops(config, stage) for stage in config.stages):
        dropping = rollout.drop_uninformative
        way_out = "an objective that compares rewards" if dropping else "drop_uninformative: true"
        yield Problem(
            "rollout.refill_rounds",
            rollout.refill_rounds,
            f"nothing is dropped, so nothing is refilled. Write 0, or {way_out}",
        )


def _drops(config: RunConfig, stage: Stage) -> bool:
    """Whether a stage leaves groups out: those whose rewards are all equal, or without a right response."""
    if stage.objective.trains_on_rollouts:
        return stage.objective.uses_group_advantage and config.rollout.drop_uninformative
    return stage.objective.responses_of == "teacher"


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
