"""Values at the ends of what a recipe accepts work; those beyond are refused by name before a run starts."""

from __future__ import annotations

import inspect
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from example_recipe import read, refusal, the_problem
from token_batches import batch
from transformers import PreTrainedTokenizerBase

from rlad_core.config import ConfigError, load
from rlad_core.language_model.chat import template_variables
from rlad_core.objectives import KINDS, Objective
from rlad_core.sections.base import LONGEST_WAIT_S

WAITS = (
    "cluster.start_timeout_s", "rollout.timeout_s", "learner.timeout_s", "weights.timeout_s",
    "teacher.timeout_s", "verifier.time_limit_s", "telemetry.linger_s",
)  # fmt: skip
LONG = "x" * 300
DEEP = "a/" * 3000 + "b.jsonl"


@pytest.mark.parametrize("path", WAITS)
def test_a_wait_is_one_that_a_clock_can_hold(path: str) -> None:
    read(f"{path}=1e9", "verifier.workers=1000000")
    assert the_problem(f"{path}=1e10", "verifier.workers=1000000000").startswith(f"{path} (10000000000.0): ")


def test_the_longest_wait_is_none_that_a_thread_or_torch_refuses() -> None:
    over = threading.Event()
    threading.Timer(0.01, over.set).start()
    assert over.wait(2 * LONGEST_WAIT_S)
    assert timedelta(seconds=2 * LONGEST_WAIT_S)
    over.clear()
    with pytest.raises(OverflowError):
        over.wait(10 * LONGEST_WAIT_S)


def test_a_limit_of_memory_is_one_that_a_process_can_have() -> None:
    read("verifier.memory_limit_mib=1099511627776")
    assert "at most 1099511627776" in the_problem("verifier.memory_limit_mib=10000000000000")


def test_an_output_folder_has_a_name() -> None:
    # Nothing before a run's name is the root of all folders, and no current one.
    assert the_problem("output.dir=''").startswith("output.dir ('')")
    assert read("output.dir=.").run_dir == "./example"


@pytest.mark.parametrize(
    "override",
    [
        f"policy.model={LONG}",
        f"teacher.model={LONG}",
        f"task={{name: math, train: {{files: [{LONG}.jsonl]}}, evaluation: {{files: [{LONG}.jsonl]}}}}",
        f"task={{name: math, train: {{files: [{DEEP}]}}, evaluation: {{files: [{DEEP}]}}}}",
    ],
)
def test_what_is_too_long_for_a_path_is_not_there(override: str) -> None:
    assert "there is no such" in str(refusal(override))


def test_a_recipes_path_that_is_too_long_is_not_there() -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(Path(LONG))


def test_any_number_of_puzzles_is_shared_out_over_the_sizes() -> None:
    for count, counts in ((1, [1, 0]), (5, [3, 2]), (10**30, [5 * 10**29, 5 * 10**29])):
        assert [
            part.count for part in read(f"task.train.count={count}").task_sections["task"].train_parts
        ] == counts


def test_the_renderers_own_settings_are_no_variables_of_a_template() -> None:
    renderer = inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters
    for name in ({"messages"} | set(renderer)) - {"tools", "documents", "kwargs"}:
        with pytest.raises(ValueError, match=f"has {name}, which is no variable of the template"):
            template_variables({"enable_thinking": False, name: 1})
    template_variables({"enable_thinking": False, "tools": [], "documents": []})
    says = the_problem("policy.chat_template_kwargs={tokenize: true}")
    assert says.startswith("policy.chat_template_kwargs")
    assert "Leave it out" in says


def test_a_nodes_label_that_is_none_is_refused() -> None:
    for role in ("rollout", "teacher", "learner"):
        says = the_problem(f"{role}.node_labels={{my role: serving}}")
        assert says.startswith(f"{role}.node_labels")
        assert "has 'my role', which is no label" in says
    assert "'in(a' for role: wanted are 63 letters" in the_problem("learner.node_labels={role: in(a}")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["learner.entropy_every=10", "learner.adaptive_entropy={}"], "or adaptive_entropy: null"),
        (["stages=[{steps: 1, objective: {kind: trrd, anchor: normalised}}]"], "wants more of each place"),
        (
            ["stages=[{steps: 1, objective: {kind: trrd, anchor: normalised, source: hidden}}]"],
            "wants more of",
        ),
        (["stages=[{steps: 1, objective: {kind: gkd, top_of: policy}}]"], "wants more of each place"),
    ],
)
def test_a_fused_kernel_that_no_pass_would_call_is_refused(overrides: list[str], says: str) -> None:
    fused = [
        "learner.logprobs=fused",
        "learner.num_gpus=1",
        "policy.dtype=bfloat16",
        "learner.entropy_every=10",
    ]
    assert says in the_problem(*fused, *overrides)
    read(*fused)  # of the stages of the example, which take the response's tokens alone
    read(*fused, "stages.0.objective={kind: gkd}")


def _numbers(kind: str) -> list[tuple[str, float]]:
    """Settings of a kind, each with the ends of what it takes."""
    fields = KINDS[kind].model_fields
    numeric = [name for name, field in fields.items() if "float" in str(field.annotation)]
    return [(name, value) for name in numeric for value in (1e30, 1.0, 1e-30, 0.0)]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_whatever_a_recipe_takes_of_an_objective_is_computed(kind: str) -> None:
    computed = 0
    for name, value in _numbers(kind):
        given = {"kind": kind, name: value} | ({"fixed_length": 8} if kind == "dr_grpo" else {})
        try:
            objective = KINDS[kind].model_validate(given)
        except ValueError:
            continue
        if any(objective.problems()):
            continue
        output = objective(_batch(objective), 0)
        assert not torch.isnan(output.loss)
        computed += 1
    assert computed or not _numbers(kind)


def _batch(objective: Objective):
    """Three tokens in float32, of which the teacher doubts one, says the same of one, and is sure of one."""
    policy = torch.tensor([-0.5, -1.0, -2.0])
    teacher = torch.tensor([-3.0, -1.0, -0.1])
    return batch(
        policy,
        teacher_logprobs=teacher,
        reference_logprobs=policy - 0.1,
        advantages=torch.tensor([1.0, 0.0, -1.0]),
        is_last=torch.tensor([False, True, True]),
        is_end=torch.tensor([False, True, True]),
        is_correct=torch.tensor([True, True, False]),
        group_has_correct=torch.ones(3, dtype=torch.bool),
        token_advantages=torch.tensor([1.0, -1.0, 0.0]),
        top_logprobs=teacher[:, None],
        policy_top_logprobs=policy.detach()[:, None].requires_grad_(),
        policy_rest_logprobs=torch.log(-torch.expm1(policy.detach())).requires_grad_(),
    )


def test_a_number_that_no_float32_has_is_refused() -> None:
    says = the_problem("stages.0.objective.mismatch_cap=1e300")
    assert says.startswith("stages.0.objective.mismatch_cap (1e+300): is too much for float32")
