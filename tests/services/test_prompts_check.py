"""The check of prompts around the command: on a cluster that alone has the files, and in a run's folder."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from rich.console import Console
from rlad_command import Said

from rlad_core.config import RunConfig, resolve_model, validate
from rlad_core.prompt_checks import PromptsRefusedError
from services.prompts import check_here, files_elsewhere, on_cluster, policy_folder
from services.prompts.checking import tokenizer_of
from services.prompts.on_cluster import check_on_cluster
from services.prompts.shown import Shown
from services.run.prompts import PromptsOfRun
from services.run.watch import Watcher

LONG = "1 " * 300


def recipe(folder: Path, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "held.jsonl").write_text('{"question": "9?", "answer": 9}\n')
    values = {
        "name": "checked",
        "policy": {"model": "tiny:student", "init": "random", "max_length": 144},
        "task": {
            "name": "math",
            "train": {"files": [str(folder / "train.jsonl")]},
            "evaluation": {"files": [str(folder / "held.jsonl")]},
        },
        "rollout": {"max_response_length": 16},
        "stages": [{"steps": 3, "objective": {"kind": "grpo"}}],
        "output": {"dir": str(folder / "runs")},
    }
    return values | more


GOOD, BAD = {"question": "1?", "answer": 1}, {"question": LONG, "answer": 1}


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return validate(recipe(tmp_path, GOOD, BAD), "the test")


@pytest.mark.slow
def test_the_cluster_finds_the_same_and_brings_refusals_whole(
    ray_cluster: None, config: RunConfig, tmp_path: Path
) -> None:
    console = Console(file=io.StringIO())
    with policy_folder(config) as folder:
        here = check_here(config, folder, console)
        assert check_on_cluster(config, folder, console) == here
        assert check_on_cluster(config, folder, console, here).digest == here.digest
        strict = config.model_copy(update={"strict": True})
        with pytest.raises(PromptsRefusedError, match="1 prompt cannot be used") as refused:
            check_on_cluster(strict, folder, console)
    assert refused.value.dropped == tuple(here.dropped)


@pytest.mark.slow
def test_a_check_that_stands_still_is_not_waited_for_for_ever(ray_cluster: None) -> None:
    @ray.remote(num_cpus=0)
    class Still:
        async def check(self) -> None:
            await asyncio.Event().wait()

        async def progress(self) -> tuple[str, int, int]:
            return ("reading", 3, 9)

    still = Still.remote()
    ray.get(still.progress.remote(), timeout=120)
    waited = r"waited 1 s \(cluster.start_timeout_s\) for the cluster to check the prompts"
    with Shown(Console(file=io.StringIO())) as shown, pytest.raises(PromptsRefusedError, match=waited):
        on_cluster._wait(still.check.remote(), still, shown, 1.0)
    ray.kill(still)


def test_files_that_only_a_cluster_has(
    tmp_path: Path, rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = recipe(tmp_path, GOOD)
    values["task"]["train"]["files"] = ["/only/there/train.parquet"]
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    refused = rlad("plan", str(tmp_path / "recipe.yaml"))
    assert (refused.code, "there is no such file" in refused.err) == (2, True)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    said = rlad("plan", str(tmp_path / "recipe.yaml"), "--data")
    assert said.code == 0
    assert "not checked, for the cluster may have them: /only/there/train.parquet" in said.out
    assert files_elsewhere(validate(values, "the test")) == ["/only/there/train.parquet"]
    values["policy"] |= {"model": "/only/there/policy", "init": "pretrained"}
    assert files_elsewhere(validate(values, "the test"))[0] == "/only/there/policy"
    (tmp_path / "recipe.yaml").write_text(json.dumps(values))
    said = rlad("plan", str(tmp_path / "recipe.yaml"), "--data")
    assert (said.code, "policy.model /only/there/policy: is not here" in said.out) == (0, True)
    with pytest.raises(PromptsRefusedError, match="there is no folder /only/there/policy on "):
        tokenizer_of("/only/there/policy")


def test_a_broken_tokenizer_is_refused_in_words(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(resolve_model("rlad:kk-student"), tmp_path / "model"))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(PromptsRefusedError, match=r"tokenizer of .*model cannot be loaded"):
        tokenizer_of(str(folder))


def test_a_run_keeps_what_it_found_and_goes_on_with_it(config: RunConfig, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    shown = io.StringIO()
    watcher = Watcher(Console(file=shown, width=200), 3)
    with policy_folder(config) as folder:
        first = PromptsOfRun(config, folder, run_dir, watcher)
        first.check_here()
        selection = first.selection()
        assert len(selection.training) == 1
        assert "1 prompt to train on, 1 held out" in shown.getvalue()
        assert f"all of them, with their reasons: {run_dir}/dropped.jsonl" in shown.getvalue()
        policy = config.policy.model_copy(update={"max_length": 1000})
        again = PromptsOfRun(config.model_copy(update={"policy": policy}), folder, run_dir, watcher)
        again.check_here()
        assert again.selection() == selection


@pytest.mark.parametrize(("more", "code"), [({}, 0), ({"strict": True}, 2)])
def test_plan_reports_as_a_run_does(
    tmp_path: Path, rlad: Callable[..., Said], more: dict[str, Any], code: int
) -> None:
    rows = [GOOD, *({"question": f"{place}", "answer": None} for place in range(12))]
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe(tmp_path, *rows, **more)))
    said = rlad("plan", str(tmp_path / "recipe.yaml"), "--data")
    assert said.code == code
    printed = said.err if code else said.out
    assert "left out: 12 of training" in printed
    assert printed.count("nothing in column answer") == 10
    assert "and 2 more" in printed
    file = tmp_path / "runs" / "dropped-checked.jsonl"
    assert str(file) in printed
    assert len(file.read_text().splitlines()) == 12


def test_a_run_that_is_refused_leaves_its_name_free(tmp_path: Path, rlad: Callable[..., Said]) -> None:
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe(tmp_path, GOOD, BAD, strict=True)))
    for _ in range(2):
        said = rlad("run", str(tmp_path / "recipe.yaml"))
        assert said.code == 2
        assert "1 prompt cannot be used, and the recipe says strict: true" in said.err
        assert "train.jsonl, line 2: has 316 tokens, and policy.max_length is 144" in said.err
    assert (tmp_path / "runs" / "dropped-checked.jsonl").is_file()
