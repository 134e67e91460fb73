"""A teacher's weights in host memory while another process needs the GPU."""

from torch import cuda, nn
from torch import device as Device

from rlad_core.language_model.weight_hash import weight_sums
from services.serve.weight_digests import compare_weights


class SleepingWeights:
    """The weights of a model that is not trained.

    Args:
        model: on its device.
        device: that device.
    """

    def __init__(self, model: nn.Module, device: Device) -> None:
        self._model = model
        self._device = device
        self._digests: dict[str, str] = {}

    def sleep(self) -> None:
        """Move them to host memory."""
        if not self._digests:  # they never change
            self._digests = self._all()
        self._model.to("cpu")
        if self._device.type == "cuda":
            cuda.empty_cache()

    def wake(self) -> None:
        """Move them to their device again.

        Raises:
            UnsoundWeightsError: they are not what they were.
        """
        self._model.to(self._device)
        compare_weights(self._digests, self._all())

    def _all(self) -> dict[str, str]:
        return weight_sums([*self._model.named_parameters(), *self._model.named_buffers()])
