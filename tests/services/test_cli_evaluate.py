"""`rlad evaluate` before anything starts: what it refuses, and the plan that its options make."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from rlad_command import Said

from rlad_core import schema
from rlad_core.config import SHIPPED, load, resolve_model
from rlad_core.prompt_stream import held_out_prompts, tasks_of
from services.evaluate.measure import Stopped, _respondent
from services.evaluate.plan import Devices, EndpointModel, EvaluationPlan, LocalModel, ServedModel
from services.evaluate.respondents.deployed import DeployedModel

RECIPE = str(SHIPPED / "recipes" / "kk-tiny-trrd.yaml")


@pytest.fixture
def plan(rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch) -> Callable[..., EvaluationPlan]:
    """What an evaluation would do; nothing is started."""
    plans: list[EvaluationPlan] = []

    def measure(plan: EvaluationPlan, console: object) -> list[object]:
        plans.append(plan)
        raise Stopped("before it began")

    monkeypatch.setattr("services.evaluate.measure.measure", measure)

    def planned(*arguments: str) -> EvaluationPlan:
        said = rlad("evaluate", *arguments)
        assert said.code == 1, said.err
        assert f"Go on with the same command:\n  rlad evaluate {shlex.join(arguments)}" in said.out
        return plans[-1]

    return planned


def engine(plan: EvaluationPlan, place: int = 0) -> object:
    model = plan.models[place]
    assert isinstance(model, LocalModel)
    return model.engine


def test_what_cannot_be_is_refused(rlad: Callable[..., Said]) -> None:
    said = rlad("evaluate", "tiny:student")
    assert said.code == 2
    assert "policy.init" in said.err
    said = rlad("evaluate", "owner/model", "--people", "2, 9", "--split", "train")
    assert said.code == 2
    assert "task.evaluation.people" in said.err
    assert "task.evaluation.split" in said.err


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("owner/model", "--task", "sudoku"), "'sudoku' is unknown; write knights_knaves, math"),
        (("owner/model", "--task", "math"), "math needs a data file; write --file PATH"),
        (("owner/model", "--task", "math", "--people", "2"), "people: task math has no use for it"),
        (("owner/model", "--file", "a.jsonl"), "there is no such file"),
        (("owner/model", "--task", "nowhere.py:Riddles"), "nowhere.py cannot be read: No such file"),
        (("owner/model", "--task", "none.yaml"), "there is no such file"),
        (("owner/model", "--task", RECIPE, "--count", "3"), "count: task of"),
        (("owner/model", "--k", "2", "--temperature", "0"), "2 responses at --temperature 0 would be equal"),
        (("owner/model", "--pass-k", "1,2"), "2 is not within 1..1 (--k)"),
        (("owner/model", "owner/model"), "owner/model is there twice"),
        (("owner/model", "--dtype", "float16"), "'float16'; write auto, float32 or bfloat16"),
        (("owner/model", "--set", "max_num_seq=4"), "--set max_num_seq: an engine has num_replicas,"),
        (("owner/model", "--set", "max_num_seqs"), "--set max_num_seqs: is no assignment. Write path=value"),
        (("owner/model", "--set", "max_num_seqs=abc"), "--set max_num_seqs ('abc'): is no whole number"),
        (("owner/model", "--suite", "gsm8k", "--split", "test"), "split: task gsm8k has no use for it"),
        (("owner/model", "--suite", "gsm8k", "--people", "2"), "people: task gsm8k has no use for it"),
        (("owner/model", "--suite", "gsm8k", "--file", "x"), "files: task gsm8k has no use for it"),
        (("owner/model", "--suite", "gsm8k", "--format", "x"), "layout: task gsm8k has no use for it"),
        (("owner/model", "--seed", str(2**63)), "--seed"),
        (("owner/model", "--set", "num_replicas=4"), "--set num_replicas: this has an option of its own"),
        (
            ("owner/model", "--set", "chat_template=mine.jinja"),
            "--set chat_template: prompts are made here, with the template of the model's tokenizer",
        ),
        (
            ("owner/model", "--set", "chat_template_kwargs.x=1"),
            "rollout --model owner/model --set chat",
        ),
        (("owner/model", "--key-env", "NO_SUCH_KEY"), "the environment variable NO_SUCH_KEY holds no token"),
        (("nowhere/at/all",), "MODEL ('nowhere/at/all'): there is no such folder"),
        ((), "write a model, or --endpoint URL --model NAME"),
        (("--endpoint", "http://x"), "--endpoint URL and --model NAME belong together"),
        (("--model", "x"), "--endpoint URL and --model NAME belong together"),
        (("--endpoint", "x", "--model", "y"), "x is no address. Write http://HOST:PORT"),
        (("--endpoint", "http://x/v1/chat/completions", "--model", "y"), "Write http://x/v1"),
        (("http://x:port",), "http://x:port is no address"),
        (
            ("http://x/v1/rollouts",),
            "ends in a route (/v1/rollouts), and routes are added to it. Write http://x",
        ),
        (("http://x", "--max-length", "99"), "a model elsewhere has a length of its own"),
        (("http://x", "--set", "kv_cache_memory_gib=4"), "--set: is of an engine, and none is started here"),
        (("http://x", "--gpus", "0"), "--gpus: is of an engine"),
        (("http://x", "--replicas", "2"), "--replicas: is of an engine"),
        (("http://x", "--dtype", "bfloat16"), "--dtype: is of an engine"),
        (("--endpoint", "http://x", "--model", "y", "--tensor-parallel", "2"), "--tensor-parallel: is of an"),
        (("rlad:kk-student", "--max-length", "9000"), "--max-length (9000): MODEL rlad:kk-student reads"),
        (("owner/model", "--max-length", "99", "--max-response-length", "99"), "in --max-length 99. Write"),
    ],
)
def test_wrong_usage_says_what_to_write(rlad: Callable[..., Said], wrong: tuple[str, ...], says: str) -> None:
    said = rlad("evaluate", *wrong)
    assert said.code == 2
    # What is printed in a box has its lines broken.
    assert says in " ".join(said.err.replace("│", " ").split())


def test_generate_names_its_own_argument(rlad: Callable[..., Said]) -> None:
    said = rlad("generate", "kk-tiny-sft", "nosuch")
    assert said.code == 2
    assert "TEACHER ('nosuch'): there is no such folder" in said.err
    said = rlad("generate", "kk-tiny-sft", "http://teacher", "--gpus", "1")
    assert "--gpus: is of an engine, and none is started here" in " ".join(said.err.replace("│", " ").split())
    said = rlad("generate", "kk-tiny-sft", "http://teacher/v1/rollouts")
    assert said.code == 2
    assert "TEACHER: http://teacher/v1/rollouts ends in a route" in " ".join(
        said.err.replace("│", " ").split()
    )


def test_a_missing_suite_is_named_with_its_command(rlad: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "amc23.jsonl").write_text(json.dumps({"question": "1 + 1", "answer": 2}) + "\n")
    said = rlad("evaluate", "owner/model", "--suite", "amc23,gsm8k", "--data", str(tmp_path))
    assert said.code == 2
    assert f"hf download openai/gsm8k --repo-type dataset --local-dir {tmp_path}/gsm8k" in said.err
    assert "amc23" not in said.err
    said = rlad(
        "evaluate", "owner/model", "--suite", "amc23", "--max-length", "9", "--max-response-length", "9"
    )
    assert said.code == 2
    said = rlad("evaluate", "owner/model", "--suite", "amc23", "--task", "math")
    assert "write --task or --suite, not both" in " ".join(said.err.split())


def test_the_tasks_of_a_recipe(plan: Callable[..., EvaluationPlan]) -> None:
    config = load(RECIPE)
    made = plan("owner/model", "--task", RECIPE)
    assert list(made.questions.prompts) == held_out_prompts(config, tasks_of(config))
    assert config.task is not None
    assert made.verifier.tasks == {"knights_knaves": config.task.judge()}


def test_a_recipe_that_ships_by_its_name(plan: Callable[..., EvaluationPlan]) -> None:
    assert (
        plan("owner/model", "--task", "kk-tiny-trrd").questions
        == plan("owner/model", "--task", RECIPE).questions
    )


def test_a_recipe_says_who_judges_and_how_prompts_are_asked(
    plan: Callable[..., EvaluationPlan], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(
        "extends: kk-tiny-trrd\nverifier: {time_limit_s: 60, workers: 3}\npolicy: {max_prompt_length: 40, "
        "longer_prompts: truncate_left, chat_template_kwargs: {enable_thinking: false}}\n"
    )
    made = plan("rlad:kk-student", "--task", "mine.yaml", "--dtype", "float32")
    assert (made.verifier.time_limit_s, made.verifier.workers) == (60, 3)
    [model] = made.models
    assert isinstance(model, LocalModel)
    policy = model.recipe.policy
    assert (policy.model, policy.cut_at) == (engine(made).model, 40)
    assert policy.chat_template_kwargs == {"enable_thinking": False}
    respondent = _respondent(model, made)
    assert isinstance(respondent, DeployedModel)
    assert max(schema.lengths(respondent._prompts["prompt_token_ids"])) == 40
    # What is kept of other prompts is not taken for these.
    plain = plan("rlad:kk-student", "--task", RECIPE, "--dtype", "float32")
    asked_otherwise = {"max_prompt_length": 40, "chat_template_kwargs": {"enable_thinking": False}}
    assert respondent.identity == _respondent(plain.models[0], plain).identity | asked_otherwise


def test_gpus_that_are_not_there_are_missed_before_anything_starts(
    rlad: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = rlad("evaluate", "rlad:kk-student", "--gpus", "4", "--count", "1", "--people", "2")
    assert said.code == 2
    assert "--gpus 4: " in said.err


def test_a_suite(plan: Callable[..., EvaluationPlan], tmp_path: Path) -> None:
    (tmp_path / "amc23.jsonl").write_text(json.dumps({"question": "1 + 1", "answer": 2}) + "\n")
    made = plan("owner/model", "--suite", "amc23", "--data", str(tmp_path), "--k", "4", "--pass-k", "1,4")
    assert [prompt.subset for prompt in made.questions.prompts] == ["amc23"]
    assert {"math", "knights_knaves"} <= set(made.verifier.tasks)
    assert (made.questions.samples, made.ks) == (4, (1, 4))


def test_lengths_follow_max_length(plan: Callable[..., EvaluationPlan]) -> None:
    assert engine(plan("rlad:kk-student")).max_model_len == 1024  # what it reads
    assert engine(plan("owner/model")).max_model_len == 4096
    made = plan("owner/model", "--max-length", "8192")
    assert engine(made).max_model_len == 8192
    assert made.sampling.max_tokens is None  # what the prompt leaves
    assert plan("owner/model", "--max-response-length", "300").sampling.max_tokens == 300


def test_engine_and_devices(plan: Callable[..., EvaluationPlan]) -> None:
    made = plan(
        *("owner/model", "--gpus", "4", "--tensor-parallel", "2", "--dtype", "bfloat16"),
        *("--set", "max_num_seqs=64", "--set", "kv_cache_memory_gib=4"),
    )
    assert made.devices == Devices(gpus=4, replicas=None, tensor_parallel=2)
    args = engine(made)
    assert (args.dtype, args.max_num_seqs, args.kv_cache_memory_gib) == ("bfloat16", 64, 4)
    assert engine(plan("owner/model")).dtype == "auto"
    placed = made.devices.placed(args, 8)
    assert (placed.num_replicas, placed.num_gpus, placed.tensor_parallel_size) == (2, 2, 2)
    # All GPUs that there are, and CPUs where there is none.
    assert Devices().placed(args, 8).num_replicas == 8
    assert (Devices().placed(args, 0).num_replicas, Devices().placed(args, 0).num_gpus) == (1, 0)
    assert Devices(gpus=0, replicas=3).placed(args, 8).num_replicas == 3
    for devices, there, says in (
        (Devices(gpus=4), 2, "--gpus 4: the cluster has 2"),
        (Devices(replicas=3, tensor_parallel=2), 4, "3 replicas of 2 GPUs .* need 6, and there are 4"),
        (Devices(tensor_parallel=4), 2, "1 replicas of 4 GPUs .* need 4, and there are 2"),
    ):
        with pytest.raises(ValueError, match=says):
            devices.placed(args, there)


def test_models_of_all_kinds_side_by_side(
    plan: Callable[..., EvaluationPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    made = plan(
        *(
            "rlad:kk-student",
            "http://127.0.0.1:1",
            "--endpoint",
            "https://x/v1",
            "--model",
            "a",
            "--model",
            "b",
        ),
        *("--key-env", "MY_KEY", "--concurrency", "7", "--timeout", "9", "--seed", "5"),
    )
    local, *elsewhere = made.models
    assert isinstance(local, LocalModel)
    assert resolve_model(local.engine.model) == resolve_model("rlad:kk-student")
    assert elsewhere == [
        ServedModel("http://127.0.0.1:1", "http://127.0.0.1:1"),
        EndpointModel("a", "https://x/v1", "a"),
        EndpointModel("b", "https://x/v1", "b"),
    ]
    assert (made.token, made.concurrency, made.timeout_s, made.sampling.seed) == ("secret", 7, 9, 5)


def test_where_responses_are_kept(
    rlad: Callable[..., Said],
    plan: Callable[..., EvaluationPlan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert plan("owner/model").out == Path("evaluations")
    assert (tmp_path / "evaluations").is_dir()
    (tmp_path / "taken").write_text("")
    said = rlad("evaluate", "owner/model", "--out", "taken/x")
    assert said.code == 2
    assert "--out taken/x cannot be written to: Not a directory" in said.err
    (tmp_path / "evaluations").rmdir()
    (tmp_path / "evaluations").write_text("")  # so that there can be no such folder
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert plan("owner/model").out.name.startswith("rlad-evaluations-")


def test_files_of_one_name_are_told_apart(plan: Callable[..., EvaluationPlan], tmp_path: Path) -> None:
    row = json.dumps({"question": "1 + 1", "answer": "#### 2"}) + "\n"
    files = [tmp_path / folder / "test.jsonl" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(row)
    paths = [part for file in files for part in ("--file", str(file))]
    made = plan("owner/model", "--task", "math", "--format", "gsm8k", *paths)
    assert [prompt.subset for prompt in made.questions.prompts] == ["a-test", "b-test"]
    # The same problem, answered once.
    assert len(made.questions.distinct) == 1
    assert len(made.questions.rows()) == 2


def test_responses_of_another_engine_are_not_taken_for_this_ones(
    plan: Callable[..., EvaluationPlan],
) -> None:
    def identity(*settings: str) -> Mapping[str, object]:
        made = plan("rlad:kk-student", "--count", "2", *settings)
        return _respondent(made.models[0], made).identity

    plain = identity("--set", "max_num_seqs=64")
    assert "engine_args" not in plain  # so what was kept before goes on
    assert identity("--set", "engine_args.quantization=fp8") == {
        **plain,
        "engine_args": {"quantization": "fp8"},
    }
