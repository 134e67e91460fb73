"""vLLM as a policy whose model stays as it is, and whose adapter of low rank (LoRA) is replaced.

A version is an adapter alone, as peft names its tensors in a file. Its image (`services.weights.image`) is
linked into a folder as vLLM reads adapters from; one version is held at a time.

vLLM binds a request to its adapter when the request begins. So version 0, the model as it is, is an adapter
of zeros: a response that is held while the first version is taken goes on with that one.
"""

import json
import tempfile
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from vllm.config.lora import MaxLoRARanks
from vllm.lora.request import LoRARequest

from rlad_core.config import LoraConfig
from services.rollout.engine import PolicyEngine
from services.vllm.ended import told_as_lost

_NAME, _NUMBER = "policy", 1


class AdapterEngine(PolicyEngine):
    """A `PolicyEngine` whose versions are adapters; version 0 is one that changes nothing.

    Args:
        engine_args, transfer, tokens: see `PolicyEngine`.
        lora: what the adapters are like.
    """

    def __init__(self, engine_args: dict[str, Any], transfer: str, tokens: int, lora: LoraConfig) -> None:
        slots = min(rank for rank in get_args(MaxLoRARanks) if rank >= lora.rank)
        taken = {"enable_lora": True, "max_loras": 1, "max_cpu_loras": 1, "max_lora_rank": slots}
        super().__init__(engine_args | taken, transfer, tokens)
        self._model, self._lora = str(engine_args["model"]), lora
        self._place = tempfile.TemporaryDirectory(prefix="rlad-adapter-")
        self._folder = Path(self._place.name)
        settings = {
            "peft_type": "LORA",
            "r": lora.rank,
            "lora_alpha": lora.alpha,
            "target_modules": list(lora.modules),
        }
        self._file = self._folder / "adapter_model.safetensors"
        (self._folder / "adapter_config.json").write_text(json.dumps(settings))

    async def label(self, version: int) -> None:
        """Begin with an adapter that changes nothing; see `PolicyEngine.label`."""
        save_file(_zeros(self._model, self._lora), self._file)
        await self._take()
        await super().label(version)

    async def begin_update(self) -> None:
        """Hold generation; see `PolicyEngine.begin_update`. The model's weights stay closed."""
        with told_as_lost("opened its weights"):
            await self._engine.pause_generation(mode="keep", clear_cache=True)

    async def receive(self, update_info: dict[str, Any]) -> None:
        """Replace the adapter.

        Args:
            update_info: ``path`` of the version's image.
        """
        self._file.unlink()
        self._file.symlink_to(update_info["path"])
        await self._take()

    async def _take(self) -> None:
        with told_as_lost("took an adapter"):
            taken = await self._engine.add_lora(self._request(load_inplace=True))
        if not taken:
            raise RuntimeError("vLLM did not take the adapter; its log says why")
        self._adapter = self._request()

    async def end_update(self, version: int) -> None:
        """Go on generating, with the adapter as its new version."""
        with told_as_lost("closed its weights"):
            await self._engine.update_weight_version(str(version))
            await self._engine.resume_generation()

    def shutdown(self) -> None:
        """End the engine's processes."""
        super().shutdown()
        self._place.cleanup()

    def _request(self, **more: Any) -> LoRARequest:
        return LoRARequest(_NAME, _NUMBER, str(self._folder), **more)


def _zeros(model: str, lora: LoraConfig) -> dict[str, torch.Tensor]:
    """An adapter of zeros, by peft's names.

    Args:
        model: its folder or hub id.
    """
    with torch.device("meta"):
        layers = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model)).named_modules()
    zeros: dict[str, torch.Tensor] = {}
    for name, layer in layers:
        if isinstance(layer, torch.nn.Linear) and name.rpartition(".")[2] in lora.modules:
            zeros[f"base_model.model.{name}.lora_A.weight"] = torch.zeros(lora.rank, layer.in_features)
            zeros[f"base_model.model.{name}.lora_B.weight"] = torch.zeros(layer.out_features, lora.rank)
    return zeros
