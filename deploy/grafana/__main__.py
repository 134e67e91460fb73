"""Write what is generated: dashboards, Prometheus' rules, and the panels' part of docs/observability.md.

Run it from the repository's root after a change, ``python -m deploy.grafana``; a test compares.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from deploy.grafana import cluster_services, rollout_vllm, teacher_scoring, training_run
from deploy.grafana.document import document
from deploy.grafana.guide import with_panels
from deploy.grafana.recording import rule_file

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = tuple(m.DASHBOARD for m in (training_run, teacher_scoring, rollout_vllm, cluster_services))
GUIDE = ROOT / "docs" / "observability.md"
PROMETHEUS = ROOT / "deploy" / "prometheus"
#: Where the checkout can be read by those whom Alertmanager wakes; it ends with a slash.
RUNBOOKS = "https://git.example.com/rlad/blob/main/"
_RULES_HEAD = "# Written by `python -m deploy.grafana`; edit deploy/grafana/recording.py.\n"
_OPERATOR_HEAD = """\
# Written by `python -m deploy.grafana` from recording.rules.yaml and alerts.rules.yaml. Where the runbooks
# are, RUNBOOKS in deploy/grafana/__main__.py says.
"""


def generated() -> dict[Path, str]:
    """Text of every generated file."""
    folder = ROOT / "deploy" / "grafana" / "dashboards"
    files = {
        folder / f"{dashboard.uid}.json": json.dumps(document(dashboard, DASHBOARDS), indent=1) + "\n"
        for dashboard in DASHBOARDS
    }
    rules = rule_file()
    files[PROMETHEUS / "recording.rules.yaml"] = _RULES_HEAD + _yaml(rules)
    alerts = yaml.safe_load((PROMETHEUS / "alerts.rules.yaml").read_text())
    files[PROMETHEUS / "operator" / "rules.yaml"] = _OPERATOR_HEAD + _yaml(prometheus_rule(rules, alerts))
    files[GUIDE] = with_panels(GUIDE.read_text(), DASHBOARDS)
    return files


def prometheus_rule(*rule_files: dict[str, Any]) -> dict[str, Any]:
    """The rule files as one object of the Prometheus operator; runbooks can be opened from anywhere."""
    groups = [group for file in rule_files for group in file["groups"]]
    for annotations in (
        rule["annotations"] for group in groups for rule in group["rules"] if "alert" in rule
    ):
        annotations["runbook_url"] = RUNBOOKS + annotations["runbook_url"]
    # The label is the one that the Prometheus of kube-prometheus-stack selects by.
    labels = {"app.kubernetes.io/part-of": "rlad", "release": "prometheus"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "rlad", "labels": labels},
        "spec": {"groups": groups},
    }


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, width=1000)


if __name__ == "__main__":
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
