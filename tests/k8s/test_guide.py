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
    made = set(re.findall(r"kubectl create secret (?:generic|tls) ([\w-]+)", GUIDE))
    wanted = {
        volume["secret"]["secretName"]
        for objects in rendered.values()
        for each in pods(objects)
        for volume in each.spec["volumes"]
        if "secret" in volume
    }
    for ingress in of_kind(rendered["teacher-service"], "Ingress"):
        wanted |= {tls["secretName"] for tls in ingress["spec"]["tls"]}
    assert made == wanted


def test_labels_in_selectors_are_on_pods(rendered: dict[str, list[Manifest]]) -> None:
    every = {
        f"{k}={v}" for objects in rendered.values() for each in pods(objects) for k, v in each.labels.items()
    }
    named = {pair for selector in re.findall(r" -l (\S+=\S+)", GUIDE) for pair in selector.split(",")}
    assert named
    assert named <= every


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS if c.startswith("kubectl kustomize")}))
def test_what_is_rendered_in_the_guide_renders(command: str) -> None:
    assert render(ROOT / command.split()[-1])
