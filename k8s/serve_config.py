"""Writes the Serve configuration of the RayService manifests from the files in deploy/serve.

    python k8s/serve_config.py          # write k8s/overlays/*/serve.yaml
    python k8s/serve_config.py --check  # only say whether they are up to date

`serveConfigV2` is one string inside the manifest, which kustomize can't patch from the inside. So an overlay
with a RayService says in `serve-settings.yaml` which file of deploy/serve it takes and what differs on its
hardware, and this program merges the two into the patch `serve.yaml`.
"""

import sys
from pathlib import Path
from typing import Any

import yaml
from written import ROOT, write_overlays

FILES = ROOT / "deploy" / "serve"
SETTINGS, PATCH = "serve-settings.yaml", "serve.yaml"


class SettingsError(ValueError):
    """An overlay's settings do not fit the file they are for; the message says which and how."""


def serve_config(settings: dict[str, Any]) -> dict[str, Any]:
    """The file of deploy/serve that the settings name, with what they change.

    Raises:
        SettingsError: they name a file or an application that is not there.
    """
    changes = dict(settings)
    file = FILES / str(changes.pop("from"))
    if not file.is_file():
        raise SettingsError(f"from: {file.name} is not in deploy/serve")
    config: dict[str, Any] = yaml.safe_load(file.read_text())
    applications = {app["name"]: app for app in config["applications"]}
    for name, change in changes.pop("applications", {}).items():
        if name not in applications:
            raise SettingsError(f"applications: {name} is not in {file.name}, which has {list(applications)}")
        applications[name] = merged(applications[name], change)
    return {**merged(config, changes), "applications": list(applications.values())}


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, sections in sections."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return result


def patch(settings: dict[str, Any]) -> str:
    """The overlay's patch of the RayService, as YAML."""
    config = yaml.safe_dump(serve_config(settings), sort_keys=False)
    indented = "".join(f"    {line}\n" for line in config.splitlines())
    return (
        f"# Written by k8s/serve_config.py from deploy/serve/{settings['from']} and {SETTINGS}.\n"
        "apiVersion: ray.io/v1\nkind: RayService\nmetadata:\n  name: teacher\nspec:\n"
        f"  serveConfigV2: |\n{indented}"
    )


def main(arguments: list[str] | None = None) -> int:
    def text_of(source: Path) -> str:
        return patch(yaml.safe_load(source.read_text()))

    return write_overlays(SETTINGS, PATCH, text_of, arguments)


if __name__ == "__main__":
    sys.exit(main())
