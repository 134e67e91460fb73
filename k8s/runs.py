"""Writes the run of the overlays from its recipe:  make k8s

    python k8s/runs.py          # write k8s/overlays/*/run.yaml
    python k8s/runs.py --check  # only say whether they are up to date

An overlay with a run says in `run-settings.yaml` what `rlad k8s` is asked for: the recipe, what of it
differs, and the secrets with tokens.
"""

import contextlib
import io
import os
import sys
from pathlib import Path

import yaml
from written import write_overlays

from services.cli.k8s import k8s

SETTINGS, RUN = "run-settings.yaml", "run.yaml"


def run(source: Path) -> str:
    """The overlay's run as YAML; names and image are those that its kustomization.yaml knows."""
    settings = yaml.safe_load(source.read_text())
    written = io.StringIO()
    # What this machine has by chance is not to matter.
    kept = {name: os.environ.pop(name) for name in ("RLAD_MODELS", "HF_HUB_OFFLINE") if name in os.environ}
    try:
        with contextlib.redirect_stdout(written):
            k8s(
                Path(settings["recipe"]),
                settings.get("set", []),
                name="run",
                image="rlad",
                secrets=settings.get("secret", []),
            )
    finally:
        os.environ |= kept
    return written.getvalue()


if __name__ == "__main__":
    sys.exit(write_overlays(SETTINGS, RUN, run))
