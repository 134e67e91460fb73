"""The hash of what vLLM's processes hold of a model, asked through vLLM's own calls to them."""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

WEIGHTS: Final = f"{__name__}.WeightHashes"
"""For vLLM's ``worker_extension_cls``."""


class WeightHashes:
    """Mixed into vLLM's worker class, whose attributes it has."""

    model_runner: Any

    def rlad_weight_sums(self) -> dict[str, str]:
        """See `rlad_core.language_model.weight_hash.weight_sums`; of what vLLM's own checksums, which are
        made on the host, take for weights.
        """
        from vllm.model_executor.model_loader.weight_checksum import _weights

        from rlad_core.language_model.weight_hash import weight_sums

        return weight_sums(_weights(self.model_runner.get_model()))

    def rlad_weights(self) -> str:
        """See `rlad_core.language_model.weight_hash`."""
        from rlad_core.language_model.weight_hash import weight_hash

        return weight_hash(self.model_runner.get_model())


def together(hashes: Sequence[str]) -> str:
    """One hash of those of all processes, in their order."""
    if len(hashes) == 1:
        return hashes[0]
    return "sums:" + hashlib.sha256("".join(hashes).encode()).hexdigest()[:32]
