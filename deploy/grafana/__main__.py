"""Write what is generated: dashboards, recording rules, and the panels' part of docs/observability.md.

Run it from the repository's root after a change, ``python -m deploy.grafana``; a test compares.
"""

import json
from pathlib import Path

import yaml

from deploy.grafana import cluster_services, rollout_vllm, teacher_scoring, training_run
from deploy.grafana.document import document
from deploy.grafana.guide import with_panels
from deploy.grafana.recording import rule_file

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = tuple(m.DASHBOARD for m in (training_run, teacher_scoring, rollout_vllm, cluster_services))
GUIDE = ROOT / "docs" / "observability.md"
_RULES_HEAD = "# Written by `python -m deploy.grafana`; edit deploy/grafana/recording.py.\n"


def generated() -> dict[Path, str]:
    """Text of every generated file."""
    folder = ROOT / "deploy" / "grafana" / "dashboards"
    files = {
        folder / f"{dashboard.uid}.json": json.dumps(document(dashboard, DASHBOARDS), indent=1) + "\n"
        for dashboard in DASHBOARDS
    }
    rules = yaml.safe_dump(rule_file(), sort_keys=False, width=1000)
    files[ROOT / "deploy" / "prometheus" / "recording.rules.yaml"] = _RULES_HEAD + rules
    files[GUIDE] = with_panels(GUIDE.read_text(), DASHBOARDS)
    return files


if __name__ == "__main__":
    for path, text in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
