"""Adapters are trained, merged for the engines, and left as a folder that peft loads."""

from pathlib import Path

import pytest
import torch
from made_up_experience import train_ranks
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from rlad_core.config.lora import LoraConfig
from services.learner.adapters import add_adapters
from services.run.initial_policy import write_initial_policy

peft = pytest.importorskip("peft")

LORA = {"rank": 4, "alpha": 8.0, "modules": ["q_proj", "v_proj", "down_proj"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).named_parameters())


def differences(found: dict[str, torch.Tensor], start: dict[str, torch.Tensor]) -> set[str]:
    """Names of the weights that have moved."""
    return {name for name, tensor in start.items() if not torch.equal(found[name], tensor)}


def test_adapters_are_trained_published_and_exported(folder: Path, tmp_path: Path) -> None:
    start = weights(folder)
    lora = {**LORA, "publish": "adapter"}
    merged, _ = train_ranks(
        folder, tmp_path / "two", ranks=2, steps=2, learner__workers=2, learner__lora=lora
    )
    assert differences(merged, start) == {
        name for name in start if any(module in name for module in LORA["modules"])
    }
    exported = weights(tmp_path / "two" / "export")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "two" / "adapter").merge_and_unload()
    for name, tensor in loaded.named_parameters():
        torch.testing.assert_close(tensor, merged[name], atol=1e-6, rtol=0, msg=name)
        torch.testing.assert_close(exported[name], merged[name], atol=0, rtol=0, msg=name)
    # What engines get is the adapters alone, under the names in their folder.
    file = load_file(tmp_path / "two" / "adapter" / "adapter_model.safetensors")
    published = torch.load(tmp_path / "two" / "published.pt")
    assert file.keys() == published.keys()
    assert all(torch.equal(file[name], tensor) for name, tensor in published.items())


@pytest.mark.parametrize(
    ("modules", "lacking"),
    [
        (["q_proj", "v_porj", "down_porj"], "'v_porj' or 'down_porj'"),
        (["proj"], "'proj'"),
        (["q_proj", "norm"], "'norm'"),  # which is there, and not linear
        (["q_proj", "layers.7.self_attn.v_proj"], "'layers.7.self_attn.v_proj'"),
        (["q_proj", ""], "''"),
    ],
)
def test_a_module_that_the_policy_lacks_is_told(folder: Path, modules: list[str], lacking: str) -> None:
    """peft would train the others, and say nothing."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    with pytest.raises(ValueError, match=rf"is called {lacking}. Write some of q_proj, k_proj, v_proj, "):
        add_adapters(model, LoraConfig(modules=tuple(modules)))
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_a_module_may_be_one_layers_own(folder: Path) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    add_adapters(model, LoraConfig(modules=("o_proj", "layers.1.mlp.up_proj")))
    layers = {name.split(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert {name.removeprefix("model.") for name in layers} == {
        *(f"layers.{number}.self_attn.o_proj" for number in range(model.config.num_hidden_layers)),
        "layers.1.mlp.up_proj",
    }


@pytest.mark.long
def test_adapters_are_the_same_on_any_ranks_and_when_they_are_resumed(folder: Path, tmp_path: Path) -> None:
    start = weights(folder)
    begun, _ = train_ranks(folder, tmp_path / "begun", steps=0, learner__lora=LORA)
    assert not differences(begun, start)
    two = {"ranks": 2, "learner__workers": 2, "learner__lora": LORA}
    merged, _ = train_ranks(folder, tmp_path / "two", steps=2, **two)
    alone, _ = train_ranks(folder, tmp_path / "one", steps=2, learner__lora=LORA)
    assert torch.load(tmp_path / "one" / "published.pt").keys() == alone.keys()
    for name in differences(alone, start):
        moved = (alone[name] - start[name]).norm()
        assert moved > 0.01
        assert (merged[name] - alone[name]).norm() < 1e-2 * moved, name
    resumed, _ = train_ranks(folder, tmp_path / "one", steps=3, resume=True, learner__lora=LORA)
    straight, _ = train_ranks(folder, tmp_path / "straight", steps=3, learner__lora=LORA)
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-6, rtol=0, msg=name)
