"""A micro-batch as one packed stream of tokens.

Sequences of one prompt may share it: the stream then has it once, and is shorter by two fifths for eight
responses of 90 tokens to a prompt of 60. Products and norms see each token once; attention finds a sequence's
tokens wherever they lie. A prompt's gradient is the sum over the sequences behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedBatch:
    """Sequences laid end to end in one stream of T tokens, with R response tokens among them in S sequences.

    Attributes:
        input_ids: int64 [T], prompt and response of each sequence in turn; of a sequence that continues a
            prompt which is there already, the response alone.
        position_ids: int64 [T], place of each token in its sequence, from 0.
        cu_seqlens: int32 [S + 1], where the tokens of each sequence start, and T at the end.
        shared: int32 [S, 2], start and end of the prompt before those tokens, equal where they begin with
            their own; None: all do.
        response_index: int64 [R], position in the stream whose hidden state predicts this response token,
            that is, the position before it.
        response_ids: int64 [R], the response tokens themselves.
        is_last: bool [R], final token of its response.
        named_ids: int64 [R, m], more tokens whose log-probs are wanted in the place of each response token;
            None: none.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    response_index: Tensor
    response_ids: Tensor
    is_last: Tensor
    named_ids: Tensor | None = None
    shared: Tensor | None = None

    @property
    def asked_ids(self) -> Tensor:
        """``response_ids``; with them in the first column of [R, 1 + m] where more are named."""
        if self.named_ids is None:
            return self.response_ids
        return torch.cat([self.response_ids[:, None], self.named_ids], dim=1)

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence."""
        own = self.cu_seqlens.diff()
        return int((own if self.shared is None else own + self.shared.diff(dim=1)[:, 0]).max())

    def with_alternatives(self, places: npt.NDArray[np.int64], token_ids: Sequence[int]) -> "PackedBatch":
        """The same batch, that also asks for other tokens in place of some response tokens.

        ``response_index`` and ``response_ids`` get ``len(places) * len(token_ids)`` more entries at the end,
        place by place; all else stays.

        Args:
            places: int64 [P], numbers of response tokens, 0..R-1.
            token_ids: what could stand there.
        """
        at = self.response_index[torch.from_numpy(places)].repeat_interleave(len(token_ids))
        ids = torch.tensor(token_ids, dtype=torch.int64).repeat(len(places))
        return replace(
            self,
            response_index=torch.cat([self.response_index, at]),
            response_ids=torch.cat([self.response_ids, ids]),
        )

    def to(self, device: torch.device | str) -> "PackedBatch":
        """The same batch on `device`."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return PackedBatch(**moved)


def pack(
    sequences: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, share_prompts: bool = False
) -> PackedBatch:
    """Pack (prompt_token_ids, response_token_ids) pairs into one stream.

    Response tokens keep their order: those of sequence 0, then of sequence 1, ..., so a flat array of values
    per response token (see `rlad_core.schema.flatten`) lines up with `response_index`.

    Args:
        share_prompts: a prompt stands in the stream once, before the first of its responses.

    Raises:
        ValueError: no sequences, or an empty prompt or response; names the sequence.
    """
    if not sequences:
        raise ValueError("nothing to pack; for a pass without sequences use filler()")
    pairs = [(np.asarray(prompt), np.asarray(response)) for prompt, response in sequences]
    prompts = np.array([prompt.size for prompt, _ in pairs], dtype=np.int64)
    responses = np.array([response.size for _, response in pairs], dtype=np.int64)
    for what, sizes in (("prompt", prompts), ("response", responses)):
        if (empty := np.flatnonzero(sizes == 0)).size:
            raise ValueError(f"sequence {empty[0]} has an empty {what}")
    first = np.arange(len(pairs))  # the sequence whose prompt each continues
    if share_prompts:
        seen: dict[bytes, int] = {}
        first = np.array([seen.setdefault(p.tobytes(), index) for index, (p, _) in enumerate(pairs)])
    carries = first == np.arange(len(pairs))
    own = np.where(carries, prompts, 0) + responses
    bounds = np.concatenate([[0], np.cumsum(own)])
    prompt_ends = bounds[first] + prompts
    sequence = np.repeat(np.arange(len(pairs)), responses)  # of each response token
    # Number of each response token inside its own response: 0, 1, ...
    within = np.arange(responses.sum()) - np.repeat(np.cumsum(responses) - responses, responses)
    # The token before it: in the stream too, but where a response begins behind a prompt that lies elsewhere.
    before = (bounds[1:] - responses - 1)[sequence] + within
    return PackedBatch(
        input_ids=_integers(
            np.concatenate(
                [
                    part
                    for pair, mine in zip(pairs, carries, strict=True)
                    for part in (pair if mine else pair[1:])
                ]
            )
        ),
        position_ids=_integers(
            np.arange(bounds[-1]) - np.repeat(bounds[:-1] - np.where(carries, 0, prompts), own)
        ),
        cu_seqlens=_integers(bounds).to(torch.int32),
        response_index=_integers(np.where(within == 0, prompt_ends[sequence] - 1, before)),
        response_ids=_integers(np.concatenate([response for _, response in pairs])),
        is_last=torch.from_numpy(within == responses[sequence] - 1),
        shared=None
        if carries.all()
        else _integers(np.stack([bounds[first], np.where(carries, bounds[first], prompt_ends)], axis=1)).to(
            torch.int32
        ),
    )


def filler() -> PackedBatch:
    """A batch of two tokens for a rank that has no sequences left; its response token must get weight 0."""
    return pack([([0], [0])])


def _integers(values: npt.NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))
