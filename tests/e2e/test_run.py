"""Whole runs through the command line: real Ray, real vLLM, the shipped tiny models, real HTTP."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from rlad_command import Said
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlad_core import schema
from rlad_core.config import load, resolve_model
from rlad_core.evaluation import rows_of
from runs import check_every_group_once, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_a_run_leaves_its_record(finished_run: tuple[Path, str]) -> None:
    run_dir, printed = finished_run
    check_every_group_once(run_dir)
    for row in rows(run_dir / "metrics.jsonl"):
        assert row["version"] == row["step"] + 1
        assert {"assemble", "update", "step"} <= row["seconds"].keys()
        if not row["stage"].startswith("sft"):
            assert {"rollout", "verify"} <= row["seconds"].keys()
            assert row["staleness_max"] == 0
    evaluations = rows(run_dir / "evaluation.jsonl")
    assert {(row["when"], row["subset"]) for row in evaluations} >= {
        (when, subset) for when in ("before", "after") for subset in ("2_people", "3_people")
    }
    assert all(row["total"] == 20 for row in evaluations if row["subset"] not in ("average", "all"))
    # Every response that was judged is kept, and comes to what is recorded.
    for when in ("before", "after"):
        [kept] = (run_dir / "evaluations").glob(f"*-{when}.parquet")
        answers = schema.from_parquet(kept)
        assert set(answers.column_names) >= {"response", "verdict", "fault", "rollout_logprobs"}
        recorded = {row["subset"]: row["accuracy"] for row in evaluations if row["when"] == when}
        assert {row.subset: row.accuracy for row in rows_of(answers)} == pytest.approx(recorded)
    assert "Change on the same problems" in (run_dir / "report.html").read_text()
    assert (run_dir / "report.html").stat().st_size > 10_000
    assert list((run_dir / "tensorboard").iterdir())
    for part in ("2 people", "report.html", "export"):
        assert part in printed


def test_a_finished_run_that_is_resumed_starts_nothing(
    finished_run: tuple[Path, str], rlad: Callable[..., Said]
) -> None:
    """As by a scheduler, which gives the command again."""
    run_dir, _ = finished_run
    written = (run_dir / "export" / "model.safetensors").stat().st_mtime_ns
    for way in ("--resume", "--restartable"):
        said = rlad("run", str(run_dir / "recipe.yaml"), way)
        assert said.code == 0, said.err
        assert "steps are done, nothing is started" in said.out
        assert str(run_dir / "export") in said.out
        assert "starting Ray" not in said.out
    assert (run_dir / "export" / "model.safetensors").stat().st_mtime_ns == written


def test_the_learner_and_the_engines_agree(finished_run: tuple[Path, str]) -> None:
    """Rollout log-probs and the learner's, teacher scores and a transformers forward, on real experience."""
    run_dir, _ = finished_run
    steps = rows(run_dir / "metrics.jsonl")
    trained = [row for row in steps if "mismatch" in row]
    assert trained
    assert max(row["mismatch"] for row in trained) < 1e-4
    config = load(run_dir / "recipe.yaml")
    assert config.teacher is not None
    sampled = [schema.from_ipc(file.read_bytes()) for file in sorted((run_dir / "experience").iterdir())]
    scored = [table for row, table in zip(steps, sampled, strict=True) if "teacher" in row["seconds"]]
    _check_scores(config.teacher.model, scored, "teacher_logprobs")
    # The reference is asked for the last stage alone, and the policy has moved away from it by then.
    assert config.reference is not None
    assert [table.column("reference_logprobs").null_count == 0 for table in scored] == [*[False] * 3, True]
    _check_scores(config.reference.model, scored[-1:], "reference_logprobs")
    assert steps[-1]["kl_to_reference"] > 0
    assert not any("kl_to_reference" in row for row in steps[:-1])


def _check_scores(model: str, tables: list[pa.Table], column: str) -> None:
    """Against a transformers forward of the model."""
    folder = resolve_model(model)
    scorer = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = len(AutoTokenizer.from_pretrained(folder))
    sequences = [row for table in tables for row in table.slice(0, 4).to_pylist()]
    assert sequences
    for row in sequences:
        prompt, response = row["prompt_token_ids"], row["response_token_ids"]
        with torch.inference_mode():
            logits = scorer(input_ids=torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
        expected = logits[:, :tokens].log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(row[column]), expected, atol=1e-4, rtol=0)


def test_the_export_loads_and_was_trained(finished_run: tuple[Path, str]) -> None:
    run_dir, _ = finished_run
    config = load(run_dir / "recipe.yaml")
    before = AutoModelForCausalLM.from_pretrained(resolve_model(config.policy.model), dtype=torch.float32)
    after = AutoModelForCausalLM.from_pretrained(run_dir / "export", dtype=torch.float32)
    assert AutoTokenizer.from_pretrained(run_dir / "export").chat_template
    changed = [
        name
        for name, tensor in after.state_dict().items()
        if not torch.equal(tensor, before.state_dict()[name])
    ]
    assert len(changed) == len(before.state_dict())
