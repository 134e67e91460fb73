"""``rlad evaluate``: a model's accuracy on held-out prompts, through the same services as in a run."""

from typing import Any

import ray
from rich.table import Table

from rlad_core.config import RunConfig, resolve_model, validate
from rlad_core.evaluation import EvaluationRow
from services import rollout, verifier
from services.app import rollout_args, run_services, verifier_args
from services.cluster import cluster
from services.deployment import deployed
from services.experience import ExperienceCollector


def puzzles(people: list[int], count: int, split: str) -> dict[str, Any]:
    """The section `task` for `count` puzzles of each size."""
    return {
        "name": "knights_knaves",
        "train": {"people": people, "count": len(people)},
        "evaluation": {"people": people, "count": count, "split": split},
    }


def problems(files: list[str], file_format: str, count: int | None) -> dict[str, Any]:
    """The section `task` for `count` problems of each data file, or all of them."""
    wanted = {"files": [{"path": path, "format": file_format, "count": count} for path in files]}
    return {"name": "math", "train": wanted, "evaluation": wanted}


def evaluation_recipe(
    *, model: str, task: dict[str, Any], samples: int, seed: int, temperature: float, top_p: float,
    max_response_length: int, max_length: int, timeout_s: float,
) -> RunConfig:  # fmt: skip
    """The recipe of a run that only evaluates.

    Raises:
        ConfigError: a value is impossible.
    """
    recipe: dict[str, Any] = {
        "name": "evaluation",
        "seed": seed,
        "policy": {"model": model, "max_length": max_length},
        "task": task,
        "rollout": {"max_response_length": max_response_length, "timeout_s": timeout_s},
        # A recipe has a stage; this one's is never begun.
        "stages": [{"steps": 1, "objective": {"kind": "grpo"}}],
        "evaluation": {"samples": samples, "temperature": temperature, "top_p": top_p},
    }
    return validate(recipe, "the command line")


def measure(config: RunConfig) -> Table:
    """Start a rollout and a verifier service, evaluate, and take them down.

    Raises:
        TimeoutError: not done within ``rollout.timeout_s``.
        DeploymentError: a service did not start.
    """
    folder = resolve_model(config.policy.model)
    args = rollout_args(config, folder).model_copy(update={"policy_store": None})
    apps = {
        f"{config.name}-rollout": rollout.build(args),
        f"{config.name}-verifier": verifier.build(verifier_args(config)),
    }
    start_limit_s, limit_s = config.cluster.start_timeout_s, config.rollout.timeout_s
    with (
        cluster(config),
        deployed(apps, timeout_s=start_limit_s, setting="cluster.start_timeout_s", take_down=False),
    ):
        collector = (
            ray.remote(ExperienceCollector).options(num_cpus=0).remote(config, folder, run_services(config))
        )
        try:
            rows: list[EvaluationRow] = ray.get(collector.evaluate.remote(0), timeout=limit_s)
        except ray.exceptions.GetTimeoutError as error:
            raise TimeoutError(
                f"waited {limit_s:g} s for the evaluation; raise --timeout or lower --count"
            ) from error
    return evaluation_rows_table(rows)


def evaluation_rows_table(rows: list[EvaluationRow]) -> Table:
    """Accuracy with its interval, Pass@k where there is more than one sample, and how many were cut off."""
    k = rows[0].k
    table = Table("subset", "puzzles", f"Mean@{rows[0].samples}", "95% interval", f"Pass@{k}", "cut off")
    for row in rows:
        table.add_row(
            row.subset,
            str(row.puzzles),
            f"{row.accuracy:.1%}",
            f"{row.interval.low:.1%} .. {row.interval.high:.1%}",
            f"{row.pass_at_k:.1%}",
            f"{row.truncated} of {row.puzzles * row.samples}",
        )
    return table
