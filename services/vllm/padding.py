"""Rows of a model that are no tokens, kept out of every distribution that vLLM makes.

vLLM puts its own padding of the vocabulary out of the way, but not the model's: it would sample such rows,
and count them in log-probs. Here the layer that makes logits, which is the one place they all come from
(sampling, log-probs of a prompt, of given tokens), is replaced by one that sets them to minus infinity. vLLM
offers both steps to plugins: layers by their name, and a configuration that it carries to workers unread.

A stock server has neither the plugin's configuration nor this: see `services.clients.teachers.padded`.
"""

from typing import Any

_KEY = "rlad_tokens"


def padding(tokens: int) -> dict[str, Any]:
    """vLLM's ``additional_config`` for a model whose first so many rows are tokens."""
    return {_KEY: tokens}


def register() -> None:
    """Put the layer in place of vLLM's; in each process of an engine, before its model is made.

    Raises:
        RuntimeError: another plugin has done so.
    """
    import torch
    from vllm.config import get_current_vllm_config
    from vllm.model_executor.custom_op import op_registry_oot
    from vllm.model_executor.layers.logits_processor import LogitsProcessor

    if (found := op_registry_oot.get(LogitsProcessor.__name__)) is not None:
        if found.__module__ != __name__:
            raise RuntimeError(
                f"another plugin of vLLM has put {found.__module__}.{found.__name__} in place of its "
                "LogitsProcessor, and ours would be lost; uninstall that plugin"
            )
        return

    @LogitsProcessor.register_oot
    class TokensOnly(LogitsProcessor):
        """`LogitsProcessor`, with minus infinity for rows that are no tokens."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            more = get_current_vllm_config().additional_config
            self.tokens: int | None = more.get(_KEY) if isinstance(more, dict) else None

        def forward(
            self,
            lm_head: Any,
            hidden_states: torch.Tensor,
            embedding_bias: torch.Tensor | None = None,
            skip_gather: bool = False,
        ) -> torch.Tensor | None:
            # With adapters `self` is vLLM's layer around this one, which calls it by its class.
            mine: Any = getattr(self, "base_layer", self)
            tokens: int | None = mine.tokens
            logits = LogitsProcessor.forward(self, lm_head, hidden_states, embedding_bias, skip_gather)
            if logits is not None and tokens is not None:
                # Where each worker samples from its own part of the vocabulary, the logits are that part's.
                first = lm_head.shard_indices.org_vocab_start_index if skip_gather else 0
                logits[..., max(0, tokens - first) :] = -torch.inf
            return logits
