"""Writes the run of the overlays from its recipe:  make k8s

    python k8s/runs.py          # write k8s/overlays/*/run.yaml
    python k8s/runs.py --check  # only say whether they are up to date

An overlay with a run says in `run-settings.yaml` what `rlad k8s` is asked for: the recipe, and what of it
differs.
"""

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path

import yaml

from services.cli.k8s import k8s

ROOT = Path(__file__).resolve().parents[1]
OVERLAYS = ROOT / "k8s" / "overlays"
SETTINGS, RUN = "run-settings.yaml", "run.yaml"


def run(source: Path) -> str:
    """The overlay's run as YAML; names and image are those that its kustomization.yaml knows."""
    settings = yaml.safe_load(source.read_text())
    written = io.StringIO()
    # What this machine has by chance is not to matter.
    kept = {name: os.environ.pop(name) for name in ("RLAD_MODELS", "HF_HUB_OFFLINE") if name in os.environ}
    try:
        with contextlib.redirect_stdout(written):
            k8s(Path(settings["recipe"]), settings.get("set", []), name="run", image="rlad")
    finally:
        os.environ |= kept
    return written.getvalue()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the runs of the overlays.")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file is out of date")
    check = parser.parse_args(arguments).check
    stale = []
    for source in sorted(OVERLAYS.glob(f"*/{SETTINGS}")):
        target, text = source.with_name(RUN), run(source)
        if not target.exists() or target.read_text() != text:
            stale.append(target.relative_to(ROOT))
            if not check:
                target.write_text(text)
    for file in stale:
        print(f"{file} {'is out of date' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
