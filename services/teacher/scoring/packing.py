"""Responses laid end to end in one stream of tokens, those of one prompt behind a single copy of it.

    tokens     prompt 1 | response 1a | response 1b | prompt 2 | response 2a | ...
    positions  0 .. P-1 | P ..        | P ..        | 0 ..     | ...
    attends    itself   | prompt 1 and itself       | itself   | ...

All layers but attention (`rlad_core.shared_prompts`) work on the stream as it is, with no padding
and no prompt twice. A prompt that one response alone follows is one sequence with it. A response's last token
predicts nothing that is asked for, so it is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from rlad_core.shared_prompts import Layout, Span
from services.teacher.scoring.interface import TokenPair


@dataclass(frozen=True)
class Packed:
    """A packed batch of T stream tokens and R response tokens.

    Args:
        input_ids: int64 [T].
        position_ids: int64 [T].
        layout: of its attention.
        predictor_index: int64 [R], the stream position whose hidden state predicts each response token.
        targets: int64 [R], the response tokens, in the order of the batch.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: Layout
    predictor_index: Tensor
    targets: Tensor


def pack_sharing_prompts(batch: Sequence[TokenPair]) -> Packed:
    """Pack a batch; neighbours whose prompt is one object share it."""
    tokens, positions, predictors, spans = [], [], [], list[Span]()
    end = 0
    for prompt, responses in _by_prompt(batch):
        first, last = end, end + prompt.size - 1
        alone = len(responses) == 1
        tokens.append(prompt)
        positions.append(np.arange(prompt.size))
        end = last + 1
        spans.append(Span(first, end + responses[0].size - 1 if alone else end))
        for response in responses:
            inputs = response.size - 1
            predictors.append(np.append(last, np.arange(end, end + inputs)))
            if inputs:
                tokens.append(response[:-1])
                positions.append(np.arange(prompt.size, prompt.size + inputs))
                if not alone:
                    spans.append(Span(end, end + inputs, prefix=(first, last + 1)))
                end += inputs
    return Packed(
        input_ids=_integers(tokens),
        position_ids=_integers(positions),
        layout=Layout.of(spans),
        predictor_index=_integers(predictors),
        targets=_integers([pair.response for pair in batch]),
    )


def _by_prompt(batch: Sequence[TokenPair]) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    for _, pairs in groupby(batch, key=lambda pair: id(pair.prompt)):
        group = list(pairs)
        yield group[0].prompt, [pair.response for pair in group]


def _integers(parts: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))
