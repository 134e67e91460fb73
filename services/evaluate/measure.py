"""``rlad evaluate``: a model's accuracy on held-out prompts, through the same services as in a run."""

from functools import partial

import ray
from rich.console import Console
from rich.table import Table

from rlad_core.config import EvaluationRecipe, resolve_model
from rlad_core.evaluation import EvaluationRow
from services.clients.calls import answer_of
from services.evaluate.evaluator import Evaluator
from services.prompts import check_here, tell, write_beside
from services.rollout import service as rollout
from services.rollout.settings import RolloutArgs
from services.serve.cluster import cluster
from services.serve.deployment import deployed
from services.verifier import service as verifier
from services.verifier.settings import VerifierArgs

_CPUS = 6  # logical: Serve's proxy and controller, the evaluator, and what the two services reserve


def measure(recipe: EvaluationRecipe, console: Console) -> list[EvaluationRow]:
    """Check the prompts, start a rollout and a verifier service, evaluate, and take them down.

    Raises:
        PromptsRefusedError: the prompts cannot be used.
        TimeoutError: not done within ``rollout.timeout_s``.
        DeploymentError: a service did not start.
    """
    folder = resolve_model(recipe.policy.model)
    checked = check_here(recipe, folder, console)
    tell(checked, partial(console.print, markup=False, soft_wrap=True), write_beside(checked.dropped, recipe))
    apps = {
        f"{recipe.name}-rollout": rollout.build(RolloutArgs.of_run(recipe, folder)),
        f"{recipe.name}-verifier": verifier.build(VerifierArgs.of_run(recipe)),
    }
    start_limit_s, limit_s = recipe.cluster.start_timeout_s, recipe.rollout.timeout_s
    with (
        cluster(recipe.cluster, wanted_cpus=_CPUS, metrics_port=recipe.telemetry.metrics_port),
        deployed(apps, timeout_s=start_limit_s, setting="cluster.start_timeout_s", take_down=False),
    ):
        evaluator = (
            ray.remote(Evaluator).options(num_cpus=0).remote(recipe, folder, selection=checked.selection)
        )
        what = "the evaluation; raise --timeout or lower --count"
        rows: list[EvaluationRow] = answer_of(evaluator.evaluate.remote(0), timeout_s=limit_s, what=what)
    return rows


def accuracy_table(rows: list[EvaluationRow]) -> Table:
    """Accuracy with its interval, Pass@k where there is more than one sample, and how many were cut off."""
    k = rows[0].k
    table = Table("subset", "prompts", f"Mean@{rows[0].samples}", "95% interval", f"Pass@{k}", "cut off")
    for row in rows:
        table.add_row(
            row.subset,
            str(row.prompts),
            f"{row.accuracy:.1%}",
            f"{row.interval.low:.1%} .. {row.interval.high:.1%}",
            f"{row.pass_at_k:.1%}",
            f"{row.truncated} of {row.prompts * row.samples}",
        )
    return table
