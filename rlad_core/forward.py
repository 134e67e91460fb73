"""From packed sequences to the log-probs of their response tokens, with a transformers causal LM.

One forward pass takes any number of sequences of any lengths as one stream, without padding. Attention must
not look from one sequence into the next: `_packed_attention`, registered with transformers under
``PACKED_ATTENTION``, runs it in one call where the device has a kernel for that, or in few
(`rlad_core.attention`).
This is the learner's forward pass. The teacher's needs no gradient and shares prompts between responses, so
it is packed in another way, in a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel

from rlad_core.attention import Blocks, attend, fits_varlen
from rlad_core.language_model.head import OutputHead
from rlad_core.language_model.plain_forward import Pair, plain_logprobs
from rlad_core.logprobs import Beside
from rlad_core.packing import PackedBatch
from rlad_core.shared_prompts import Layout, Span, attend_behind_prompts

PACKED_ATTENTION = "rlad_packed"
"""Pass as ``attn_implementation`` when loading a model for `ResponseLogprobs`."""


class ResponseLogprobs(nn.Module):
    """A causal LM that answers with log-probs of given responses instead of logits.

    The LM head stays inside `forward`: under FSDP2 its weight is whole only there.

    Args:
        model: loaded with ``attn_implementation=PACKED_ATTENTION``.
        chunk_size: response tokens whose logits are held at once.
        tokens: rows of the head that are tokens (`rlad_core.language_model.vocabulary`); None: all.

    Raises:
        ValueError: the model uses another attention, which would look across sequences.
    """

    def __init__(self, model: PreTrainedModel, chunk_size: int = 1024, tokens: int | None = None) -> None:
        super().__init__()
        attention = model.config._attn_implementation
        if attention != PACKED_ATTENTION:
            raise ValueError(
                f"the model's attention is {attention!r}, which would let packed sequences see each other; "
                f"load it with attn_implementation={PACKED_ATTENTION!r}"
            )
        self.model = model
        self.chunk_size = chunk_size
        self.head = OutputHead(model, tokens)

    def forward(
        self, batch: PackedBatch, *, with_entropy: bool = False, beside: Beside | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Natural log-probs (temperature 1, all tokens) of the batch's R response tokens.

        Args:
            batch: on the model's device.
            with_entropy: also the entropy of each distribution.
            beside: sees the logits of each chunk, see `rlad_core.logprobs.token_logprobs`.

        Returns:
            ``(log-probs float32 [R], entropy float32 [R] in nats, or None)``; log-probs [R, 2 + m] where the
            batch names m more tokens for each place: the response token's own first, and last that of all
            tokens together that are not named.
        """
        hidden = self.model.base_model(
            input_ids=batch.input_ids[None],
            position_ids=batch.position_ids[None],
            # Anything but None keeps transformers from building a mask of T x T.
            attention_mask=batch.input_ids.new_ones(1, 1, 1, 1),
            use_cache=False,
            cu_seqlens=batch.cu_seqlens,
            longest=batch.max_length,
            laid_out=LaidOut(batch),
        ).last_hidden_state[0]
        return self.head.logprobs(
            hidden[batch.response_index],
            batch.asked_ids,
            chunk_size=self.chunk_size,
            with_entropy=with_entropy,
            rest_of=batch.named_ids,
            beside=beside,
        )

    def plain(self, pairs: Sequence[Pair]) -> Tensor:
        """Log-probs of these responses by the model's own forward pass, see `plain_logprobs`."""
        return plain_logprobs(self.model, pairs, self.head.tokens)


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The layers that a model is a stack of, which is how it is sharded."""
    whole = set(model._no_split_modules or ())
    return [module for module in model.base_model.modules() if type(module).__name__ in whole]


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
    laid_out: LaidOut,
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
        laid_out: the sequences once more, for `attend`, where no kernel takes them as they are.
        sliding_window: a token sees so many tokens, itself and those right before it; None: all before it.

    Returns:
        [1, T, H, D].

    Raises:
        NotImplementedError: the model's attention has capped scores or sinks.
    """
    refuse_other_attention(module, softcap, s_aux)
    if sliding_window is not None and sliding_window >= longest:
        sliding_window = None
    if query.is_cuda and fits_varlen(query, value) and not laid_out.shares_prompts:
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
            # Every token of the window before, none after: causal.
            window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
            enable_gqa=True,
        )
        assert isinstance(stream, Tensor)  # a pair only where the log-normaliser is asked for
        return stream[None], None
    stream = _attend_in_blocks(
        *(states[0].transpose(0, 1) for states in (query, key, value)), laid_out, scaling, sliding_window
    )
    return stream[None], None


class LaidOut:
    """Sequences of a batch as `Blocks`, made when the first layer asks for them."""

    def __init__(self, batch: PackedBatch) -> None:
        self._batch = batch

    @property
    def shares_prompts(self) -> bool:
        """Whether some sequence's tokens do not lie side by side."""
        return self._batch.shared is not None

    @cached_property
    def blocks(self) -> Blocks:
        """Every sequence as a whole, on the device of the batch."""
        bounds, device = self._batch.cu_seqlens.tolist(), self._batch.cu_seqlens.device
        if self._batch.shared is None:
            return Blocks.of_bounds(bounds).to(device)
        # A shared prompt's own queries are computed again for each response behind it, and one is taken.
        rows = [
            np.concatenate([np.arange(*prompt), np.arange(*own)])
            for prompt, own in zip(self._batch.shared.tolist(), pairwise(bounds), strict=True)
        ]
        return Blocks.of(rows, bounds[-1]).to(device)

    @cached_property
    def behind_prompts(self) -> Layout:
        """Sequences behind prompts that they share; those prompts are sequences by themselves."""
        assert self._batch.shared is not None
        bounds, shared = self._batch.cu_seqlens.tolist(), self._batch.shared.tolist()
        prompts = {start: stop for start, stop in shared if stop > start}
        spans = []
        for (start, stop), (before, until) in zip(pairwise(bounds), shared, strict=True):
            if until > before:
                spans.append(Span(start, stop, (before, until)))
            elif start in prompts:
                end = prompts[start]
                spans += [Span(start, end), Span(end, stop, (start, end))]
            else:
                spans.append(Span(start, stop))
        return Layout.of(spans)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # rectangles differ from batch to batch, in number and in size
def _attend_in_blocks(
    query: Tensor, key: Tensor, value: Tensor, laid_out: LaidOut, scale: float | None, window: int | None
) -> Tensor:
    same_size = query.shape[-1] == value.shape[-1]
    if laid_out.shares_prompts and query.device.type == "cpu" and window is None and same_size:
        return attend_behind_prompts(query, key, value, laid_out.behind_prompts, scale=scale)
    return attend(query, key, value, laid_out.blocks, scale=scale, window=window)


def refuse_other_attention(module: nn.Module, softcap: float | None, s_aux: Tensor | None) -> None:
    """Left out in silence, these would give the log-probs of another model.

    Raises:
        NotImplementedError: the model's attention has capped scores or sinks.
    """
    if softcap is not None or s_aux is not None:
        raise NotImplementedError(
            f"{type(module).__name__} wants capped scores or attention sinks, which a packed pass does not "
            "compute; take a model of another family"
        )


AttentionInterface.register(PACKED_ATTENTION, _packed_attention)
