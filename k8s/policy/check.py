"""Holds the rendered manifests and the Dockerfile to checkov's policies:  make k8s-policy

checkov brings a hundred packages that must not meet ours, so it gets an environment of its own in the user's
cache folder. It knows pods, but not what makes them here: the pods of RayServices and RayJobs are shown to it
as plain ones. What it is told to overlook is in exceptions.yaml, each policy with the reason.
"""

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHECKOV = "checkov==3.3.30"
ENVIRONMENT = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rlad" / CHECKOV
EXCEPTIONS = Path(__file__).with_name("exceptions.yaml")
INSTALL_LIMIT_S, CHECK_LIMIT_S = 1200, 600


def main() -> int:
    checkov = ENVIRONMENT / "bin" / "checkov"
    if not checkov.exists():
        print(f"installing {CHECKOV} into {ENVIRONMENT}", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
        install = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", CHECKOV]
        subprocess.run(install, check=True, timeout=INSTALL_LIMIT_S)
    overlooked = yaml.safe_load(EXCEPTIONS.read_text())
    with tempfile.TemporaryDirectory() as folder:
        for overlay in [ROOT / "k8s/base/namespace", *sorted((ROOT / "k8s/overlays").iterdir())]:
            objects = [shown for each in rendered(overlay) for shown in as_plain(each)]
            Path(folder, f"{overlay.name}.yaml").write_text(yaml.safe_dump_all(objects))
        Path(folder, "Dockerfile").write_text((ROOT / "docker" / "Dockerfile").read_text())
        command = [str(checkov), "--directory", folder, "--framework", "kubernetes", "dockerfile"]
        command += ["--compact", "--quiet", "--skip-check", ",".join(overlooked)]
        return subprocess.run(command, timeout=CHECK_LIMIT_S, check=False).returncode


def rendered(overlay: Path) -> list[dict[str, Any]]:
    """What `kubectl kustomize` makes of an overlay."""
    command = ["kubectl", "kustomize", str(overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return list(yaml.safe_load_all(done.stdout))


def as_plain(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The object itself; of a RayService or RayJob, its pods."""
    if manifest["apiVersion"] != "ray.io/v1":
        yield manifest
        return
    spec, name, namespace = manifest["spec"], manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    cluster = spec.get("rayClusterConfig") or spec["rayClusterSpec"]
    templates = {"head": cluster["headGroupSpec"]["template"]}
    templates |= {group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]}
    if submitter := spec.get("submitterPodTemplate"):
        templates["submitter"] = submitter
    for group, template in templates.items():
        metadata = {**template["metadata"], "name": f"{name}-{group}", "namespace": namespace}
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


if __name__ == "__main__":
    sys.exit(main())
