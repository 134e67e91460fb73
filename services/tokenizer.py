"""A model's tokenizer.

transformers, and torch with it, is imported when a tokenizer is wanted: it takes longer to load than all else
that a process needs which only deploys services or calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub id, with its chat template.

    Raises:
        OSError: there is none.
    """
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model)
    return tokenizer
