"""Reading rendered manifests: objects of a kind, and the pods that come of them."""

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from rlad_core.config import RunConfig, load

ROOT = Path(__file__).parents[2]
OVERLAYS = {
    "namespace": ROOT / "k8s" / "base" / "namespace",
    **{
        path.parent.name: path.parent
        for path in sorted((ROOT / "k8s" / "overlays").glob("*/kustomization.yaml"))
    },
}
Manifest = dict[str, Any]
QWEN = "qwen3-0.6b-kk-trrd"
"""A recipe of ours."""


@dataclass(frozen=True)
class Pods:
    """Pods that an object brings up.

    Args:
        where: for messages: the object, and the group in it.
        labels: as they are on the pod, with those that the operator adds.
        most: how many there may be.
    """

    where: str
    template: Manifest
    labels: dict[str, str]
    most: int
    group: Manifest

    @property
    def spec(self) -> Manifest:
        return self.template["spec"]

    @property
    def container(self) -> Manifest:
        [container] = self.spec["containers"]
        return container

    @property
    def gpus(self) -> int:
        return int(self.container["resources"]["limits"].get("nvidia.com/gpu", 0))


def render(folder: Path) -> list[Manifest]:
    """What `kubectl kustomize` makes of a folder."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl, which is not installed here")
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(objects: list[Manifest], kind: str) -> list[Manifest]:
    return [each for each in objects if each["kind"] == kind]


def the(objects: list[Manifest], kind: str) -> Manifest:
    [found] = of_kind(objects, kind)
    return found


def ray_clusters(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Cluster specifications, by the name of the object that they are in."""
    for each in objects:
        for field in ("rayClusterConfig", "rayClusterSpec"):
            if field in each.get("spec", {}):
                yield f"{each['kind']} {each['metadata']['name']}", each["spec"][field]


def pods(objects: list[Manifest]) -> list[Pods]:
    """All pods of an overlay: heads, workers, submitters, and those of StatefulSets."""
    found = []
    for name, cluster in ray_clusters(objects):
        groups = [("head", cluster["headGroupSpec"], 1)]
        for group in cluster["workerGroupSpecs"]:
            groups.append(("worker", group, group["maxReplicas"] * group.get("numOfHosts", 1)))
        for node_type, group, most in groups:
            labels = {**group["template"]["metadata"]["labels"], "ray.io/node-type": node_type}
            where = f"{name}, {group.get('groupName', 'head')}"
            found.append(Pods(where, group["template"], labels, most, group))
    for each in objects:
        if template := each.get("spec", {}).get("submitterPodTemplate"):
            found.append(Pods("submitter", template, template["metadata"]["labels"], 1, {}))
        if each["kind"] in ("StatefulSet", "Job"):
            template = each["spec"]["template"]
            labels, most = template["metadata"]["labels"], each["spec"].get("replicas", 1)
            found.append(Pods(each["metadata"]["name"], template, labels, most, {}))
    return found


def worker_groups(objects: list[Manifest], kind: str) -> dict[str, Pods]:
    """The worker groups of a RayJob or RayService, by name."""
    return {
        each.group["groupName"]: each
        for each in pods(objects)
        if each.where.startswith(kind) and "groupName" in each.group
    }


def recipe_of(objects: list[Manifest]) -> RunConfig:
    """The recipe as a RayJob's entrypoint has it: by its name, or the file that a ConfigMap puts there."""
    program, command, recipe, *options = shlex.split(the(objects, "RayJob")["spec"]["entrypoint"])
    assert (program, command) == ("rlad", "run")
    overrides = [value for flag, value in pairwise(options) if flag == "--set"]
    if not recipe.startswith("/"):
        return load(recipe, overrides)
    [head] = [each for each in pods(objects) if each.where.startswith("RayJob") and "head" in each.where]
    [mount] = [m for m in head.container["volumeMounts"] if recipe.startswith(m["mountPath"] + "/")]
    [volume] = [v for v in head.spec["volumes"] if v["name"] == mount["name"]]
    [text] = [
        each["data"][recipe.removeprefix(mount["mountPath"] + "/")]
        for each in of_kind(objects, "ConfigMap")
        if each["metadata"]["name"] == volume["configMap"]["name"]
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "recipe.yaml")
        file.write_text(text)
        return load(file, overrides)


def written(*arguments: str) -> list[Manifest]:
    """What ``rlad k8s`` writes."""
    command = [sys.executable, "-m", "services", "k8s", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))
