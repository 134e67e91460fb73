"""What a run would take of memory and time on GPUs of one kind, as tables."""

from collections.abc import Sequence

from rich.table import Table

from rlad_core.config import RunConfig
from rlad_core.config.run import Stage
from rlad_core.sections.problems import Problem
from rlad_core.sizing import (
    GIB,
    Gpu,
    Need,
    StageTime,
    balanced,
    evaluation_seconds,
    needs,
    problems,
    shape_of,
    step_seconds,
    store_problems,
    times,
    works_ahead,
)


def sizes(config: RunConfig, gpu: Gpu) -> tuple[list[Table], list[Problem]]:
    """Tables of memory and of a step's stages, and what cannot fit.

    Roles on CPUs are shown and not judged: every host has another amount of memory. Without a role on GPUs
    there is no table of times.
    """
    found = needs(config, gpu)
    if not found:
        return [], []
    tables = [_memory(found, gpu)]
    shown = {(stage.label, *times(config, stage, gpu)): stage for stage in config.stages}
    tables += [_times(config, stage, gpu) for (_, *timed), stage in shown.items() if timed]
    return tables, [*problems(found, gpu), *store_problems(config)]


def unknown(config: RunConfig) -> list[str]:
    """Places and names of models that are in no table of sizes, for theirs is not known here."""
    models = {"policy.model": config.policy.model}
    models |= {f"{place}.model": teacher.model for place, teacher in config.served_teachers.items()}
    return [f"{place} {model}" for place, model in models.items() if shape_of(model) is None]


def slow_evaluation(config: RunConfig, gpu: Gpu) -> str | None:
    """A sentence where an evaluation may outlast who waits for it; None: it may not, or nobody knows."""
    parts = [part for task in config.task_sections.values() for part in task.evaluation_parts]
    counts, limit = [part.count for part in parts if part.count is not None], config.learner.timeout_s
    if not counts or len(counts) < len(parts):  # files say it when they are read
        return None
    seconds = evaluation_seconds(config, sum(counts), gpu)
    if seconds is None or seconds < limit:
        return None
    return (
        f"An evaluation takes {seconds:,.0f} s if all answers are as long as they may be, and the learner "
        f"waits {limit:,g} s for it: raise learner.timeout_s, or lower evaluation.samples"
    )


def _memory(found: Sequence[Need], gpu: Gpu) -> Table:
    on_gpus = any(need.gpus for need in found)
    of = f", of {gpu.memory / GIB:.0f} GiB of a {gpu.name}" if on_gpus else ""
    columns = ("GPU GiB", "host GiB") if on_gpus else ("host GiB",)
    table = Table("what", *columns, "of which", "so that", title=f"Memory of each process{of} (estimated)")
    for need in found:
        parts = sorted([*need.parts.items(), *need.host.items()], key=lambda part: -part[1])
        most = max((size for _, size in parts), default=0.0)
        shown = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts if size and size >= 0.05 * most)
        on_host = sum(need.host.values()) + (0.0 if need.gpus else need.total)
        sizes = {"GPU GiB": need.total if need.gpus else 0.0, "host GiB": on_host}
        table.add_row(need.role, *(_gib(sizes[column]) for column in columns), shown, need.note)
    return table


def _seconds(stage: StageTime) -> str:
    if not stage.beside_update:
        return f"{stage.seconds:,.1f}"
    return f"{stage.seconds:,.1f}, then {stage.beside_update:,.1f} beside the update"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}" if size else "-"


def _times(config: RunConfig, stage: Stage, gpu: Gpu) -> Table:
    found, split = times(config, stage, gpu), balanced(config, stage, gpu)
    ahead = works_ahead(config)
    longest = max(found, key=lambda each: each.seconds + (each.beside_update if ahead else 0.0))
    before, after = step_seconds(found, ahead=ahead), step_seconds(split, ahead=ahead)
    better = after < 0.95 * before
    how = ", sampled ahead," if ahead else ""
    table = Table(
        "stage", "GPUs", "tokens", "PFLOP", "seconds at most", "replicas wanted",
        title=f"A step of {stage.label} on {gpu.name}: {before:.0f} s{how} if all responses are as long as "
        "they may be (estimated)",
        caption=f"{longest.stage} takes longest" + (f"; split so, {after:.0f} s" if better else ""),
    )  # fmt: skip
    for each, wished in zip(found, split, strict=True):
        table.add_row(
            each.stage, f"{each.gpus:g}", f"{each.tokens:,.0f}", f"{each.flops / 1e15:,.1f}",
            _seconds(each), f"{wished.gpus / each.unit:g}" if each.unit >= 1 else "-",
        )  # fmt: skip
    return table
