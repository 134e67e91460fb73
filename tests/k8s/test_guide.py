"""docs/kubernetes.md says what the manifests need, in commands that can be run as they are written."""

import re

import pytest
from manifests import ROOT, Manifest, of_kind, pods, render

GUIDE = (ROOT / "docs" / "kubernetes.md").read_text()
COMMANDS = [line.strip().partition(" #")[0] for line in GUIDE.splitlines() if line.startswith("    ")]


def test_paths_exist() -> None:
    named = set(re.findall(r"(?<![\w/.-])(?:k8s|docker|deploy|tests)/[\w./-]*\w", GUIDE))
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_secret_is_made(rendered: dict[str, list[Manifest]]) -> None:
    made = set(re.findall(r"kubectl create secret (?:generic|tls|docker-registry) ([\w-]+)", GUIDE))
    wanted = {
        volume["secret"]["secretName"]
        for objects in rendered.values()
        for each in pods(objects)
        for volume in each.spec["volumes"]
        if "secret" in volume
    }
    for objects in rendered.values():
        wanted |= {each["name"] for pod in pods(objects) for each in pod.spec.get("imagePullSecrets", ())}
    for ingress in of_kind(rendered["teacher-service"], "Ingress"):
        wanted |= {tls["secretName"] for tls in ingress["spec"]["tls"]}
    assert made == wanted


def test_labels_in_selectors_are_on_pods(rendered: dict[str, list[Manifest]]) -> None:
    every = {
        f"{k}={v}" for objects in rendered.values() for each in pods(objects) for k, v in each.labels.items()
    }
    # The operator writes it on the clusters that it makes.
    every |= {
        f"ray.io/originated-from-cr-name={each['metadata']['name']}"
        for objects in rendered.values()
        for kind in ("RayJob", "RayService")
        for each in of_kind(objects, kind)
    }
    named = {pair for selector in re.findall(r" -l (\S+=\S+)", GUIDE) for pair in selector.split(",")}
    assert named
    assert named <= every


def test_pods_go_before_what_they_need_to_go(rendered: dict[str, list[Manifest]]) -> None:
    """Network policies and Redis serve a run's checkpoint and the operator's cleaning up."""
    deleted: set[str] = set()
    waited: set[str] = set()
    overlays = 0
    for command in COMMANDS:
        if found := re.match(r"kubectl delete (rayjob|rayservice) (\w+) ", command):
            deleted.add(f"{found[1]}/{found[2]}")
        elif found := re.match(r"kubectl wait --for=delete pods .* -l rlad.io/cluster=(\w+)", command):
            waited.add(found[1])
        elif found := re.match(r"kubectl delete -k k8s/overlays/(\S+)", command):
            objects = rendered[found[1]]
            ray = [each for kind in ("RayJob", "RayService") for each in of_kind(objects, kind)]
            assert {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in ray} <= deleted, command
            assert {each["metadata"]["name"] for each in ray} <= waited, command
            overlays += 1
    assert overlays == 2


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS if c.startswith("kubectl kustomize")}))
def test_what_is_rendered_in_the_guide_renders(command: str) -> None:
    assert render(ROOT / command.split()[-1])
