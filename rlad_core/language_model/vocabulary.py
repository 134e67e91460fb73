"""Which rows of a model's embedding and LM head are tokens, and which are padding.

Many models have more rows than their tokenizer has tokens, so that a matrix has a round size: Qwen3 has
151,936 rows for 151,669 tokens. A row is *padding* if its id is above the highest id of the tokenizer, tokens
that were added to the vocabulary included. Nothing can write or read such a row, so it has probability 0 for
us: minus infinity before every softmax, for the policy that samples, for the learner and for teachers. The
`vocab_size` of a model's config counts rows, padding included; wherever we speak of a vocabulary's size, it
is the number of rows that are tokens.

A gap between two tokens is no padding: such an id decodes to no text, as a special token does, and takes
part. Where a tokenizer knows more tokens than the model has rows, all rows are tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def token_rows(vocabulary: Mapping[str, int], rows: int) -> int:
    """How many of a model's rows, from the first, are tokens.

    Args:
        vocabulary: token -> id, added tokens included: a tokenizer's ``get_vocab()``.
        rows: of the model's LM head, padding included.

    Raises:
        ValueError: there is no token.
    """
    if not vocabulary or rows < 1:
        raise ValueError(f"a vocabulary of {len(vocabulary)} tokens and a head of {rows} rows name no token")
    return min(rows, max(vocabulary.values()) + 1)


def unknown_token(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token that a tokenizer writes for text that it has no tokens for.

    None: it has none, or one that means something else too, as GPT-2's end token does.
    """
    known = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id)
    own: int | None = tokenizer.unk_token_id
    return None if own in known else own
