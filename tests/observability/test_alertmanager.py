"""Who is told of alerts: routes that lead somewhere, the same with and without Prometheus' operator."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.prometheus.executables import MissingError, executables

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "alertmanager"
CONFIG: dict[str, Any] = yaml.safe_load((FOLDER / "alertmanager.yaml").read_text())
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]


def receiver_of(alert: dict[str, Any]) -> str:
    """As Alertmanager walks the routes: the first that matches, else the root's."""
    labels = {**alert["labels"], "alertname": alert["alert"]}
    for route in CONFIG["route"]["routes"]:
        pairs = [matcher.split("=", 1) for matcher in route["matchers"]]
        if all(labels.get(name) == value.strip('"') for name, value in pairs):
            return str(route["receiver"])
    return str(CONFIG["route"]["receiver"])


def test_every_alert_reaches_a_receiver_that_is_there() -> None:
    known = {receiver["name"] for receiver in CONFIG["receivers"]}
    told = {alert["alert"]: receiver_of(alert) for alert in ALERTS}
    assert set(told.values()) == known
    assert told["RladNoStepFinished"] == "on-call"
    assert told["RladClipFractionHigh"] == "team"


def test_what_is_inhibited_exists() -> None:
    names = {alert["alert"] for alert in ALERTS}
    for rule in CONFIG["inhibit_rules"]:
        for matcher in rule["source_matchers"]:
            assert matcher.split("=")[1].strip('"') in names


def test_the_operator_gets_the_same_routes() -> None:
    spec = yaml.safe_load((FOLDER / "operator" / "alertmanager-config.yaml").read_text())["spec"]
    ours, theirs = CONFIG["route"], spec["route"]
    assert (theirs["receiver"], theirs["groupBy"]) == (ours["receiver"], ours["group_by"])
    assert [route["receiver"] for route in theirs["routes"]] == [r["receiver"] for r in ours["routes"]]
    assert {one["name"] for one in spec["receivers"]} == {one["name"] for one in CONFIG["receivers"]}


def test_prometheus_finds_it_in_compose() -> None:
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    [found] = json.loads((ROOT / "docker" / "alertmanagers" / "compose.json").read_text())
    name, port = found["targets"][0].split(":")
    assert name in compose
    assert compose[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
    [files] = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())["alerting"][
        "alertmanagers"
    ][0]["file_sd_configs"][0]["files"]
    assert f"./alertmanagers:{Path(files).parent}:ro" in compose["prometheus"]["volumes"]


def test_alertmanager_takes_it() -> None:
    try:
        amtool = executables("prometheus-alertmanager")["amtool"]
    except MissingError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [amtool, "check-config", str(FOLDER / "alertmanager.yaml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
