"""The dashboards are what the program writes, and what Grafana 11 and 12 expect."""

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard
from ray.serve._private import constants

from deploy.grafana.__main__ import DASHBOARDS, ROOT, RUNBOOKS, generated
from deploy.grafana.foreign import OCCASIONAL, SEEN, SERVE_LATENCY_MS
from deploy.grafana.model import COLUMNS
from deploy.grafana.promql import exported
from deploy.grafana.recording import RECORDED
from rlad_core.metrics import METRICS
from services.vllm.metrics import buckets_of

GRAFANA = ROOT / "deploy" / "grafana"
PROMETHEUS = ROOT / "deploy" / "prometheus"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
SUFFIXES = ("_bucket", "_count", "_sum", "")
#: Of Grafana's own units, those that we use.
UNITS = {"s", "ms", "percentunit", "short", "none", "sci", "bytes", "reqps", "cps", "watt", "celsius"}
#: Panels whose numbers are neither good nor bad by themselves; why is said where they are made.
UNJUDGED = {panel.title for board in DASHBOARDS for panel in board.panels if panel.unjudged}


def load(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(file.read_text())
    return loaded


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Of open rows and closed ones."""
    inside = [panel for row in board["panels"] for panel in row.get("panels", ())]
    return [panel for panel in (*board["panels"], *inside) if panel["type"] != "row"]


def metrics_in(expr: str) -> set[str]:
    return set(re.findall(r"\b(?:ray_|rlad:|rlad_|kube_|DCGM_FI_)[A-Za-z0-9_:]+", expr))


def stem(name: str, known: set[str]) -> bool:
    return any(name.removesuffix(suffix) in known for suffix in SUFFIXES if name.endswith(suffix))


def lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Paths of what is not the same any more; what came on top does not count."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after.get(key), f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (value, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(value, other, f"{path}/{index}")
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


def test_generated_files_are_up_to_date() -> None:
    for path, text in generated().items():
        assert path.read_text() == text, f"{path.name} is old: run `python -m deploy.grafana`"


def test_there_is_a_file_for_each_dashboard_and_no_other() -> None:
    assert [file.stem for file in FILES] == sorted(board.uid for board in DASHBOARDS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
class TestDashboard:
    def test_its_head(self, file: Path) -> None:
        board = load(file)
        assert board["uid"] == file.stem
        assert len(board["uid"]) <= 40
        assert "id" not in board  # Grafana's own, which an import would take for another dashboard's
        # 39 is Grafana 11.0's and 41 is 12.0's; an older one is brought up to date, a newer one is not.
        assert 36 <= board["schemaVersion"] <= 39
        assert board["title"].startswith("RLAD / ")
        assert {link["url"] for link in board["links"]} == {
            f"/d/{other.uid}" for other in DASHBOARDS if other.uid != board["uid"]
        }
        assert all(link["keepTime"] and link["includeVars"] for link in board["links"])

    @pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
    def test_nothing_in_it_is_unknown_to_grafana(self, file: Path) -> None:
        """Grafana's own types read it and write it again: a misspelt or misplaced field would be lost."""
        register_default_plugins()
        board = load(file)
        again = json.loads(JSONEncoder().encode(dashboard.Dashboard.from_json(board)))
        assert list(lost(board, again)) == []

    def test_places(self, file: Path) -> None:
        board = load(file)
        everything = [*panels(board), *(row for row in board["panels"] if row["type"] == "row")]
        ids = [panel["id"] for panel in everything]
        assert len(set(ids)) == len(ids)
        cells: dict[int, set[tuple[int, int]]] = {}
        for panel in everything:
            place = panel["gridPos"]
            assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
            assert place["h"] > 0
            cells[panel["id"]] = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
        for one, other in combinations(ids, 2):
            assert not cells[one] & cells[other], (one, other)

    def test_every_panel_is_whole(self, file: Path) -> None:
        board = load(file)
        titles = [panel["title"] for panel in panels(board)]
        assert len(set(titles)) == len(titles)
        for panel in panels(board):
            assert panel["type"] in {"timeseries", "stat", "bargauge", "table", "heatmap"}
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
            for part in ("Normal: ", "Otherwise: "):
                assert part in panel["description"], panel["title"]
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert steps[0]["value"] is None
            assert len({step["color"] for step in steps}) > 1 or panel["title"] in UNJUDGED, panel["title"]
            assert [s["value"] for s in steps[1:]] == sorted(s["value"] for s in steps[1:])
            assert panel["targets"]
            references = [target["refId"] for target in panel["targets"]]
            assert len(set(references)) == len(references)
            for target in panel["targets"]:
                assert target["expr"]
                assert target["instant"] != target["range"]
                assert (
                    target["datasource"]
                    == panel["datasource"]
                    == {
                        "type": "prometheus",
                        "uid": "${datasource}",
                    }
                )

    def test_variables(self, file: Path) -> None:
        board = load(file)
        names = [variable["name"] for variable in board["templating"]["list"]]
        assert names[0] == "datasource"
        used = set(re.findall(r"\$([a-z_]+)", json.dumps(panels(board)))) - {"__range", "__rate_interval"}
        assert used <= set(names)
        assert set(names) <= used | {"datasource"}, "variables that change nothing"
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                assert variable["query"]["query"] == variable["definition"]
                assert variable["allValue"] == ".*"
                assert stem(metrics_in(variable["definition"]).pop(), known()), variable

    def test_every_metric_exists(self, file: Path) -> None:
        for panel in panels(load(file)):
            for target in panel["targets"]:
                found = metrics_in(target["expr"])
                assert found, target["expr"]
                for name in found:
                    assert stem(name, known()), f"{panel['title']}: {name}"


def test_no_quantile_is_computed_past_the_rules_that_leave_artefacts_out() -> None:
    for board in DASHBOARDS:
        for panel in board.panels:
            assert not any("histogram_quantile" in query.expr for query in panel.queries), panel.title
            quantiles = [q for q in panel.queries if ":quantile{" in q.expr]
            bounds = [q for q in panel.queries if ":quantile_bound{" in q.expr]
            assert bool(quantiles) == bool(bounds) or panel.kind == "table", panel.title
    for rule in rules("recording.rules.yaml"):
        if rule["record"].endswith(":quantile"):
            assert re.search(r" > \S+ < \S+$", rule["expr"]), rule["record"]


def test_the_buckets_of_others_are_theirs() -> None:
    theirs = constants.DEFAULT_LATENCY_BUCKET_MS
    assert list(SERVE_LATENCY_MS) == theirs
    for one in RECORDED:
        assert one.buckets, exported(one.metric)
        if "vllm" in exported(one.metric):
            name = exported(one.metric).removeprefix("ray_").replace("vllm_", "vllm:", 1)
            assert buckets_of(name, [1.0]) == list(one.buckets), name


def known() -> set[str]:
    recorded = {rule["record"] for rule in rules("recording.rules.yaml")}
    foreign = SEEN | set(OCCASIONAL)
    ours = {exported(spec) for spec in METRICS.values()} | {"ray_rlad_"}
    alone = {spec.name for spec in METRICS.values()}  # as a process says them at its own /metrics
    return recorded | foreign | ours | alone


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_panel_judges_its_numbers_or_says_why_not() -> None:
    for panel in (panel for board in DASHBOARDS for panel in board.panels):
        assert bool(panel.thresholds) != bool(panel.unjudged), panel.title
    # Those that have an alert or a limit are judged, whatever is said.
    assert not [
        title for title in UNJUDGED if re.search("[Ll]atency|[Ee]rror|[Ff]ail|Memory$|KL|Clip|limit", title)
    ]


def test_every_run_metric_is_on_a_dashboard() -> None:
    shown = {
        name for f in FILES for p in panels(load(f)) for t in p["targets"] for name in metrics_in(t["expr"])
    }
    recorded = {exported(one.metric) for one in RECORDED}
    for spec in METRICS.values():
        name = exported(spec)
        assert any(other.startswith(name) for other in shown) or name in recorded, name


def test_configmaps_hold_the_dashboards() -> None:
    maps = yaml.safe_load((GRAFANA / "kustomization.yaml").read_text())["configMapGenerator"]
    held = {file for one in maps for file in one["files"]}
    # Nothing else: a second default data source would break the Grafana that reads it.
    assert held == {f"dashboards/{file.name}" for file in FILES}
    assert all((GRAFANA / file).stat().st_size < 2**20 for file in held), "a ConfigMap holds 1 MiB"


def test_provisioning_names_what_there_is() -> None:
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "rlad.yaml").read_text())
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "rlad.yaml").read_text())
    assert provider["apiVersion"] == source["apiVersion"] == 1
    assert [one["type"] for one in provider["providers"]] == ["file"]
    assert [one["type"] for one in source["datasources"]] == ["prometheus"]


def kustomized(folder: Path, kubectl: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("folder", [GRAFANA, PROMETHEUS], ids=["grafana", "prometheus"])
def test_kustomize_makes_the_config_maps(folder: Path, kubectl: str) -> None:
    made = kustomized(folder, kubectl)
    assert {one["kind"] for one in made} == {"ConfigMap"}
    texts = {name: text for one in made for name, text in one["data"].items()}
    for name, text in texts.items():
        if name.endswith(".json"):
            assert text == (GRAFANA / "dashboards" / name).read_text()


def test_the_operator_s_rules_are_those_of_the_files(kubectl: str) -> None:
    [made] = kustomized(PROMETHEUS / "operator", kubectl)
    assert made["kind"] == "PrometheusRule"
    assert made["metadata"]["labels"]["release"] == "prometheus"
    found = [rule for group in made["spec"]["groups"] for rule in group["rules"]]
    expected = [*rules("recording.rules.yaml"), *rules("alerts.rules.yaml")]
    for rule in expected:
        if "alert" in rule:
            rule["annotations"]["runbook_url"] = RUNBOOKS + rule["annotations"]["runbook_url"]
    assert found == expected


def test_runbooks_have_an_address() -> None:
    assert re.fullmatch(r"https://\S+/", RUNBOOKS)
