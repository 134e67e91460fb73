"""``rlad evaluate``: a model's accuracy on held-out puzzles, through the same services as in a run."""

from typing import Any

import ray
from ray import serve
from rich.table import Table

from rlad_core.config import RunConfig, resolve_model, validate
from rlad_core.evaluation import EvaluationRow
from services import rollout, verifier
from services.app import rollout_args, run_services
from services.cluster import cluster
from services.experience import ExperienceCollector


def evaluation_recipe(
    *, model: str, task: str, people: list[int], count: int, samples: int, split: str, seed: int,
    temperature: float, top_p: float, max_response_length: int, max_length: int,
) -> RunConfig:  # fmt: skip
    """The recipe of a run that only evaluates.

    Raises:
        ConfigError: a value is impossible.
    """
    recipe: dict[str, Any] = {
        "name": "evaluation",
        "seed": seed,
        "policy": {"model": model, "max_length": max_length},
        "task": {
            "name": task,
            "train": {"people": people, "count": len(people)},
            "evaluation": {"people": people, "count": count, "split": split},
        },
        "rollout": {"max_response_length": max_response_length},
        "stages": [{"steps": 1, "objective": {"kind": "sft"}}],
        "evaluation": {"samples": samples, "temperature": temperature, "top_p": top_p},
    }
    return validate(recipe, "the command line")


def measure(config: RunConfig) -> Table:
    """Start a rollout and a verifier service, evaluate, and take them down."""
    folder = resolve_model(config.policy.model)
    with cluster(config):
        args = rollout_args(config, folder).model_copy(update={"policy_store": None})
        serve.run(rollout.build(args), name="evaluation-rollout", route_prefix=None)
        serve.run(verifier.build(verifier.VerifierArgs()), name="evaluation-verifier", route_prefix=None)
        collector = (
            ray.remote(ExperienceCollector).options(num_cpus=0).remote(config, folder, run_services(config))
        )
        rows: list[EvaluationRow] = ray.get(collector.evaluate.remote(0), timeout=config.rollout.timeout_s)
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
