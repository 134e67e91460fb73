"""Metric declarations: conventions hold, and the page about them is the one they give."""

from itertools import pairwise
from pathlib import Path

import pytest

from rlad_core.metric_document import SECTIONS, markdown
from rlad_core.metric_specs import DURATION_BUCKETS, LABELS, STAGES, MetricSpec
from rlad_core.metrics import METRICS

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == markdown(), (
        "docs/metrics.md is old: run `python -m rlad_core.metric_document > docs/metrics.md`"
    )


def test_every_metric_is_on_the_page_once() -> None:
    for name in METRICS:
        assert markdown().count(f"| `{name}` | {METRICS[name].kind} |") == 1
    assert all(name.startswith(tuple(SECTIONS.values())) for name in METRICS)


@pytest.mark.parametrize("spec", METRICS.values(), ids=METRICS)
def test_units_are_in_the_names(spec: MetricSpec) -> None:
    stem = spec.name.removesuffix("_total")
    for unit, suffix in (
        ("seconds", "_seconds"),
        ("ratio", "_ratio"),
        ("nats", "_nats"),
        ("tokens", "_tokens"),
    ):
        assert (spec.unit == unit) == stem.endswith(suffix)
    assert spec.help.endswith(".")
    assert "run" in spec.labels


def test_each_histogram_of_seconds_has_an_exact_counter() -> None:
    for spec in METRICS.values():
        if spec.kind == "histogram" and spec.unit == "seconds":
            partner = METRICS[spec.name.replace("_duration_seconds", "_seconds_total")]
            assert (partner.kind, partner.labels) == ("counter", spec.labels)


def test_buckets_reach_from_ten_microseconds_to_an_hour_in_fine_steps() -> None:
    assert (DURATION_BUCKETS[0], DURATION_BUCKETS[-1]) == (1e-5, 3600.0)
    assert all(low < high <= 1.7 * low for low, high in pairwise(DURATION_BUCKETS))


def test_labels_are_described_and_used() -> None:
    assert {label for spec in METRICS.values() for label in spec.labels} == set(LABELS)
    assert STAGES[-1] == "step"
    assert len(set(STAGES)) == 12


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "other_x"}, "rlad_"),
        ({"name": "rlad_x_total"}, "_total"),
        ({"labels": ("prompt",)}, "not described"),
        ({"buckets": (1.0,)}, "nothing else has any"),
        ({"kind": "histogram"}, "rising buckets"),
        ({"kind": "histogram", "buckets": (2.0, 1.0)}, "rising buckets"),
    ],
)
def test_a_wrong_declaration_is_refused(change: dict[str, object], words: str) -> None:
    right: dict[str, object] = {
        "name": "rlad_x",
        "kind": "gauge",
        "unit": "x",
        "labels": ("run",),
        "help": "X.",
    }
    MetricSpec(**right)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=words):
        MetricSpec(**(right | change))  # type: ignore[arg-type]
