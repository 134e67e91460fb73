"""What an overlay may take in besides: rendered into it, as an operator would."""

import subprocess
from pathlib import Path

import pytest
import yaml
from manifests import ROOT, Manifest, of_kind, render, the, worker_groups

COMPONENTS = ROOT / "k8s" / "components"


def with_component(overlay: str, component: str, folder: Path, without: str = "") -> list[Manifest]:
    """The overlay with a component more, or with one in another's place."""
    made = folder / "k8s"
    subprocess.run(["cp", "-r", str(ROOT / "k8s"), str(made)], check=True, timeout=30)
    file = made / "overlays" / overlay / "kustomization.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["components"] = [c for c in settings["components"] if not without or without not in c]
    settings["components"].append(f"../../components/{component}")
    file.write_text(yaml.safe_dump(settings))
    return render(file.parent)


def test_every_component_is_tried_here() -> None:
    tried = {"ingress", "gateway", "incremental-upgrade", "kueue", "node-local-models"}
    assert {each.parent.name for each in COMPONENTS.glob("*/kustomization.yaml")} == tried


def test_a_gateway_in_place_of_the_ingress(tmp_path: Path) -> None:
    objects = with_component("teacher-service", "gateway", tmp_path, without="ingress")
    assert not of_kind(objects, "Ingress")
    gateway, route = the(objects, "Gateway"), the(objects, "HTTPRoute")
    assert route["spec"]["parentRefs"] == [{"name": gateway["metadata"]["name"]}]
    [listener] = gateway["spec"]["listeners"]
    assert route["spec"]["hostnames"] == [listener["hostname"]]
    [rule] = route["spec"]["rules"]
    service = the(objects, "RayService")["metadata"]["name"] + "-serve-svc"
    assert rule["backendRefs"] == [{"name": service, "port": 8000}]
    config = yaml.safe_load(the(objects, "RayService")["spec"]["serveConfigV2"])
    assert int(rule["timeouts"]["request"].removesuffix("s")) > config["http_options"]["request_timeout_s"]


@pytest.mark.parametrize("way_in", ["gateway", "ingress", "incremental-upgrade"])
def test_only_the_way_in_reaches_the_teacher(way_in: str, tmp_path: Path) -> None:
    objects = with_component("teacher-service", way_in, tmp_path, without="ingress")
    [policy] = [p for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"] == "teacher-requests"]
    [rule] = policy["spec"]["ingress"]
    [source] = rule["from"]
    assert {"namespaceSelector", "podSelector"} == source.keys()
    assert "kubernetes.io/metadata.name" in source["namespaceSelector"]["matchLabels"]


def test_an_upgrade_in_steps_takes_a_part_of_the_gpus_on_top(tmp_path: Path) -> None:
    objects = with_component("teacher-service", "incremental-upgrade", tmp_path, without="ingress")
    strategy = the(objects, "RayService")["spec"]["upgradeStrategy"]
    assert strategy["type"] == "NewClusterWithIncrementalUpgrade"
    options = strategy["clusterUpgradeOptions"]
    assert 0 < options["maxSurgePercent"] < 100
    assert options["stepSizePercent"] <= options["maxSurgePercent"]


def test_a_queued_run_waits_for_its_whole_quota(tmp_path: Path) -> None:
    objects = with_component("training", "kueue", tmp_path)
    job, queue = the(objects, "RayJob"), the(objects, "LocalQueue")
    assert job["spec"]["suspend"] is True
    labels = job["metadata"]["labels"]
    assert labels["kueue.x-k8s.io/queue-name"] == queue["metadata"]["name"]
    assert queue["metadata"]["namespace"] == job["metadata"]["namespace"]
    of_cluster = render(ROOT / "k8s" / "kueue")
    assert queue["spec"]["clusterQueue"] == the(of_cluster, "ClusterQueue")["metadata"]["name"]
    priorities = {each["metadata"]["name"] for each in of_kind(of_cluster, "WorkloadPriorityClass")}
    assert labels["kueue.x-k8s.io/priority-class"] in priorities
    covered = the(of_cluster, "ClusterQueue")["spec"]["resourceGroups"][0]["coveredResources"]
    for group in worker_groups(objects, "RayJob").values():
        assert group.container["resources"]["requests"].keys() <= {*covered}


def test_a_nodes_own_copy_is_what_the_teacher_loads(tmp_path: Path) -> None:
    objects = with_component("teacher-service", "node-local-models", tmp_path)
    [group] = worker_groups(objects, "RayService").values()
    [copies] = group.spec["initContainers"]
    program, command, source, _, target = copies["command"]
    assert (program, command) == ("rlad", "fetch")
    assert copies["image"] == group.container["image"]
    config = yaml.safe_load(the(objects, "RayService")["spec"]["serveConfigV2"])
    [model] = [app["args"]["model"] for app in config["applications"]]
    variables = {v["name"]: v.get("value") for v in group.container["env"]}
    assert (source, target) == (f"/models/{model}", f"{variables['RLAD_MODELS']}/{model}")
    writes = {mount["mountPath"] for mount in copies["volumeMounts"] if not mount.get("readOnly")}
    assert variables["RLAD_MODELS"] in writes
    assert copies["securityContext"]["readOnlyRootFilesystem"] is True
