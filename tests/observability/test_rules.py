"""promtool on configuration, rules and their own tests; what every alert must have."""

import re
from pathlib import Path

import pytest
import yaml
from promtool_call import promtool

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
ALERTS = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]


def test_rules_are_sound(prometheus_programs: dict[str, Path]) -> None:
    files = ("recording.rules.yaml", "alerts.rules.yaml")
    promtool(prometheus_programs, "check", "rules", *files, folder=FOLDER)


def test_rules_do_what_their_tests_say(prometheus_programs: dict[str, Path]) -> None:
    assert "SUCCESS" in promtool(prometheus_programs, "test", "rules", "rules_test.yaml", folder=FOLDER)


def test_every_alert_is_tested_to_fire_and_not_to() -> None:
    groups = yaml.safe_load((FOLDER / "rules_test.yaml").read_text())["tests"]
    tests = [test for group in groups for test in group.get("alert_rule_test", [])]
    for fires in (True, False):
        tested = {test["alertname"] for test in tests if bool(test.get("exp_alerts")) is fires}
        assert tested == {alert["alert"] for alert in ALERTS}, "fires" if fires else "does not"


def test_the_local_configuration_is_sound(prometheus_programs: dict[str, Path]) -> None:
    # Syntax alone: what a file of targets says, on whichever machine this is, is not ours.
    promtool(prometheus_programs, "check", "config", "--syntax-only", "prometheus.yaml", folder=FOLDER)
    for name in yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["rule_files"]:
        assert (FOLDER / name).is_file()


def test_the_configuration_for_kubernetes_is_sound(
    prometheus_programs: dict[str, Path], tmp_path: Path
) -> None:
    """But for the discovery itself, which Debian's build leaves out."""
    config = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    for scrape in config["scrape_configs"]:
        assert scrape.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    promtool(prometheus_programs, "check", "config", "prometheus.yaml", folder=tmp_path)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    name = str(alert["alert"])
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    page, anchor = alert["annotations"]["runbook_url"].split("#")
    assert anchor == name.lower()
    headings = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert anchor in {heading.strip().lower().replace(" ", "-") for heading in headings}
