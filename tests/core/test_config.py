"""A recipe is read as it was written, and what cannot run is refused in words that say what to write."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core import objectives
from rlad_core.config import (
    NOT_SET,
    SHIPPED,
    ConfigError,
    RunConfig,
    dump,
    load,
    models,
    parse,
    resolve_model,
    validate,
)

RECIPE = """
name: example
policy: {model: "tiny:student", init: random, max_length: 512}
teacher: {kind: serve, model: owner/teacher}
task: {name: knights_knaves, train: {people: [2, 3]}, evaluation: {people: [2, 3]}}
rollout: {max_response_length: 256}
stages:
  - {steps: 10, objective: {kind: trrd, alpha: 0.3}}
  - {steps: 5, objective: {kind: grpo}, lr: 2e-6, name: sharpen}
"""


def read(*overrides: str) -> RunConfig:
    return validate(parse(RECIPE), source="recipe.yaml", overrides=overrides)


def refusal(*overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(*overrides)
    return caught.value


def the_problem(*overrides: str) -> str:
    """The one problem with the recipe, as its line."""
    problems = refusal(*overrides).problems
    assert len(problems) == 1, "\n".join(map(str, problems))
    return str(problems[0])


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model folder."""

    def make(name: str = "model", weights: bool = True, **settings: Any) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps(settings))
        if weights:
            (path / "model.safetensors").touch()
        return path

    return make


# --- reading -----------------------------------------------------------------------------------------------


def test_a_minimal_recipe_gets_the_papers_defaults() -> None:
    config = read()
    objective = config.stages[0].objective
    assert objective.kind == "trrd"
    assert (objective.alpha, objective.teacher_clamp) == (0.3, 1.0)
    assert (objective.eps_low, objective.eps_high, objective.aggregation) == (0.2, 0.28, "sequence_mean")
    assert (config.learner.lr, config.rollout.group_size) == (1e-6, 8)
    assert (config.evaluation.temperature, config.evaluation.top_p) == (0.6, 0.95)


@pytest.mark.parametrize(
    ("override", "read_back"),
    [
        ("learner.lr=1e-5", lambda c: c.learner.lr == 1e-5),
        ("learner.lr=.5", lambda c: c.learner.lr == 0.5),
        ("learner.lr=1", lambda c: c.learner.lr == 1.0),
        ("learner.grad_clip=null", lambda c: c.learner.grad_clip is None),
        ("learner.grad_clip=", lambda c: c.learner.grad_clip is None),
        ("stages.0.steps=7", lambda c: c.stages[0].steps == 7),
        ("stages.1.objective={kind: opd}", lambda c: c.stages[1].objective.kind == "opd"),
        ("task.train.people=[4]", lambda c: c.task.train.people == (4,)),
        ("weights.timeout_s=5", lambda c: c.weights.timeout_s == 5),
        ("cluster.address=ray://host:10001", lambda c: c.cluster.address == "ray://host:10001"),
        ("output.dir=a=b", lambda c: c.output.dir == "a=b"),
        ("name=on", lambda c: c.name == "on"),
        ("name=2026-01-01", lambda c: c.name == "2026-01-01"),
    ],
)
def test_overrides(override: str, read_back: Callable[[RunConfig], bool]) -> None:
    assert read_back(read(override))


def test_overrides_leave_the_data_alone() -> None:
    data = parse(RECIPE)
    validate(data, "recipe.yaml", ["stages.0.steps=7", "learner.lr=1e-5"])
    assert data == parse(RECIPE)


def test_a_run_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read().learner.lr = 1.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-1.5e+3", -1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("007", 7),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("~", None),
        ("-.inf", -math.inf),
        (".Inf", math.inf),
        ("1e", "1e"),
        (".", "."),
        ("nan", "nan"),
    ],
)
def test_scalars_are_read_as_yaml_1_2(text: str, value: object) -> None:
    read = parse(f"key: {text}")["key"]
    assert read == value
    assert type(read) is type(value)


def test_objectives_are_built_from_their_settings() -> None:
    for kind in ("trrd", "grpo", "kdrl", "opd", "sft"):
        config = read(f"stages.0.objective={{kind: {kind}}}")
        assert objectives.build(config.stages[0].objective) is not None


# --- the run's own arithmetic ------------------------------------------------------------------------------


def test_position_and_learning_rate_follow_the_stages() -> None:
    config = read()
    assert config.total_steps == 15
    assert [config.position(step).index for step in (0, 9, 10, 14)] == [0, 0, 1, 1]
    assert [config.position(step).step for step in (0, 9, 10, 14)] == [0, 9, 0, 4]
    assert [config.learning_rate(step) for step in (9, 10)] == [1e-6, 2e-6]
    assert [stage.label for stage in config.stages] == ["trrd", "sharpen"]
    for step in (-1, 15):
        with pytest.raises(IndexError):
            config.position(step)


def test_what_a_run_needs() -> None:
    assert read().needs_teacher
    assert not read("stages.0.objective.alpha=1").needs_teacher
    assert read().evaluation_response_length == 256
    assert read("evaluation.max_response_length=100").evaluation_response_length == 100
    assert read("output.dir=elsewhere/").run_dir == "elsewhere/example"


# --- refusals: single fields -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("learner.lrr=1", "learner.lrr (1): no such key. Did you mean lr?"),
        ("learner.tokens=1", "learner.tokens (1): no such key. Known here: betas, "),
        ("group_size=4", "group_size (4): no such key. There is rollout.group_size."),
        ("stages.0.objective.alhpa=0.1", "stages.0.objective.alhpa (0.1): no such key. Did you mean alpha?"),
        ("stages.1.objective.alpha=0.1", "stages.1.objective.alpha (0.1): no such key."),
        ("rollout.group_size='8'", "rollout.group_size ('8'): is no whole number"),
        ("rollout.group_size=true", "rollout.group_size (true): is no whole number"),
        ("rollout.group_size=1.5", "rollout.group_size (1.5): is no whole number"),
        ("rollout.drop_uninformative=yes", "rollout.drop_uninformative ('yes'): is neither true nor false"),
        ("policy.model=3", "policy.model (3): is no text"),
        ("policy=tiny", "policy ('tiny'): is no section"),
        ("learner.lr=0", "learner.lr (0): must be above 0"),
        ("learner.lr=.nan", "learner.lr (NaN): is no finite number"),
        ("stages.0.objective.alpha=1.5", "stages.0.objective.alpha (1.5): must be at most 1"),
        ("stages.0.objective.alpha=-1", "stages.0.objective.alpha (-1): must be at least 0"),
        (
            "stages.0.objective.kind=trdd",
            "kind ('trdd'): is not known. Did you mean trrd? Write one of trrd, grpo",
        ),
        (
            "stages.0.objective={}",
            "stages.0.objective.kind (not set): is needed. Write one of trrd, grpo, kdrl",
        ),
        ("stages.0.objective=grpo", "stages.0.objective ('grpo'): is no section"),
        ("stages=[]", "stages ([]): is empty. Write at least 1"),
        ("teacher.kind=grpc", "teacher.kind ('grpc'): is not known. Write one of serve, http, openai"),
        ("rollout.max_staleness=1", "rollout.max_staleness (1): is not known. Write 0"),
        ("rollout.refill_rounds=11", "must be at most 10"),
        ("task.train.people=[2, 9]", "task.train.people.1 (9): must be at most 8"),
        ("task.train={}", "task.train.people (not set): is needed: Sizes of the puzzles"),
        ("name=a/b", "name ('a/b'): has characters that don't fit"),
        ("policy.model=tiny:studnet", "policy.model ('tiny:studnet'): is not known. Write tiny:student or"),
        ("policy.init=pretrained", "policy.init ('pretrained'): tiny:student has no weights to start from"),
        ("policy.model=./nowhere", "policy.model ('./nowhere'): there is no such folder"),
        ("policy.model=rlad:nothing", "policy.model ('rlad:nothing'): no such model ships"),
        ("teacher.model=tiny:teacher", "teacher.model ('tiny:teacher'): a tiny: model has no weights"),
    ],
)
def test_a_wrong_field_is_named_with_its_value_and_what_to_write(override: str, says: str) -> None:
    assert says in the_problem(override)


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
    ],
)
def test_a_wrong_override_is_explained(override: str, says: str) -> None:
    assert says in the_problem(override)


# --- refusals: fields that don't agree ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["rollout.top_p=0.9"], "rollout.top_p (0.9): training needs samples of the whole distribution"),
        (["rollout.top_k=5"], "rollout.top_k (5): training needs samples"),
        (["rollout.temperature=0.7"], "rollout.temperature (0.7): training needs samples"),
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
        (["learner.updates_per_batch=5"], "rollout.prompts_per_step (32): cannot be split into"),
        (["rollout.prompts_per_step=1", "learner.workers=9", "stages.1={steps: 1, objective: {kind: sft}}",
          "stages.0.objective={kind: sft, source: teacher}"], "has 1 sequences for one update"),
        (["rollout.drop_uninformative=false", "rollout.refill_rounds=1"], "nothing is dropped"),
        (["weights.transfer=nccl", "rollout.num_gpus=1"], "weights.transfer ('nccl'): moves weights"),
        (["weights.transfer=sharded_rdt", "rollout.num_gpus=1"], "learner.num_gpus is 0"),
        (["learner.num_gpus=2"], "a worker is one rank on one device"),
        (["learner.num_gpus=0.5", "learner.workers=2"], "NCCL wants a GPU for each"),
        (["rollout.num_gpus=2"], "only 1 of them would be used. Write 1, or rollout.tensor_parallel_size: 2"),
        (["rollout.tensor_parallel_size=2"], "rollout.num_gpus (0): a replica reserves whole GPUs"),
        (["teacher.tensor_parallel_size=2", "teacher.num_gpus=2"], "the torch engine runs on one device"),
        (["verifier.workers=0"], "verifier.workers (0)"),
        (["verifier.timeout_s=1"], "verifier.timeout_s"),
        (["cluster.address=auto", "cluster.num_cpus=4"], "cluster.num_cpus (4): the cluster at auto decides"),
    ],
)  # fmt: skip
def test_fields_that_cannot_work_together_are_refused(overrides: list[str], says: str) -> None:
    assert any(says in str(problem) for problem in refusal(*overrides).problems), str(refusal(*overrides))


def test_checks_that_hang_come_to_an_end_before_the_run_does(tmp_path: Path) -> None:
    train, held_out = (tmp_path / name for name in ("a.parquet", "b.parquet"))
    train.touch()
    held_out.touch()
    math = (
        f"task={{name: math, train: {{files: [{{path: {train}, format: gsm8k}}]}}, "
        f"evaluation: {{files: [{{path: {held_out}}}]}}}}"
    )
    # 32 groups of 8, each tried whole and then one by one: 288 checks of 12.5 s for 2 workers are 1800 s.
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


# --- models ------------------------------------------------------------------------------------------------


def test_a_sequence_longer_than_the_model_reads_is_refused(folder: Callable[..., Path]) -> None:
    model = folder(max_position_embeddings=256)
    says = the_problem(f"policy={{model: {model}, max_length: 512}}")
    assert says.startswith("policy.max_length (512): ")
    assert "reads 256 tokens at most" in says
    assert "policy.max_length (512)" in the_problem(f"teacher.model={model}")
    read(f"policy={{model: {model}, max_length: 256}}", "rollout.max_response_length=128")


def test_a_model_folder_is_looked_into(folder: Callable[..., Path], tmp_path: Path) -> None:
    bare = folder("bare", weights=False)
    assert "has no weights" in the_problem(f"policy={{model: {bare}, max_length: 512}}")
    read(f"policy={{model: {bare}, max_length: 512, init: random}}")
    assert "has no config.json" in the_problem(f"teacher.model={tmp_path}")
    (bare / "config.json").write_text("{")
    assert "its config.json is no JSON" in the_problem(
        f"policy={{model: {bare}, max_length: 512, init: random}}"
    )


def test_resolve_model(folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_model("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    folder("models/kk-student")
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    assert resolve_model("rlad:kk-student") == str(tmp_path / "models" / "kk-student")
    with pytest.raises(ValueError, match="Write one of rlad:kk-student"):
        resolve_model("rlad:kk-teacher")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("models/kk-student") == str(tmp_path / "models" / "kk-student")
    for missing in ("models/x/y", "nothing", "", "../a", "/a/b"):
        with pytest.raises(ValueError, match=r"no such folder|has no config"):
            resolve_model(missing)


# --- files -------------------------------------------------------------------------------------------------


def test_load_reads_files_and_shipped_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(RECIPE)
    assert load(file) == load(str(file)) == read()
    assert load("kk-tiny-teacher-sft").name == "kk-tiny-teacher-sft"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no keys"),
        ("- 1", "has no keys"),
        ("a: [", "is no YAML"),
        ("seed: 1\nseed: 2", "key 'seed' is there twice"),
        ("learner:\n  lr: 1\n  lr: 2", "key 'lr' is there twice"),
        ("x: !!python/object:os.system {}", "is no YAML"),
        ("\x00", "is no YAML"),
    ],
)
def test_a_broken_file_is_explained(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_file_lists_the_shipped_recipes() -> None:
    with pytest.raises(ConfigError, match="kk-tiny-trrd"):
        load("kk-tiny-trdr")


@pytest.mark.parametrize("recipe", sorted((SHIPPED / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_accepted(
    recipe: Path, folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("kk-student", "kk-teacher"):
        folder(f"models/{name}")
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    config = load(recipe)
    assert config.name == recipe.stem


# --- round trips -------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
OBJECTIVES = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.just("trrd"), "alpha": st.floats(0, 0.999), "teacher_clamp": st.none() | POSITIVE}
    ),
    st.fixed_dictionaries({"kind": st.just("grpo"), "mismatch_cap": st.none() | POSITIVE}),
    st.fixed_dictionaries({"kind": st.just("kdrl"), "beta": POSITIVE, "mask_end_token": st.booleans()}),
    st.fixed_dictionaries(
        {"kind": st.just("sft"), "aggregation": st.just("fixed_length"), "fixed_length": st.integers(1, 99)}
    ),
)
RUNS = st.fixed_dictionaries(
    {
        "name": NAMES | st.sampled_from(["1e-5", "null", "true", "on", "007", "1.5", "2026-01-01", "n"]),
        "seed": st.integers(0, 2**63),
        "policy": st.fixed_dictionaries({"model": ANY_TEXT, "max_length": st.integers(3000, 9000)}),
        "teacher": st.fixed_dictionaries({"model": ANY_TEXT, "engine": st.sampled_from(["torch", "vllm"])}),
        "task": st.just(
            {"name": "knights_knaves", "train": {"people": [2]}, "evaluation": {"people": [2, 8]}}
        ),
        "stages": st.lists(
            st.fixed_dictionaries(
                {"steps": st.integers(1), "objective": OBJECTIVES, "name": ANY_TEXT, "lr": POSITIVE}
            ),
            max_size=3,
        ).map(lambda stages: [*stages, {"steps": 1, "objective": {"kind": "opd"}}]),
        "learner": st.fixed_dictionaries(
            {"lr": POSITIVE, "betas": st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)).map(list)}
        ),
        "output": st.fixed_dictionaries({"dir": ANY_TEXT}),
    }
)  # fmt: skip


@given(RUNS)
@settings(max_examples=60, deadline=None)
def test_what_is_dumped_is_read_back(data: dict[str, Any]) -> None:
    config = RunConfig.model_validate(data)
    assert RunConfig.model_validate(parse(dump(config))) == config


EXAMPLE = read()


@given(ANY_TEXT)
@settings(max_examples=100, deadline=None)
def test_any_text_survives_the_round_trip(text: str) -> None:
    config = EXAMPLE.model_copy(update={"name": text})
    assert parse(dump(config))["name"] == text
