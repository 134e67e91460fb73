"""A recipe that is written is read back as the same run."""

from __future__ import annotations

from typing import Any

from example_recipe import read
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.config import RunConfig, assign, dump, parse
from rlad_core.config.yaml_text import one_line

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
# A path of a home has no NUL, as no path has.
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
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
        "seed": st.integers(0, 2**63 - 1),
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
        "output": st.fixed_dictionaries({"dir": ANY_TEXT.filter(bool)}),
    }
)  # fmt: skip


@given(RUNS)
@settings(max_examples=25, deadline=None)
def test_what_is_dumped_is_read_back(data: dict[str, Any]) -> None:
    config = RunConfig.model_validate(data)
    assert RunConfig.model_validate(parse(dump(config))) == config


EXAMPLE = read()


@given(ANY_TEXT)
@settings(max_examples=100, deadline=None)
def test_any_text_survives_the_round_trip(text: str) -> None:
    config = EXAMPLE.model_copy(update={"name": text})
    assert parse(dump(config))["name"] == text


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=5,
)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_any_value_survives_as_an_assignment(value: object) -> None:
    written = one_line(value)
    assert "\n" not in written
    assert repr(assign({}, f"field={written}")["field"]) == repr(value)
