"""What a look at a model's folder finds, without loading anything."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlad_core.config import ConfigError, load, resolve_model

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"


def with_config(**values: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | values))

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), "the folder has no tokenizer"),
        (
            lambda folder: (folder / "tokenizer.json").write_text(POINTER),
            "tokenizer.json is a Git-LFS pointer",
        ),
        (lambda folder: (folder / "model.safetensors").write_text(POINTER), "model.safetensors is a Git-LFS"),
        (lambda folder: (folder / "model.safetensors").write_text(""), "model.safetensors is empty"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "config.json is no JSON object: '[1]'"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is no JSON ("),
        (lambda folder: (folder / "config.json").write_text(POINTER), "config.json is a Git-LFS pointer"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model-00002-of-00002.safetensors"}}'
            ),
            "model-00002-of-00002.safetensors is not there",
        ),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text("{}"),
            "model.safetensors.index.json has no weight_map",
        ),
        (
            lambda folder: (folder / "generation_config.json").write_text("{"),
            "generation_config.json is no JSON (",
        ),
        (
            lambda folder: (folder / "tokenizer_config.json").write_text(POINTER),
            "tokenizer_config.json is a Git-LFS pointer",
        ),
        (with_config(hidden_size="64"), "config.json has hidden_size: '64', which is no number above 0"),
        (with_config(num_hidden_layers=-1), "config.json has num_hidden_layers: -1"),
        (with_config(quantization_config={"quant_method": "awq"}), "has quantized weights (awq)"),
        (with_config(architectures=None, model_type="gemma2"), "caps its attention scores"),
        (with_config(architectures=["BertForMaskedLM"]), "its architecture is BertForMaskedLM"),
        (with_config(architectures=["Gemma2ForCausalLM"], model_type="gemma2"), "caps its attention scores"),
        (
            with_config(architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True),
            "is an encoder with a decoder",
        ),
    ],
)
def test_what_is_here_and_wrong_is_refused(
    tmp_path: Path, change: Callable[[Path], object], says: str
) -> None:
    folder = Path(shutil.copytree(resolve_model("rlad:kk-student"), tmp_path / "model"))
    assert load("kk-tiny-trrd", [f"policy.model={folder}"]).policy.model == str(folder)
    change(folder)
    with pytest.raises(ConfigError) as refused:
        load("kk-tiny-trrd", [f"policy.model={folder}"])
    assert [(each.path, each.value) for each in refused.value.problems] == [("policy.model", str(folder))]
    assert says in str(refused.value)
