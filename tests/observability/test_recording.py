"""Every declared metric is recorded somewhere in the services, and the tables about others are right."""

import ast
from functools import cache
from pathlib import Path

import pytest

from rlad_core import metrics
from rlad_core.metric_specs import MetricSpec

ROOT = Path(__file__).resolve().parents[2]
CONSTANTS = {name: value for name, value in vars(metrics).items() if isinstance(value, MetricSpec)}


@cache
def recorded_constants() -> set[str]:
    """Names ``metrics.NAME`` in the services' code."""
    return {
        node.attr
        for file in (ROOT / "services").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "metrics"
    }


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_declared_metric_is_recorded(name: str) -> None:
    assert name in recorded_constants()
