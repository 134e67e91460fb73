"""A recipe is read as it was written: overrides, YAML 1.2, files, models, and what a run makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from example_recipe import RECIPE, read, the_problem

from rlad_core.config import (
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
from rlad_core.objectives import KINDS


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


def test_objectives_are_made_of_their_settings() -> None:
    assert set(KINDS) >= {"trrd", "grpo", "kdrl", "opd", "sft"}
    for kind, method in KINDS.items():
        needed = {"fixed_length": 96} if kind == "dr_grpo" else {}
        settings = ", ".join(f"{name}: {value}" for name, value in {"kind": kind, **needed}.items())
        more = ["reference={model: owner/model}"] if kind == "exopd" else []
        assert read(f"stages.0.objective={{{settings}}}", *more).stages[0].objective == method(**needed)


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


@pytest.mark.parametrize(
    ("share", "slots", "groups"),
    [
        *[("0.35", 180, 63), ("0.3", 8, 2), ("0.29", 100, 29)],
        # Strict order where it is asked for, and not since there are few slots.
        *[("0.3", 2, 1), ("0.001", 8, 1), ("0", 8, 0), ("1", 2, 2)],
    ],
)
def test_the_window_is_the_share_of_the_slots_that_the_recipe_says(
    share: str, slots: int, groups: int
) -> None:
    pool = (
        "rollout.max_staleness=1",
        f"rollout.prompts_per_step={slots // 2}",
        "learner.updates_per_batch=1",
    )
    assert read(*pool, f"rollout.overtake_window={share}", "verifier.workers=64").window == groups
    assert read(f"rollout.overtake_window={share}").window == 0


def test_what_a_run_needs() -> None:
    assert read().needs_teacher
    assert not read("stages.0.objective.alpha=1").needs_teacher
    assert read().evaluation_response_length == 256
    assert read("evaluation.max_response_length=100").evaluation_response_length == 100
    assert read("output.dir=elsewhere/").run_dir == "elsewhere/example"


def test_a_sequence_longer_than_the_model_reads_is_refused(folder: Callable[..., Path]) -> None:
    model = folder(max_position_embeddings=256)
    says = the_problem(f"policy={{model: {model}, max_length: 512}}")
    assert says.startswith("policy.max_length (512): ")
    assert "reads 256 tokens at most" in says
    assert "policy.max_length (512)" in the_problem(f"teacher.model={model}")
    read(f"policy={{model: {model}, max_length: 256}}", "rollout.max_response_length=128")


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        ((600, 512), "teacher.prefix_tokens (512): teacher.model"),
        ((600, 512), "policy.max_length is 600. Write at most 424, or less there"),
        ((256, 20000), "Write at most 768"),
        ((1100, 512), "policy.max_length (1100): teacher.model"),
        ((1100, 512), "with its prefix (teacher.prefix_tokens 512). Write at most 512"),
        ((1100, 2000), "(teacher.prefix_tokens 2000). Write 1024 at most for both together"),
    ],
)
def test_a_prefix_that_does_not_fit_is_named_before_what_does(
    folder: Callable[..., Path], lengths: tuple[int, int], says: str
) -> None:
    model = folder(max_position_embeddings=1024)
    max_length, prefix_tokens = lengths
    settings = [
        f"policy.max_length={max_length}",
        "rollout.max_response_length=64",
        "teacher.prefix='{solution}'",
    ]
    unbounded = [
        f"{each}=100000" for each in ("learner.tokens_per_micro_batch", "teacher.max_tokens_per_batch")
    ]
    found = the_problem(
        *settings, *unbounded, f"teacher.model={model}", f"teacher.prefix_tokens={prefix_tokens}"
    )
    assert says in found


def test_a_model_folder_is_looked_into(folder: Callable[..., Path], tmp_path: Path) -> None:
    bare = folder("bare", weights=False)
    assert "has no weights" in the_problem(f"policy={{model: {bare}, max_length: 512}}")
    read(f"policy={{model: {bare}, max_length: 512, init: random}}")
    assert "has no config.json" in the_problem(f"teacher.model={tmp_path}")
    (tmp_path / "adapter_config.json").touch()
    assert "no config.json. It holds an adapter alone. Merge" in the_problem(f"teacher.model={tmp_path}")
    assert f"is in {folder('run/export')}" in the_problem(f"teacher.model={tmp_path / 'run'}")
    (bare / "config.json").write_text("{")
    assert "its config.json is no JSON" in the_problem(
        f"policy={{model: {bare}, max_length: 512, init: random}}"
    )


@pytest.mark.parametrize("typed", ["mine", "./mine", "deep/../mine"])
def test_a_model_that_was_typed_is_the_same_one_from_anywhere(
    folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    mine, elsewhere = folder("mine"), folder("elsewhere/mine").parent
    (tmp_path / "deep").mkdir()
    (elsewhere / "deep").mkdir()
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "kept.yaml"
    kept.write_text(dump(read(f"policy={{model: {typed}, max_length: 512}}", f"teacher.model={typed}")))
    monkeypatch.chdir(elsewhere)
    config = load(kept)
    assert {resolve_model(model) for model in (config.policy.model, config.teacher.model)} == {str(mine)}


def test_resolve_model(folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_model("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    folder("models/kk-student")
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    assert resolve_model("rlad:kk-student") == str(tmp_path / "models" / "kk-student")
    with pytest.raises(ValueError, match="Write one of rlad:kk-student"):
        resolve_model("rlad:kk-teacher")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("models/kk-student") == str(tmp_path / "models" / "kk-student")
    for missing in ("", " "):
        with pytest.raises(ValueError, match="no model is named"):
            resolve_model(missing)
    for missing in ("models/x/y", "nothing", "../a", "/a/b"):
        with pytest.raises(ValueError, match=r"no such folder|has no config"):
            resolve_model(missing)


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
        (f"a: {'[' * 3000}{']' * 3000}", "is no YAML: it has too many levels"),
        (f"seed: {'9' * 5000}", "an integer of 5000 digits is too long"),
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
    for name in ("kk-student", "kk-teacher", "kk4-teacher"):
        folder(f"models/{name}")
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    config = load(recipe)
    assert config.name == recipe.stem
