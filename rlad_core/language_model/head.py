"""From hidden states to log-probs, with what a causal LM puts between its last layer and its softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlad_core.fused_logprobs import can_fuse, fused_logprobs, kernel
from rlad_core.logprobs import Beside, token_logprobs
from rlad_core.token_details import token_details


class OutputHead:
    """A model's LM head, with its bias and the scale of its logits, over the rows that are tokens.

    Args:
        model: the head is read when it is used: under FSDP2 its weight is whole only inside a forward pass.
        tokens: rows that are tokens (`rlad_core.language_model.vocabulary.token_rows`); None: all.

    Attributes:
        rows: of the head, padding included.
        tokens: rows that are tokens.
        fused: log-probs alone are computed by `rlad_core.fused_logprobs` where it can.
        inside: calls a function of the hidden states where the head's weight is whole; whoever shards the
            head on its own sets it.
    """

    def __init__(self, model: PreTrainedModel, tokens: int | None = None) -> None:
        head: Any = model.get_output_embeddings()
        self._head: nn.Linear = head
        self._scale = logit_scale(model.config.get_text_config())
        self.rows = int(head.weight.shape[0])
        self.tokens = self.rows if tokens is None else tokens
        self.fused = False
        self.inside: Callable[[Tensor, Callable[[Tensor], Any]], Any] = _here

    def fuse(self) -> None:
        """Compute log-probs alone by `rlad_core.fused_logprobs` from now on.

        Raises:
            ModuleNotFoundError: its library is not there; says what to install.
        """
        kernel()
        self.fused = True

    def logprobs(
        self,
        hidden: Tensor,
        targets: Tensor,
        *,
        chunk_size: int,
        with_entropy: bool = False,
        rest_of: Tensor | None = None,
        beside: Beside | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probs of the targets by this head, see `token_logprobs`.

        Args:
            hidden: [T, D] states after the final norm.
            targets: int64 [T], or [T, n]: several tokens for each place.
            chunk_size, with_entropy, rest_of, beside: as there.

        Returns:
            Log-probs float32 in the shape of targets, or [T, n + 1] with `rest_of`; entropy float32 [T] in
            nats, or None.

        Raises:
            ValueError: shapes don't fit.
        """

        def compute(states: Tensor) -> tuple[Tensor, Tensor | None]:
            alone = not with_entropy and beside is None
            if self.fused and alone and can_fuse(states, targets, self._head.bias):
                weight = self._head.weight
                return fused_logprobs(states, weight, targets, scale=self._scale, tokens=self.tokens), None
            return token_logprobs(
                states,
                self._head.weight,
                targets,
                bias=self._head.bias,
                scale=self._scale,
                tokens=self.tokens,
                chunk_size=chunk_size,
                with_entropy=with_entropy,
                rest_of=rest_of,
                beside=beside,
            )

        found: tuple[Tensor, Tensor | None] = self.inside(hidden, compute)
        return found

    def plain(self, hidden: Tensor) -> Tensor:
        """Log-probs of all tokens by the head's own forward, [places, tokens] in float32 at least."""
        logits = self._head(hidden)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32)) * self._scale
        logprobs: Tensor = wide[:, : self.tokens].log_softmax(-1)
        return logprobs

    def details(
        self,
        hidden: Tensor,
        targets: Tensor,
        *,
        chunk_size: int,
        top_k: int = 0,
        entropy: bool = False,
        end_ids: Tensor | None = None,
        named_ids: Tensor | None = None,
        ranks: bool = False,
    ) -> dict[str, Tensor]:
        """Values at each place by this head, see `token_details`.

        Args:
            hidden: [T, D] states after the final norm.
            targets: int64 [T].
            chunk_size: states whose logits are held at once.
            top_k, entropy, end_ids, named_ids, ranks: what else is told, as there.

        Returns:
            Tensors [T] or [T, k] by the names that `rlad_core.schema.TOKEN_VALUES` declares.

        Raises:
            ValueError: top_k is more than there are tokens, or shapes don't fit.
        """
        return token_details(
            hidden,
            self._head.weight,
            targets,
            top_k=top_k,
            entropy=entropy,
            end_ids=end_ids,
            named_ids=named_ids,
            ranks=ranks,
            bias=self._head.bias,
            scale=self._scale,
            tokens=self.tokens,
            chunk_size=chunk_size,
        )


def _here(hidden: Tensor, compute: Callable[[Tensor], Any]) -> Any:
    return compute(hidden)


def logit_scale(config: Any) -> float:
    """Granite divides by ``logits_scaling``, HyperCLOVA X multiplies by it, Cohere by ``logit_scale``.

    A model that has one of the two and does something else with it fails the comparison with its own forward
    pass.
    """
    if (divisor := getattr(config, "logits_scaling", None)) is not None:
        return float(divisor) if config.model_type == "hyperclovax" else 1.0 / float(divisor)
    return float(factor) if (factor := getattr(config, "logit_scale", None)) is not None else 1.0
