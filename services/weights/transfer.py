"""How a vLLM worker takes a published policy version: the weight-transfer backend ``object_store``.

A version travels as one safetensors image, which lies in memory once on each node (`services.weights.image`).
The replica hands over its path, which every worker of its engine maps: vLLM's engine calls carry plain values
between processes, not tensors of this size. The backend loads it with vLLM's layer-wise reload, the way a
checkpoint is loaded, so it fits any dtype, device and tensor parallel degree; the only limit is that replica
and workers share a node.

vLLM creates the class inside its worker processes, see `services.weights.plugin`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.config.weight_transfer import WeightTransferConfig


@dataclass
class ObjectStoreInitInfo(WeightTransferInitInfo):
    """Nothing to agree on beforehand: each update names its own file."""


@dataclass
class ObjectStoreUpdateInfo(WeightTransferUpdateInfo):
    """One whole policy version.

    Args:
        path: safetensors file with every parameter of the model under its Hugging Face name.
    """

    path: str


class ObjectStoreWeightTransfer(WeightTransferEngine[ObjectStoreInitInfo, ObjectStoreUpdateInfo]):
    """Loads a safetensors file into the running model, in place."""

    init_info_cls = ObjectStoreInitInfo
    update_info_cls = ObjectStoreUpdateInfo

    def __init__(
        self,
        config: "WeightTransferConfig",
        vllm_config: "VllmConfig",
        device: torch.device,
        model: torch.nn.Module,
    ) -> None:
        super().__init__(config, vllm_config, device, model)
        # Taken now: during a reload the tied tensors are separate placeholders with names of their own.
        self._parameter_names = {name for name, _ in model.named_parameters()}

    def init_transfer_engine(self, init_info: ObjectStoreInitInfo) -> None:
        del init_info

    def start_weight_update(self) -> None:
        """Bring every layer back to the shape checkpoints have (CPU layers have dropped their weights)."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, str]) -> None:
        """The base class also waits for the accelerator, which a CPU worker does not have."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: ObjectStoreUpdateInfo) -> None:
        """Load the file's tensors.

        Raises:
            ValueError: if a parameter of the model was not in the file; it would keep its old value.
        """
        loaded = self.model.load_weights(_tensors(update_info.path))
        missing = sorted(self._parameter_names - loaded)
        if missing:
            raise ValueError(
                f"the published weights leave {len(missing)} of {len(self._parameter_names)} parameters of "
                f"{type(self.model).__name__} unset, first {missing[0]!r}; publish the whole state dict"
            )

    def finish_weight_update(self) -> None:
        """Run the layers' post-processing and rebuild what the reload leaves stale."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        for module in self.model.modules():
            # A head tied to the embedding receives no tensor of its own, so the reload skips it, and on CPU
            # its GEMM keeps working from a packed copy of the *old* embedding. Packing again is idempotent
            # for an untied head and does nothing on GPUs.
            if isinstance(module, ParallelLMHead):
                module.quant_method.process_weights_after_loading(module)

    def shutdown(self) -> None:
        """Nothing is held between updates."""


def _tensors(path: str) -> Iterator[tuple[str, torch.Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - safe_open is not a mapping
            yield name, file.get_tensor(name)
