"""What is known of the old policy, the one before a batch's first update, row by row in host memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rlad_core.batching import Indices


class OldTokens(NamedTuple):
    """Of some response tokens, under the old policy: their log-probs [T]; the log-prob of all end tokens
    together [T], and log Z [T], where there are any.
    """

    logprobs: Tensor
    ends: Tensor | None
    log_z: Tensor | None


class OldValues:
    """Of one rank's rows.

    Attributes:
        logprobs: of a row's response, by the row's number. ends, log_z: likewise, see `OldTokens`.
    """

    def __init__(self) -> None:
        self.logprobs: dict[int, Tensor] = {}
        self.ends: dict[int, Tensor] = {}
        self.log_z: dict[int, Tensor] = {}

    def keep(self, rows: Indices, lengths: Indices, values: OldTokens) -> None:
        """Note what the policy says of these rows' response tokens, while it is the old one.

        Args:
            lengths: response tokens of each row.
        """
        of_all = (self.logprobs, self.ends, self.log_z)
        for kept, of_tokens in zip(of_all, values, strict=True):
            if of_tokens is not None:
                kept.update(zip(rows.tolist(), of_tokens.cpu().split(lengths.tolist()), strict=True))

    def has(self, rows: Indices) -> bool:
        """Whether something was kept of these rows, which are of one mini-batch."""
        return int(rows[0]) in self.logprobs

    def of(self, rows: Indices, now: OldTokens) -> OldTokens:
        """Of these rows' response tokens, on the device of `now`.

        Args:
            now: what the policy says of them, which is still the old one where nothing was kept.
        """
        if not self.has(rows):
            return now
        device = now.logprobs.device
        ends, log_z = (of_rows(values, rows, device) for values in (self.ends, self.log_z))
        return OldTokens(_joined(self.logprobs, rows, device), ends, log_z)


def of_rows(values: Mapping[int, Tensor], rows: Indices, device: torch.device) -> Tensor | None:
    """Of the response tokens of these rows, which are of one mini-batch; None where there are none."""
    return _joined(values, rows, device) if int(rows[0]) in values else None


def _joined(values: Mapping[int, Tensor], rows: Indices, device: torch.device) -> Tensor:
    return torch.cat([values[row] for row in rows.tolist()]).to(device)
