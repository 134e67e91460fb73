"""An exported policy is its source with other weights."""

import json
from pathlib import Path

import pytest
import torch
from model_kinds import tiny
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from rlad_core.language_model.end_tokens import end_tokens
from services.learner.export import end_with, export, export_dtype
from services.learner.whole_weights import WholeWeights


@pytest.fixture
def source(tmp_path: Path, tiny_model) -> Path:
    """A folder in bfloat16 with two end tokens, sampling defaults and files of its own."""
    folder = tmp_path / "source"
    tiny("qwen3", attention="eager", dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model.path).save_pretrained(folder)
    GenerationConfig(eos_token_id=[1, 5], temperature=0.7, top_k=20, do_sample=True).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<end>"}')
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "README.md").write_text("These weights are good.")
    (folder / "model.safetensors.index.json").write_text("{}")
    return folder


def write(model: PreTrainedModel, source: Path, out: Path, **options: int) -> None:
    weights = WholeWeights(model, export_dtype(str(source), torch.float32), torch.device("cpu"))
    export(weights.specs(), weights, str(source), out, **options)


def test_the_folder_is_whole(source: Path, tmp_path: Path) -> None:
    trained = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01)
    out = tmp_path / "export"
    write(trained, source, out)
    for name in (
        "config.json", "generation_config.json", "chat_template.jinja", "special_tokens_map.json",
        "merges.txt", "tokenizer_config.json",
    ):  # fmt: skip
        assert (out / name).read_bytes() == (source / name).read_bytes(), name
    assert not (out / "README.md").exists()
    assert not (out / "model.safetensors.index.json").exists()
    assert GenerationConfig.from_pretrained(out).eos_token_id == [1, 5]
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert loaded.dtype == torch.bfloat16
    expected = trained.to(torch.bfloat16).state_dict()
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_source_without_sampling_defaults_gets_end_tokens(source: Path, tmp_path: Path) -> None:
    (source / "generation_config.json").unlink()
    write(AutoModelForCausalLM.from_pretrained(source), source, tmp_path / "export")
    written = json.loads((tmp_path / "export" / "generation_config.json").read_text())
    assert written["eos_token_id"] == AutoTokenizer.from_pretrained(source).eos_token_id


@pytest.mark.parametrize(("ends", "named"), [((1, 5), [1, 5]), ((1, 5, 3), [1, 3, 5]), ((3,), [3])])
def test_it_ends_with_what_ended_the_responses_of_its_run(
    source: Path, tmp_path: Path, ends: tuple[int, ...], named: list[int]
) -> None:
    """Those of a chat teacher too, which the files of a Base student do not name."""
    out = tmp_path / "export"
    write(AutoModelForCausalLM.from_pretrained(source), source, out)
    before = (out / "generation_config.json").read_bytes()
    end_with(ends, out)
    config = GenerationConfig.from_pretrained(out)
    assert (config.eos_token_id, config.top_k) == (named, 20)
    assert set(end_tokens(AutoTokenizer.from_pretrained(out), str(out))) >= set(ends)
    assert ((out / "generation_config.json").read_bytes() == before) == (named == [1, 5])


def test_large_weights_are_spread_over_files(source: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(source)
    out = tmp_path / "export"
    write(model, source, out, largest_file=6000)
    files = sorted(file.name for file in out.glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(2 * parameter.numel() for parameter in model.parameters())
    loaded = AutoModelForCausalLM.from_pretrained(out).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name
