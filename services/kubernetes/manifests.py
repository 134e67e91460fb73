"""The objects of a run, and of the Job that fetches its models: those of ``k8s/base``, filled in."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rlad_core.config import RunConfig
from services.kubernetes.groups import Group
from services.kubernetes.names import (
    check_image,
    check_name,
    check_namespace,
    check_node_label,
    check_priority,
    check_queue,
)
from services.kubernetes.places import LABEL, recipe_text
from services.kubernetes.reaching import egress_policy, secret_volumes

_ROOT = Path(__file__).resolve().parents[2]
BASE = _ROOT / "k8s" / "base" if (_ROOT / "k8s" / "base").is_dir() else _ROOT / "services" / "k8s"
"""The manifests that everything is made of: in a checkout, or as a wheel installs them."""

RECIPE = "/etc/rlad/recipe/recipe.yaml"
_CLUSTER = "rlad.io/cluster"
_HEAD = {"gpus": ("4", "32Gi", "50Gi"), "none": ("1", "4Gi", "10Gi")}
_DISK = {True: "100Gi", False: "10Gi"}
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Wishes:
    """What an operator decides, beside the recipe.

    Attributes:
        name: of all objects, and of the label that tells a run's pods from those of others.
        namespace: empty: kubectl's own.
        image: with its tag.
        gpu_node: labels of the nodes with the GPUs.
        queue: of Kueue; empty: the pods are asked for at once.
        priority: a PriorityClass, or with a queue one of Kueue's.
        days: longest time of a run.

    Raises:
        KubernetesError: one of them is none that Kubernetes takes.
    """

    name: str
    namespace: str = ""
    image: str = "rlad"
    gpu_node: dict[str, str] = field(default_factory=dict)
    queue: str = ""
    priority: str = ""
    days: float = 7

    def __post_init__(self) -> None:
        check_name(self.name)
        check_image(self.image)
        if self.namespace:
            check_namespace(self.namespace)
        if self.queue:
            check_queue(self.queue)
        if self.priority:
            check_priority(self.priority, of_queue=bool(self.queue))
        for key, value in self.gpu_node.items():
            check_node_label(key, value)


def run_manifests(config: RunConfig, found: list[Group], wishes: Wishes) -> list[Manifest]:
    """A ConfigMap with the recipe, the RayJob, and what guards and watches its pods.

    Args:
        config: of `placed`.
        found: of `groups`.

    Raises:
        KubernetesError: a teacher's URL leads to the pod itself.
    """
    recipe: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "run-recipe", "labels": {"app.kubernetes.io/part-of": "rlad"}},
        "data": {"recipe.yaml": recipe_text(config)},
    }
    objects = [recipe, *_base("run")]
    if policy := egress_policy(config):
        objects.append(policy)
    for each in objects:
        if each["kind"] == "RayJob":
            _fill(each, found, wishes)
            _give_secrets(each, config)
        if each["kind"] == "PodDisruptionBudget" and each["metadata"]["name"] == "run-workers":
            each["spec"]["minAvailable"] = sum(group.pods for group in found)
    return _named(objects, wishes)


def fetch_manifests(models: list[str], wishes: Wishes) -> list[Manifest]:
    """The Job that brings hub models to the volume of the models, each in a container, and its policy."""
    objects = _base("models")
    for each in objects:
        if each["kind"] == "Job":
            pod = each["spec"]["template"]["spec"]
            _give_priority(pod, wishes)
            [container] = pod["containers"]
            pod["containers"] = []
            for number, model in enumerate(models):
                one = copy.deepcopy(container)
                one |= {"name": f"fetch-{number}" if number else "fetch", "image": wishes.image}
                one["command"] = ["rlad", "fetch", model, "--to", f"/models/{model}"]
                pod["containers"].append(one)
    return _named(objects, wishes, prefix="fetch-models")


def _base(folder: str) -> list[Manifest]:
    found: list[Manifest] = []
    for file in yaml.safe_load((BASE / folder / "kustomization.yaml").read_text())["resources"]:
        found += yaml.safe_load_all((BASE / folder / file).read_text())
    # Anchors made one object of what each place changes for itself.
    unshared: list[Manifest] = json.loads(json.dumps(found))
    return unshared


def _fill(job: Manifest, found: list[Group], wishes: Wishes) -> None:
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    spec["entrypoint"] = f"rlad run {RECIPE} --restartable"
    spec["activeDeadlineSeconds"] = round(wishes.days * 24 * 3600)
    on_gpus = any(group.gpus for group in found)
    head = cluster["headGroupSpec"]["template"]["spec"]
    cpu, memory, disk = _HEAD["gpus" if on_gpus else "none"]
    _resources(head["containers"][0], {"cpu": cpu, "memory": memory, "ephemeral-storage": disk})
    head["volumes"] = [*head["volumes"], {"name": "recipe", "configMap": {"name": "run-recipe"}}]
    mounts = head["containers"][0]["volumeMounts"]
    mount = {"name": "recipe", "mountPath": str(Path(RECIPE).parent), "readOnly": True}
    head["containers"][0]["volumeMounts"] = [*mounts, mount]
    [model] = [group for group in cluster["workerGroupSpecs"] if group["groupName"] == "services"]
    cluster["workerGroupSpecs"] = [_group(copy.deepcopy(model), group, wishes) for group in found]
    if wishes.queue:
        spec["suspend"] = True
        job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = wishes.queue
        if wishes.priority:
            job["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] = wishes.priority
    for pod in _pods(spec):
        for container in pod["containers"]:
            container["image"] = wishes.image
        _give_priority(pod, wishes)


def _give_priority(pod: Manifest, wishes: Wishes) -> None:
    if wishes.priority and not wishes.queue:  # else it is one of Kueue's
        pod["priorityClassName"] = wishes.priority


def _give_secrets(job: Manifest, config: RunConfig) -> None:
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    for volume, mount in secret_volumes(config):
        head["volumes"] = [*head["volumes"], volume]
        head["containers"][0]["volumeMounts"] = [*head["containers"][0]["volumeMounts"], mount]


def _group(model: Manifest, group: Group, wishes: Wishes) -> Manifest:
    replicas = group.pods // group.hosts
    model |= {"groupName": group.name, "replicas": replicas, "minReplicas": replicas, "maxReplicas": replicas}
    model["labels"] = {LABEL: group.name}
    if group.hosts > 1:
        model["numOfHosts"] = group.hosts
    sizes = {
        "cpu": str(group.cpus),
        "memory": f"{group.memory_gib}Gi",
        "ephemeral-storage": _DISK[group.gpus > 0],
    }
    pod = model["template"]["spec"]
    if group.gpus:
        sizes["nvidia.com/gpu"] = str(group.gpus)
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
        pod["affinity"] = {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": _close()}}
        if wishes.gpu_node:
            pod["nodeSelector"] = dict(wishes.gpu_node)
    _resources(pod["containers"][0], sizes)
    return model


def _close() -> list[Manifest]:
    """One node if there is one, else one zone: weights and log-probs travel between them at every step."""
    places = ((100, "kubernetes.io/hostname"), (50, "topology.kubernetes.io/zone"))
    terms: list[Manifest] = []
    for weight, key in places:
        selector = {"matchLabels": {_CLUSTER: "run"}}
        terms.append({"weight": weight, "podAffinityTerm": {"topologyKey": key, "labelSelector": selector}})
    return terms


def _resources(container: Manifest, sizes: dict[str, str]) -> None:
    container["resources"] = {"requests": dict(sizes), "limits": dict(sizes)}


def _pods(spec: Manifest) -> Iterator[Manifest]:
    cluster = spec["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        yield group["template"]["spec"]
    yield spec["submitterPodTemplate"]["spec"]


def _named(objects: list[Manifest], wishes: Wishes, prefix: str = "run") -> list[Manifest]:
    """Every name that begins with the base's, and every label of its pods, becomes this run's own."""
    own = wishes.name if prefix == "run" else f"{prefix}-{wishes.name}"
    for each in objects:
        name = each["metadata"]["name"]
        each["metadata"]["name"] = own + name.removeprefix(prefix)
        if wishes.namespace:
            each["metadata"]["namespace"] = wishes.namespace
        _relabel(each, own, prefix)
    return objects


def _relabel(value: Any, own: str, prefix: str) -> None:
    if isinstance(value, list):
        for each in value:
            _relabel(each, own, prefix)
    elif isinstance(value, dict):
        if value.get(_CLUSTER) == prefix:
            value[_CLUSTER] = own
        if (made := value.get("configMap")) and made.get("name") == f"{prefix}-recipe":
            made["name"] = f"{own}-recipe"
        for each in value.values():
            _relabel(each, own, prefix)
