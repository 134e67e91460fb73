"""What cannot run is refused in words that say what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_recipe import RECIPE, read, refusal, the_problem

from rlad_core.config import NOT_SET, ConfigError, parse, validate


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("learner.lrr=1", "learner.lrr (1): no such key. Did you mean lr?"),
        ("learner.num_pcus=1", "learner.num_pcus (1): no such key. Did you mean num_cpus or num_gpus?"),
        (
            "learner.tokens=1",
            "learner.tokens (1): no such key. There is stages.0.until.tokens. Known here: activation_che",
        ),
        ("group_size=4", "group_size (4): no such key. There is rollout.group_size."),
        ("task.max_length=512", "task.max_length (512): no such key. There is policy.max_length. Known here"),
        ("task.evaluation.overlap=keep", "no such key. There is evaluation.overlap. Known here: count"),
        ("teacher.lr=1", "teacher.lr (1): no such key. There is stages.0.lr and learner.lr. Known here"),
        ("stages.1.objective.group_size=4", "objective.group_size (4): no such key. There is rollout.group"),
        # Of the objective of another kind, which is no other place.
        ("stages.1.objective.beta=0.1", "stages.1.objective.beta (0.1): no such key. Known here: "),
        ("stages.0.objective.alhpa=0.1", "stages.0.objective.alhpa (0.1): no such key. Did you mean alpha?"),
        ("stages.1.objective.alpha=0.1", "stages.1.objective.alpha (0.1): no such key."),
        ("rollout.group_size='8'", "rollout.group_size ('8'): is no whole number"),
        ("rollout.group_size=true", "rollout.group_size (true): is no whole number"),
        ("rollout.group_size=1.5", "rollout.group_size (1.5): is no whole number"),
        ("rollout.drop_uninformative=yes", "rollout.drop_uninformative ('yes'): is neither true nor false"),
        ("policy.model=3", "policy.model (3): is no text"),
        ("policy=tiny", "policy ('tiny'): is no section"),
        (f"name={'a' * 201}", "is too long. Write at most 200 characters"),
        (f"cluster.services={'a' * 201}", "is too long. Write at most 200 characters"),
        (f"seed={2**63}", "must be below 9223372036854775808"),
        (f"policy.stop_token_ids={[1] * 65}", "has too many entries. Write at most 64"),
        ("learner.lr=0", "learner.lr (0): must be above 0"),
        ("learner.lr=.nan", "learner.lr (NaN): is no finite number"),
        ("stages.0.objective.alpha=1.5", "stages.0.objective.alpha (1.5): must be at most 1"),
        ("stages.0.objective.alpha=-1", "stages.0.objective.alpha (-1): must be at least 0"),
        (
            "stages.0.objective.kind=trdd",
            "kind ('trdd'): is not known. Did you mean trrd? Write one of dapo, dr_grpo",
        ),
        (
            "stages.0.objective={}",
            "stages.0.objective.kind (not set): is needed. Write one of dapo, dr_grpo, e",
        ),
        ("stages.0.objective=grpo", "stages.0.objective ('grpo'): is no section"),
        ("stages=[]", "stages ([]): is empty. Write at least 1"),
        ("task.train.people=3", "task.train.people (3): is no list. Write [3]."),
        (
            "task.evaluation={files: a.jsonl}",
            "task.evaluation.files ('a.jsonl'): is no list. Write [a.jsonl]",
        ),
        ("task.train.people={a: 3}", "is no list. Write one, such as [2, 3]"),
        (f"policy.model=/{'x' * 100}/mine", "policy.model ('/xxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxx"),
        (f"policy.model=/{'x' * 100}/mine", "xxxxxxxxxxxx/mine'): there is no such folder"),
        ("teacher.kind=grpc", "teacher.kind ('grpc'): is not known. Write one of serve, http, openai"),
        ("rollout.max_staleness=-1", "rollout.max_staleness (-1): must be at least 0"),
        ("rollout.overtake_window=1.5", "rollout.overtake_window (1.5): must be at most 1"),
        ("rollout.refill_rounds=11", "must be at most 10"),
        ("task.train.people=[2, 9]", "task.train.people.1 (9): must be at most 8"),
        ("task.train={}", "task.train.people (not set): or files is needed. Write people: [2, 3]"),
        (
            "task.train={files: [{path: a.jsonl}], count: 5}",
            "task.train.count (5): is for generated puzzles, and these are read",
        ),
        (
            "task.train={people: [2], files: [{path: a.jsonl}]}",
            "people ([2]): stands beside files",
        ),
        (
            "task.evaluation={people: [2], perturbations: [louder]}",
            "('louder'): is not known",
        ),
        ("name=a/b", "name ('a/b'): has characters that don't fit"),
        ("policy.model=tiny:studnet", "policy.model ('tiny:studnet'): is not known. Write tiny:student or"),
        ("policy.init=pretrained", "policy.init ('pretrained'): tiny:student has no weights to start from"),
        ("policy.model=./nowhere", "policy.model ('./nowhere'): there is no such folder"),
        ("policy.model=rlad:nothing", "policy.model ('rlad:nothing'): no such model ships"),
        ("policy.chat_template=no-such.jinja", "policy.chat_template ('no-such.jinja'): cannot be read ("),
        ("policy.stop_token_ids=[]", "policy.stop_token_ids ([]): is empty. Write at least 1"),
        (
            "rollout.engine_args={max_model_len: 9}",
            "max_model_len, which is not passed on: write policy.max_",
        ),
        ("teacher.engine_args={max_num_batched_tokens: 9}", "not passed on: write max_tokens_per_batch"),
        (
            "rollout.engine_args={enforce_eagre: true}",
            "has enforce_eagre, which is no argument of the installed vLLM: write enforce_eager",
        ),
        ("teacher.model=tiny:teacher", "teacher.model ('tiny:teacher'): a tiny: model has no weights"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_to_write(override: str, says: str) -> None:
    assert says in the_problem(override)


@pytest.mark.parametrize("key", ["learner.lr", "stages.0.steps"])
def test_a_file_that_writes_keys_as_set_does_is_told_how_files_do(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate({**parse(RECIPE), key: 1}, source="recipe.yaml")
    assert f"{key} (1): no such key. Dots are for --set: in a file" in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    error = refusal("learner.lrr=1", "rollout.group_size=a", "stages.0.steps=0", "stages.9.steps=1", "oops")
    assert [problem.path for problem in error.problems] == [
        "--set",
        "--set",
        "rollout.group_size",
        "stages.0.steps",
        "learner.lrr",
    ]
    assert str(error).startswith(
        "recipe.yaml: 5 problems\n  - --set ('stages.9.steps=1'): stages is a list of 2."
    )
    assert refusal("task={}").problems[0].value is NOT_SET


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("learner.lr", "is no assignment. Write path=value"),
        ("=3", "is no assignment"),
        ("stages.x.steps=3", "stages is a list of 2. Write a place from 0 to 1, not 'x'"),
        ("name.first=3", "name is 'example' and has no 'first' in it. Write name=... instead"),
        ("name=[1", "its value is no YAML"),
        (f"name={'[' * 3000}", "its value is no YAML (it has too many levels)"),
        (f"seed={'9' * 5000}", "its value is no YAML (an integer of 5000 digits is too long)"),
        ("policy.model=''", "policy.model (''): no model is named"),
    ],
)
def test_a_wrong_override_is_explained(override: str, says: str) -> None:
    assert says in the_problem(override)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["rollout.top_p=0.9"], "rollout.top_p (0.9): no such key. There is evaluation.top_p"),
        (["task.train=null"], "task.train (not set): is needed: what is trained on"),
        (["task.evaluation=null"], "task.evaluation (not set): is needed: what is held out"),
        (["rollout.max_response_length=512"], "leaves no room for a prompt in policy.max_length 512"),
        (["evaluation.max_response_length=600"], "evaluation.max_response_length (600): leaves no room"),
        (["learner.tokens_per_micro_batch=511"], "Write 512 or more"),
        (["teacher.max_tokens_per_batch=511"], "teacher.max_tokens_per_batch (511): the longest sequence"),
        (["teacher=null"], "teacher (null): stages.0.objective (trrd) needs a teacher. Write teacher: {"),
        (["stages.0.objective.aggregation=fixed_length"], "objective.fixed_length (null): aggregation"),
        (["stages.0.objective.fixed_length=9"], "has no effect with aggregation sequence_mean"),
        (["stages.0.objective={kind: kdrl, beta_decay: 1e-5}"], "beta_decay needs a floor for beta"),
        (["stages.0.objective={kind: kdrl, beta_end: 1e-5}"], "has no effect without beta_decay"),
        (["stages.0.objective={kind: kdrl, beta_end: 1, beta_decay: 1}"], "is above beta, 0.002"),
        (["learner.warmup_steps=5"], "stages.1 (sharpen) has 5 steps and would never reach its lr"),
        (
            ["stages.0.objective={kind: trrd, alpha_end: 0.9, alpha_steps: 11}"],
            "stages.0.objective.alpha_steps (11): stages.0 (trrd) has 10 steps, and alpha would never become "
            "alpha_end. Write at most 10, or give the stage more steps",
        ),
        (
            ["stages.0.objective={kind: kdrl, beta: 1e-3, beta_end: 5e-3, beta_steps: 60}"],
            "stages.0.objective.beta_steps (60): stages.0 (kdrl) has 10 steps, and beta would never become",
        ),
        (
            ["stages.0.objective={kind: rlsd, share_end: 0.0, share_steps: 60}"],
            "stages.0.objective.share_steps (60): stages.0 (rlsd) has 10 steps, and share would never become",
        ),
        (
            [
                "stages.0.until={tokens: 9}",
                "stages.1.objective={kind: trrd, alpha_end: 0.9, alpha_steps: 15}",
            ],
            "stages.1.objective.alpha_steps (15): stages.1 (sharpen) has 5 steps, at most 14 with what rules "
            "leave of earlier stages, and alpha would never become alpha_end. Write at most 14",
        ),
        (
            [
                "stages=[{steps: 10, objective: {kind: grpo}, until: {tokens: 9}}, "
                "{steps: 3, objective: {kind: grpo}}, "
                "{steps: 5, objective: {kind: trrd, alpha_end: 0.9, alpha_steps: 6}}]"
            ],
            "stages.2.objective.alpha_steps (6): stages.2 (trrd) has 5 steps, and alpha would never become "
            "alpha_end. Write at most 5",
        ),
        (["rollout.max_staleness=1", "stages.0.objective.mismatch_cap=null"],
         "stages.0.objective.mismatch_cap (null): with rollout.max_staleness 1 tokens are those of older"),
        (["learner.updates_per_batch=5"], "rollout.prompts_per_step (32): cannot be split into"),
        (["rollout.prompts_per_step=1", "learner.workers=9", "stages.1={steps: 1, objective: {kind: sft}}",
          "stages.0.objective={kind: sft}"], "has 1 sequences for one update"),
        (["rollout.drop_uninformative=false", "rollout.refill_rounds=1"], "nothing is dropped"),
        (["stages=[{steps: 9, objective: {kind: opd}}]", "rollout.refill_rounds=1"],
         "nothing is dropped, so nothing is refilled. Write 0, or an objective that compares rewards"),
        (["weights.transfer=nccl", "rollout.num_gpus=1"], "weights.transfer ('nccl'): moves weights"),
        (["weights.transfer=sharded_rdt", "rollout.num_gpus=1"], "learner.num_gpus is 0"),
        (["learner.num_gpus=2"], "a worker is one rank on one device"),
        (["learner.num_gpus=0.5", "learner.workers=2"], "NCCL wants a GPU for each"),
        (["rollout.num_gpus=2"], "only 1 of them would be used. Write 1, or rollout.tensor_parallel_size: 2"),
        (["rollout.tensor_parallel_size=2"], "rollout.num_gpus (0): a replica reserves whole GPUs"),
        (["teacher.tensor_parallel_size=2", "teacher.num_gpus=2"], "the torch engine runs on one device"),
        (["stages.0.objective={kind: sft, source: teacher}", "teacher.engine=vllm", "teacher.num_gpus=2",
          "teacher.pipeline_parallel_size=2"], "runs as a rollout engine, on one node. Write 1"),
        (["learner.logprobs=fused", "learner.num_gpus=0"], "is a kernel of GPUs, and learner.num_gpus is 0"),
        (["learner.logprobs=fused", "learner.num_gpus=1", "policy.dtype=float32"], "computes in 16 bits"),
        (["learner.logprobs=fused", "learner.num_gpus=1", "policy.dtype=bfloat16"], "or entropy_every: 10"),
        (["learner.lora={modules: [q_proj, lm_head]}"], "computed from their weights. Leave lm_head out"),
        (["learner.min_lr=1e-7"], "learner.min_lr (1e-07): has no effect with schedule: constant"),
        (["learner.min_lr=1e-4", "learner.schedule=cosine"],
         "is above the peak of stages.0 (trrd), 1e-06. Write at most 1e-06"),
        (["learner.max_kl=0.1"], "learner.max_kl (0.1): has no effect with a single update for each batch"),
        (["learner.adaptive_entropy={start: 1}"], "adaptive_entropy.start (1.0): is above most"),
        (["output.keep_best=1"], "no checkpoint but the last has an accuracy: at no step before the end"),
        (["output.keep_best=1", "evaluation.every=3", "learner.checkpoint_every=5"], "every 3 and"),
        (["rollout.max_num_batched_tokens=511", "rollout.max_num_seqs=513"],
         "rollout.max_num_batched_tokens (511): is less than a token for each of rollout.max_num_seqs 513"),
        (["rollout.truncated=penalise"], "rollout.overlong_buffer (null): truncated: penalise grows over"),
        (["rollout.truncated=penalise", "rollout.overlong_buffer=257"],
         "rollout.overlong_buffer (257): is above rollout.max_response_length. Write at most 256"),
        (["rollout.overlong_buffer=64"], "has no effect with truncated: keep"),
        (["rollout.truncated=mask", "rollout.overlong_penalty=2"], "has no effect with truncated: mask"),
        (["teacher.engine_args={enforce_eager: true}"], "are vLLM's, and the torch engine has none"),
        (["verifier.workers=0"], "verifier.workers (0)"),
        (["verifier.timeout_s=1"], "verifier.timeout_s"),
        (["cluster.address=auto", "cluster.num_cpus=4"], "cluster.num_cpus (4): the cluster at auto decides"),
    ],
)  # fmt: skip
def test_fields_that_cannot_work_together_are_refused(overrides: list[str], says: str) -> None:
    assert any(says in str(problem) for problem in refusal(*overrides).problems), str(refusal(*overrides))


def test_a_schedule_may_need_all_of_its_stage_and_what_a_rule_may_leave_to_it() -> None:
    read("stages.0.objective={kind: trrd, alpha_end: 0.9, alpha_steps: 10}")
    # A rule may end a stage before its schedule is through; the next one has its steps.
    read(
        "stages.0.until={tokens: 9}",
        "stages.0.objective={kind: trrd, alpha_end: 0.9, alpha_steps: 10}",
        "stages.1.objective={kind: trrd, alpha_end: 0.9, alpha_steps: 14}",
    )
    # beta_end is a floor there, and no aim.
    read("stages.0.objective={kind: kdrl, beta: 1.0, beta_end: 0.5, beta_decay: 1e-6}")


def test_the_best_checkpoints_are_those_that_were_measured() -> None:
    read("output.keep_best=1", "evaluation.every=3", "learner.checkpoint_every=2")
    # On CPUs a step has room for the longest prompt.
    read("rollout.max_num_batched_tokens=511", "rollout.max_num_seqs=512")


def test_checks_that_hang_come_to_an_end_before_the_run_does(tmp_path: Path) -> None:
    train, held_out = (tmp_path / name for name in ("a.jsonl", "b.jsonl"))
    for file in (train, held_out):
        file.write_text('{"question": "1 + 1?", "answer": "#### 2"}')
    math = (
        f"task={{name: math, train: {{files: [{{path: {train}, format: gsm8k}}]}}, "
        f"evaluation: {{files: [{{path: {held_out}}}]}}}}"
    )
    # 32 groups of 8, and one more for each: 288 checks of 12.5 s for 2 workers are 1800 s.
    assert read(math, "verifier.time_limit_s=12.5").verifier.workers == 2
    problem = the_problem(math, "verifier.time_limit_s=13")
    assert problem.startswith("verifier.workers (2): if all checks of a step took 13 s")
    assert "outlast rollout.timeout_s 1800 and end the run. Write 3 or more" in problem
    assert "Write 7 or more" in the_problem(math, "rollout.prompts_per_step=256")
    assert read(math, "rollout.prompts_per_step=256", "verifier.workers=7").verifier.workers == 7
    # Checks of puzzles cannot hang, and worked solutions are not judged.
    assert read("verifier.time_limit_s=900").verifier.time_limit_s == 900
    traces = ["stages.0.objective={kind: sft}", "stages.1={steps: 1, objective: {kind: sft}}"]
    assert read(math, *traces, "verifier.time_limit_s=900").verifier.time_limit_s == 900


@pytest.mark.parametrize("objective", ["{kind: grpo}", "{kind: trrd}", "{kind: kdrl}"])
def test_a_group_of_one_has_no_advantage(objective: str) -> None:
    error = refusal(f"stages.0.objective={objective}", "rollout.group_size=1")
    assert "rollout.group_size (1): stages.0.objective" in str(error)


def test_methods_without_group_advantage_take_groups_of_one() -> None:
    read("stages.0.objective={kind: opd}", "stages.1.objective={kind: sft}", "rollout.group_size=1")


@pytest.mark.parametrize(
    "objective", ["{kind: trrd}", "{kind: kdrl}", "{kind: opd}", "{kind: sft, source: teacher}"]
)
def test_these_need_a_teacher(objective: str) -> None:
    assert "needs a teacher" in the_problem(f"stages.0.objective={objective}", "teacher=null")


@pytest.mark.parametrize("objective", ["{kind: trrd, alpha: 1}", "{kind: grpo}", "{kind: sft}"])
def test_these_need_none(objective: str) -> None:
    read(f"stages.0.objective={objective}", "teacher=null")


def test_several_samples_at_temperature_0_are_one() -> None:
    says = the_problem("evaluation={samples: 4, temperature: 0}")
    assert "evaluation.samples (4): at temperature 0 all of them are the same" in says


def test_a_step_of_a_teachers_responses_may_sample_prompts_again_that_gave_none() -> None:
    written = "stages=[{steps: 9, objective: {kind: sft, source: teacher}}]"
    assert read(written, "rollout.refill_rounds=1", "rollout.drop_uninformative=false").rollout.refill_rounds
