"""From packed sequences to the log-probs of their response tokens, with a transformers causal LM.

One forward pass takes any number of sequences of any lengths as one stream, without padding. Attention must
not look from one sequence into the next: `_packed_attention`, registered with transformers under
``PACKED_ATTENTION``, runs it sequence by sequence, or in one call where the device has a kernel for that.
This is the learner's forward pass. The teacher's needs no gradient and shares prompts between responses, so
it is packed in another way, in a file of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from rlad_core.batching import PackedBatch
from rlad_core.logprobs import token_logprobs

PACKED_ATTENTION = "rlad_packed"
"""Pass as ``attn_implementation`` when loading a model for `ResponseLogprobs`."""


class ResponseLogprobs(nn.Module):
    """A causal LM that answers with log-probs of given responses instead of logits.

    The LM head stays inside `forward`: under FSDP2 its weight is whole only there.

    Args:
        model: loaded with ``attn_implementation=PACKED_ATTENTION``.
        chunk_size: response tokens whose logits are held at once.

    Raises:
        ValueError: the model uses another attention, which would look across sequences.
    """

    def __init__(self, model: PreTrainedModel, chunk_size: int = 1024) -> None:
        super().__init__()
        attention = model.config._attn_implementation
        if attention != PACKED_ATTENTION:
            raise ValueError(
                f"the model's attention is {attention!r}, which would let packed sequences see each other; "
                f"load it with attn_implementation={PACKED_ATTENTION!r}"
            )
        self.model = model
        self.chunk_size = chunk_size

    def forward(self, batch: PackedBatch, *, with_entropy: bool = False) -> tuple[Tensor, Tensor | None]:
        """Natural log-probs (temperature 1, full vocabulary) of the batch's R response tokens.

        Args:
            batch: on the model's device.
            with_entropy: also the entropy of each distribution.

        Returns:
            ``(log-probs float32 [R], entropy float32 [R] in nats, or None)``.
        """
        hidden = self.model.model(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            # Anything but None keeps transformers from building a mask of T x T.
            attention_mask=batch.input_ids.new_ones(1, 1, 1, 1),
            use_cache=False,
            cu_seqlens=batch.cu_seqlens,
            longest=batch.max_length,
        ).last_hidden_state[0]
        head = self.model.get_output_embeddings().weight
        return token_logprobs(
            hidden[batch.response_index],
            head,
            batch.response_ids,
            chunk_size=self.chunk_size,
            with_entropy=with_entropy,
        )


def _packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    cu_seqlens: Tensor,
    longest: int,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each sequence of a stream.

    Args:
        query: [1, H, T, D]; ``key`` and ``value`` are [1, H_kv, T, D].
        cu_seqlens: int32 [S + 1], bounds of the sequences.
        longest: tokens of the longest sequence.

    Returns:
        [1, T, H, D].

    Raises:
        NotImplementedError: the model's attention is not plain causal (a window, capped scores, sinks).
    """
    if sliding_window is not None or softcap is not None or s_aux is not None:
        # Left out in silence, the log-probs would be those of another model.
        raise NotImplementedError(
            f"{type(module).__name__} wants a sliding window, capped scores or attention sinks, and "
            f"{PACKED_ATTENTION} is plain causal attention; train a model with full attention in every layer"
        )
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        from torch.nn.attention.varlen import varlen_attn

        stream = varlen_attn(
            query[0].transpose(0, 1),
            key[0].transpose(0, 1),
            value[0].transpose(0, 1),
            cu_seqlens,
            cu_seqlens,
            longest,
            longest,
            scale=scaling,
            window_size=(-1, 0),  # every token before, none after: causal
            enable_gqa=True,
        )
        assert isinstance(stream, Tensor)  # a pair only where the log-normaliser is asked for
        return stream[None], None
    sequence_lengths = cu_seqlens.diff().tolist()
    repeats = query.shape[1] // key.shape[1]
    parts = zip(
        torch.split(query, sequence_lengths, dim=2),
        torch.split(key.repeat_interleave(repeats, dim=1), sequence_lengths, dim=2),
        torch.split(value.repeat_interleave(repeats, dim=1), sequence_lengths, dim=2),
        strict=True,
    )
    outputs = [
        functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling) for q, k, v in parts
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


AttentionInterface.register(PACKED_ATTENTION, _packed_attention)
