"""Which alerts a real fault fires, which promtool alone, and the rules that are hastened for it."""

import re
from pathlib import Path

import yaml

from deploy.prometheus.faster import faster

ROOT = Path(__file__).resolve().parents[2]
RULES = (ROOT / "deploy" / "prometheus" / "alerts.rules.yaml").read_text()
PAGE = (ROOT / "docs" / "observability.md").read_text()
#: What needs Kubernetes or GPUs.
BY_PROMTOOL = {"RladContainerKilledForMemory", "RladGpuMemoryForeseen", "RladGpuError", "RladGpuHot"}


def by_name(rules: str) -> dict[str, dict[str, str]]:
    groups = yaml.safe_load(rules)["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_all_times_of_a_rule_are_hastened_alike() -> None:
    hastened = by_name(faster(RULES, 20))
    step = hastened["RladNoStepFinished"]
    assert step["for"] == "90000ms"
    assert step["expr"].count("[15000ms]") == 4
    assert step["expr"].count("offset 15000ms") == 1
    memory = hastened["RladMemoryForeseen"]["expr"]
    assert (
        "predict_linear(ray_node_mem_used[90000ms], 90) > last_over_time(ray_node_mem_total[6000ms])"
        in memory
    )
    for name, rule in hastened.items():
        assert not re.search(r"\d[mh]\b", rule["expr"]), name


def test_by_one_nothing_changes_but_the_unit() -> None:
    assert by_name(faster(RULES, 1))["RladGpuHot"]["for"] == "300000ms"


def test_every_alert_is_fired_by_a_fault_or_listed_apart() -> None:
    sources = (ROOT / "deploy" / "prometheus" / "fire").glob("*.py")
    fired = {name for file in sources for name in re.findall(r'"(Rlad\w+)"', file.read_text())}
    assert fired | BY_PROMTOOL == set(by_name(RULES))
    assert not fired & BY_PROMTOOL
    told = PAGE[PAGE.index("## Who is told") : PAGE.index("## Traces")]
    assert set(re.findall(r"^\| `(Rlad\w+)`", told, flags=re.MULTILINE)) == fired
    assert set(re.findall(r"`(Rlad\w+)`", told)) - fired == BY_PROMTOOL
