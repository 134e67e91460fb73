"""What a run would be, as tables: its stages, and what would start where."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from rlad_core.config import PolicyTeacher, RunConfig, ServeTeacher, TeacherSection
from rlad_core.config.mixing import weighs
from services.report.stage_ends import rules_said, steps_said

_MEAN_OF = {"probabilities": "probabilities", "logprobs": "log-probs"}


def describe(config: RunConfig) -> list[Table]:
    """Two tables: the stages, and the processes with what each reserves."""
    return [_stages(config), _processes(config)]


def _stages(config: RunConfig) -> Table:
    table = Table("stage", "steps", "objective", "learning rate", "responses a step", title="Stages")
    lengths = zip(config.stages, steps_said(config), rules_said(config), strict=True)
    for stage, steps, rules in lengths:
        objective = stage.objective
        settings = ", ".join(
            f"{name}={value}" for name, value in objective.model_dump(exclude={"kind"}).items()
        )
        group = objective.responses_to_a_prompt(config.rollout.group_size)
        table.add_row(
            stage.label,
            f"{steps}, until {rules}" if rules else steps,
            f"{objective.label} ({settings})",
            f"{stage.lr or config.learner.lr:g}",
            f"{config.rollout.prompts_per_step} x {group}",
        )
    return table


def _processes(config: RunConfig) -> Table:
    where = config.cluster.address or "embedded Ray on this machine"
    table = Table(
        "what", "how many", "model or engine", "CPUs each", "GPUs each", title=f"Starts on: {where}"
    )
    for row in _rows(config):
        table.add_row(*row)
    return table


def _rows(config: RunConfig) -> Iterator[tuple[str, ...]]:
    rollout, learner = config.rollout, config.learner
    yield (
        "rollout service",
        str(rollout.num_replicas),
        f"vLLM, {config.policy.model}, {config.policy.dtype}",
        f"{rollout.num_cpus:g}",
        f"{rollout.num_gpus:g}",
    )
    several = len(config.teacher_sections) > 1
    if any(map(weighs, config.teacher_sections.values())):
        yield "teachers mixed", "-", f"by the weighted mean of {_MEAN_OF[config.mixture]}", "-", "-"
    uses = {"teacher service": config.scores_with_teacher, "teacher as demonstrator": config.demonstrates}
    for teacher in config.teacher_sections.values():
        taught = f" for {', '.join(teacher.tasks)}" if several and teacher.tasks else ""
        taught += f", weight {_weight(teacher)}" if weighs(teacher) else ""
        taught += ", privileged" if teacher.prefix is not None else ""
        if isinstance(teacher, PolicyTeacher) and not config.scores_with_teacher:
            continue
        where = "in the learner" if isinstance(teacher, PolicyTeacher) else "elsewhere"
        yield from _scorer(
            teacher, f"teacher {where}{taught}", [what + taught for what, used in uses.items() if used]
        )
    if config.reference is not None:
        yield from _scorer(config.reference, "reference elsewhere", ["reference service"])
    tasks = ", ".join(task.label for task in config.task_sections.values())
    yield "verifier service", "1", tasks, "1", "0"
    yield (
        "learner (FSDP2)",
        str(learner.workers),
        f"{'NCCL' if learner.num_gpus else 'gloo'}, weights by {config.weights.transfer}",
        f"{learner.num_cpus:g}",
        f"{learner.num_gpus:g}",
    )


def _scorer(section: TeacherSection, elsewhere: str, here: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """A teacher's lines, or the reference's: what runs elsewhere, or the services that are started here."""
    if not isinstance(section, ServeTeacher):
        yield elsewhere, "-", f"{section.kind}, {section.where}", "-", "-"
        return
    for what in here:
        yield (
            what,
            str(section.num_replicas),
            f"{section.engine}, {section.model}, {section.dtype}",
            f"{section.num_cpus:g}",
            f"{section.num_gpus:g}",
        )


def _weight(teacher: TeacherSection) -> str:
    if teacher.weight_column is not None:
        return f"by column {teacher.weight_column}"
    if isinstance(teacher.weight, dict):
        return ", ".join(f"{weight:g} for {task}" for task, weight in teacher.weight.items())
    return f"{teacher.weight:g}"
