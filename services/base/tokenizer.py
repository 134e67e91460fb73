"""A model's tokenizer.

transformers, and torch with it, is imported when a tokenizer is wanted: it takes longer to load than all else
that a process needs which only deploys services or calls them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlad_core.client.forms import TokenizerInfo
from rlad_core.language_model.end_tokens import end_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub id, with its chat template.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: transformers knows no such tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError, ImportError):
        raise
    except Exception as error:  # readers of broken files raise whatever they stumble over
        raise OSError(f"a file of it is broken ({type(error).__name__}: {error})") from error
    return tokenizer


def tokenizer_info(tokenizer: PreTrainedTokenizerBase, model: str) -> TokenizerInfo:
    """What `TokenizerInfo` says of the tokenizer of a model, a folder or hub id."""
    special = {
        name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }
    return TokenizerInfo(
        vocabulary=tokenizer.get_vocab(),
        special_tokens=special,
        chat_template=tokenizer.chat_template,
        end_token_ids=list(end_tokens(tokenizer, model)),
    )
