"""Recorded steps trained on again: the same weights, other objectives, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from made_up_experience import experience
from ranks import fork_from_server
from rlad_command import Said
from safetensors.torch import load_file

from rlad_core import recorded, schema
from rlad_core.config import PolicyTeacher, load, resolve_model
from rlad_core.objectives.dr_grpo import DrGRPO
from rlad_core.objectives.gkd import GKD
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.sft import SFT
from rlad_core.objectives.trrd import TRRD
from services.base.tokenizer import load_tokenizer
from services.learner.checkpoint import STATE_FILE
from services.learner.freed_memory import KEEPS_FREED_MEMORY
from services.run import learn, preparing, replay

pytestmark = pytest.mark.timeout(600)

STUDENT = resolve_model("rlad:kk-student")
SETTINGS = (
    *("stages.0.steps=2", "learner.warmup_steps=0", "learner.lr=1e-3", "learner.schedule=constant"),
    "learner.threads=1",
)


def _record(folder: Path, steps: int = 2, *, without: tuple[str, ...] = ()) -> Path:
    """As the collector and the journal leave it."""
    folder.mkdir()
    table, _ = experience()
    student = schema.tokenizer_fingerprint(load_tokenizer(STUDENT).get_vocab())
    table = schema.label(table, schema.EXPERIENCE, tokenizer_fingerprint=student)
    place = table.column_names.index("teacher_end_logprobs")
    table = table.set_column(place, table.schema.field(place), table.column("teacher_logprobs"))
    for name in without:
        place = table.column_names.index(name)
        table = table.set_column(
            place, table.schema.field(place), pa.nulls(len(table), table.schema.field(place).type)
        )
    for step in range(steps):
        whole = recorded.labelled(table.slice(step), (1, 2))
        (folder / f"step-{step:06d}.arrows").write_bytes(schema.to_ipc(whole))
    return folder


def _settings(tmp_path: Path, name: str, *more: str) -> list[str]:
    settings = (*SETTINGS, f"name={name}", f"output.dir={tmp_path}", *more)
    return [part for setting in settings for part in ("--set", setting)]


def _learn(
    rlad: Callable[..., Said],
    tmp_path: Path,
    name: str,
    recipe: str = "kk-tiny-trrd",
    *more: str,
    resume: bool = False,
) -> Said:
    from_steps = ("--experience", str(tmp_path / "recorded"))
    last = ["--resume"] if resume else []
    return rlad("learn", recipe, *from_steps, *_settings(tmp_path, name, *more), *last)


def test_what_was_recorded_is_read_with_its_label(tmp_path: Path) -> None:
    folder = _record(tmp_path / "recorded")
    [first, second] = recorded.files_of([folder])
    assert recorded.files_of([second, first]) == [first, second]
    found = recorded.read(first)
    assert (found.whole, found.end_tokens, found.has_rollouts) == (True, (1, 2), True)
    # Rewards 0, 1, 2 in each group: the advantages of a run, and those without the division by their spread.
    assert found.for_objective(GRPO()).table.column("advantage").to_pylist()[:3] == pytest.approx(
        [-(1.5**0.5), 0, 1.5**0.5]
    )
    plain = DrGRPO(fixed_length=32)
    assert found.for_objective(plain).table.column("advantage").to_pylist()[:3] == [-1, 0, 1]


def test_a_sample_of_rows_says_which_tokens_counted_and_which_end(tmp_path: Path) -> None:
    """Else tokens that were too old would be trained on, and a teacher's end tokens have no counterpart."""
    some = recorded.labelled(experience()[0].slice(0, 4), (1, 2), range(4, 6), whole=False)
    file = tmp_path / "step-000005.arrows"
    file.write_bytes(schema.to_ipc(some))
    found = recorded.read(file)
    assert (found.whole, found.end_tokens, found.counted) == (False, (1, 2), range(4, 6))
    assert found.numbers(masks=False)["trained_tokens"] == 0  # all are of version 0
    [plan] = found.plan(TRRD(), mini_batches=1, ranks=1, pair_cost=0.0, masks=False)
    assert (plan.counted_versions, plan.token_weights.tolist()) == (range(4, 6), [0.0] * 4)


def test_what_cannot_be_computed_is_refused(tmp_path: Path) -> None:
    [file] = recorded.files_of([_record(tmp_path / "recorded", 1, without=("teacher_logprobs",))])
    found = recorded.read(file)
    found.check(GRPO())
    with pytest.raises(
        recorded.RecordedError, match=r"trrd needs teacher_logprobs, which .*lacks: no teacher"
    ):
        found.check(TRRD())
    found.check(TRRD(), PolicyTeacher(kind="policy"))  # the learner asks it
    with pytest.raises(recorded.RecordedError, match=r"reads a prefix, and .* lacks the prompts with"):
        found.check(TRRD(), PolicyTeacher(kind="policy", prefix="{solution}"))
    # A stage that does not ask it has recorded nothing for it.
    found.check(GRPO(), PolicyTeacher(kind="policy", prefix="{solution}"))
    own = schema.to_sequences(found.table)
    (tmp_path / "step-000009.arrows").write_bytes(schema.to_ipc(recorded.labelled(own, (1, 2))))
    solutions = recorded.read(tmp_path / "step-000009.arrows")
    solutions.check(SFT(), PolicyTeacher(kind="policy", prefix="{solution}"))
    with pytest.raises(
        recorded.RecordedError, match=r"sft trains on responses of the task and .* new samples"
    ):
        found.check(SFT())
    earlier = tmp_path / "step-000003.arrows"
    earlier.write_bytes(schema.to_ipc(found.table.drop_columns(["reference_logprobs"])))
    assert recorded.read(earlier).table.column("reference_logprobs").null_count == len(found.table)
    sample = tmp_path / "step-000007.arrows"
    sample.write_bytes(schema.to_ipc(experience()[0].slice(0, 4)))
    with pytest.raises(
        recorded.RecordedError, match=r"needs other advantages, and .* a sample of its step's"
    ):
        recorded.read(sample).check(DrGRPO(fixed_length=32))
    recorded.read(sample).check(TRRD())
    with pytest.raises(
        recorded.RecordedError, match=r"trrd needs 64 top_token_ids of each token, and .* has none"
    ):
        recorded.read(sample).check(TRRD(anchor="normalised"))
    with pytest.raises(recorded.RecordedError, match=r"gkd needs 8 rollout_top_token_ids .* has none"):
        recorded.read(sample).check(GKD(top_of="policy", top_k=8))
    with pytest.raises(recorded.RecordedError, match="there is no file or folder"):
        recorded.files_of([tmp_path.parent / "nowhere"])
    (tmp_path / "odd.arrows").write_bytes(b"odd")
    with pytest.raises(recorded.RecordedError, match=r"odd.arrows: .*not a readable Arrow IPC stream"):
        recorded.read(tmp_path / "odd.arrows")


def test_demonstrations_are_planned_as_their_step_was(tmp_path: Path) -> None:
    """Also where the recipe's teacher would tell of end tokens, which these have nothing of."""
    table, groups = experience()
    whole = recorded.labelled(schema.to_sequences(table), (1, 2), None, groups)
    (tmp_path / "step-000000.arrows").write_bytes(schema.to_ipc(whole))
    found = recorded.read(tmp_path / "step-000000.arrows")
    objective = SFT(source="teacher")
    found.check(objective)
    found.check_ends(objective)
    assert found.groups == groups
    [plan] = found.plan(objective, mini_batches=3, ranks=1, pair_cost=0.0, masks=False)
    of_groups = {(groups[row], number) for row, number in zip(plan.rows, plan.mini_batch, strict=True)}
    assert len(of_groups) == len(set(groups))  # none is split over two mini-batches


def test_end_tokens_that_no_teacher_was_asked_about_are_seen_before_training(
    rlad: Callable[..., Said], tmp_path: Path
) -> None:
    _record(tmp_path / "recorded", 1, without=("teacher_end_logprobs",))
    refused = _learn(rlad, tmp_path, "trrd")
    assert refused.code == 2
    said = " ".join(refused.err.split())
    assert "end tokens [1, 2] together" in said
    assert "step-000000.arrows has no teacher_end_logprobs" in said
    assert "Write mask_end_token: true in the objective, or record again" in said
    assert not (tmp_path / "trrd").exists()
    [found] = [recorded.read(file) for file in recorded.files_of([tmp_path / "recorded"])]
    for objective in (TRRD(mask_end_token=True), GRPO()):
        found.check_ends(objective)


def test_the_same_record_gives_the_same_policy_to_the_bit_also_when_it_is_resumed(
    rlad: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork_from_server()  # three runs, and what each would import anew takes longest
    monkeypatch.setattr(replay, "_BEGUN_BY", "forkserver")
    _record(tmp_path / "recorded")
    two = "learner.workers=2"
    said = _learn(rlad, tmp_path, "one", "kk-tiny-trrd", two)
    assert said.code == 0, said.err
    assert "2 steps on 2 recorded ones" in said.out
    assert _learn(rlad, tmp_path, "other", "kk-tiny-trrd", two, "stages.0.steps=1").code == 0
    more = (f"{tmp_path}/other/recipe.yaml", "stages.0.steps=2")
    refused = rlad("run", more[0], "--set", more[1], "--resume")
    assert refused.code == 2
    assert "rlad learn" in refused.err
    assert _learn(rlad, tmp_path, "other", *more).code == 2, "it was begun, and --resume is not there"
    said = _learn(rlad, tmp_path, "other", *more, resume=True)
    assert said.code == 0, said.err
    assert "changed from step 1 on" in said.out
    for name in ("one", "other"):
        rows = _rows(tmp_path / name)
        assert [(row["step"], row["stage"], row["experience"]) for row in rows] == [
            (0, "trrd", "step-000000.arrows"),
            (1, "trrd", "step-000001.arrows"),
        ]
        assert rows[0]["kl_to_teacher"] is not None
        assert rows[0]["seconds"]["update"] > 0
        assert (tmp_path / name / "checkpoint_000002" / STATE_FILE).is_file()
        assert "report.html" in {path.name for path in (tmp_path / name).iterdir()}
    one, other = (load_file(tmp_path / name / "export" / "model.safetensors") for name in ("one", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    again = _learn(rlad, tmp_path, "other", *more, resume=True)
    assert (again.code, "all 2 steps are done, nothing is started" in again.out) == (0, True)
    start = load_file(Path(STUDENT) / "model.safetensors")
    assert any(not torch.equal(one[name], start[name].to(one[name].dtype)) for name in one)
    (tmp_path / "recorded" / "step-000002.arrows").write_bytes(
        (tmp_path / "recorded" / "step-000001.arrows").read_bytes()
    )
    refused = _learn(
        rlad, tmp_path, "other", f"{tmp_path}/other/recipe.yaml", "stages.0.steps=3", resume=True
    )
    assert refused.code == 2
    assert "2 other recorded steps (step-000000.arrows, step-000001.arrows)" in refused.err


def test_tokens_that_are_not_the_policys_are_refused(rlad: Callable[..., Said], tmp_path: Path) -> None:
    """All of them are tokens of its vocabulary, and would be trained on as if nothing were wrong."""
    [file] = _record(tmp_path / "recorded", 1).iterdir()
    other = recorded.labelled(experience()[0], (1, 2))
    file.write_bytes(schema.to_ipc(schema.label(other, schema.EXPERIENCE, tokenizer_fingerprint="sha256:x")))
    refused = _learn(rlad, tmp_path, "other", "kk-tiny-grpo")
    assert refused.code == 2
    assert f"policy.model: {file} was recorded with another tokenizer (sha256:x)" in refused.err
    assert not (tmp_path / "other" / "metrics.jsonl").exists()


def test_a_sequence_without_room_is_seen_before_training(rlad: Callable[..., Said], tmp_path: Path) -> None:
    _record(tmp_path / "recorded", 1)
    short = ("policy.max_length=12", "rollout.max_response_length=8", "learner.tokens_per_micro_batch=12")
    refused = _learn(rlad, tmp_path, "short", "kk-tiny-grpo", *short)
    assert refused.code == 2
    assert "learner.tokens_per_micro_batch (12): " in refused.err
    rows = experience()[0].to_pylist()
    longest = max(len(row["prompt_token_ids"] + row["response_token_ids"]) for row in rows)
    assert f"has a sequence of {longest} tokens. Write {longest} or more" in refused.err
    assert not (tmp_path / "short").exists()


def test_training_that_is_through_is_told_so_without_a_report(
    rlad: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(_: Path) -> None:
        raise OSError(28, "No space left on device")

    def trained(*work: Any) -> None:
        work[4].steps_done = 2

    _record(tmp_path / "recorded")
    monkeypatch.setattr(learn, "replay", trained)
    monkeypatch.setattr(preparing, "write_report", no_room)
    said = _learn(rlad, tmp_path, "through")
    assert said.code == 0, said.err
    assert "the report cannot be written: [Errno 28] No space left on device" in said.out
    assert f"model   {tmp_path}/through/export" in said.out


def test_advantages_of_whole_groups_are_made_of_recorded_steps_too(
    rlad: Callable[..., Said], tmp_path: Path
) -> None:
    _record(tmp_path / "recorded")
    changes = ("stages.0.objective={kind: top_d}", "learner.workers=2")
    said = _learn(rlad, tmp_path, "top-d", "kk-tiny-trrd", *changes)
    assert said.code == 0, said.err
    for row in _rows(tmp_path / "top-d"):
        assert row["token_reward"] != 0
        assert row["token_advantage"] == pytest.approx(0, abs=1e-5)
        assert row["seconds"]["old_logprobs"] > 0
    written = json.loads((tmp_path / "top-d" / "export" / "generation_config.json").read_text())
    assert written["eos_token_id"] == [1, 2], "the student's own files name 1 alone"


def test_ranks_meet_in_the_run_s_folder_whatever_it_is_called(tmp_path: Path) -> None:
    """And wait for each other as long as the recipe says, not half an hour (NCCL: ten minutes)."""
    run_dir = tmp_path / "trials #2?" / "100%"
    run_dir.mkdir(parents=True)
    replay._meet(0, load("kk-tiny-trrd", ["learner.timeout_s=77"]), run_dir / "ranks")
    try:
        assert [path.name for path in tmp_path.iterdir()] == ["trials #2?"]
        assert (run_dir / "ranks").is_file()
        of_ranks: Any = dist.group.WORLD
        assert of_ranks._get_backend(torch.device("cpu")).options._timeout.total_seconds() == 77
    finally:
        dist.destroy_process_group()


def test_another_objective_until_it_is_told_to_stop(rlad: Callable[..., Said], tmp_path: Path) -> None:
    _record(tmp_path / "recorded")
    settings = _settings(tmp_path, "kdrl", "stages.0.steps=100000")
    asked = ("kk-tiny-kdrl", "--experience", str(tmp_path / "recorded"), *settings)
    command = subprocess.Popen(
        [sys.executable, "-m", "services", "learn", *asked],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that are started in the background pass on that they ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while len(_rows(tmp_path / "kdrl")) < 3:
        assert command.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    begun = [each.environ() for each in psutil.Process(command.pid).children(recursive=True)]
    assert any(KEEPS_FREED_MEMORY.items() <= each.items() for each in begun), "as a rank of rlad run"
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does
    said, _ = command.communicate(timeout=120)
    assert command.returncode == 1, said
    assert "100000 steps on 2 recorded ones, 50000 times each" in said
    rows = _rows(tmp_path / "kdrl")
    assert f"stopped after {len(rows)} of 100000 steps" in said
    assert "--resume" in said
    assert (tmp_path / "kdrl" / f"checkpoint_{len(rows):06d}" / STATE_FILE).is_file()
    assert [row["experience"] for row in rows[:3]] == [f"step-00000{place}.arrows" for place in (0, 1, 0)]
    assert all(row["distillation_loss"] > 0 for row in rows)
    refused = _learn(rlad, tmp_path, "sft", "kk-tiny-sft")
    assert refused.code == 2
    assert "needs new samples" in refused.err


def test_whoever_watches_is_told_that_layers_are_not_compiled(
    rlad: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/no/compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "nothing-compiled"))
    _record(tmp_path / "recorded", 1)
    said = _learn(rlad, tmp_path, "told", "kk-tiny-trrd", "stages.0.steps=1", "learner.compile=on")
    assert said.code == 0, said.err
    [told] = [line for line in said.out.splitlines() if "could not be compiled" in line]
    assert told.startswith("learner: the layers could not be compiled and run as they are: ")
    assert "C++ compiler" in told


def _rows(run_dir: Path) -> list[dict[str, Any]]:
    file = run_dir / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
