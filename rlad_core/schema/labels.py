"""How a table says which schema it has, and whose tokens it holds.

Every table is labelled in its schema metadata:

=================  =========================================================================
``rlad.schema``    name of the schema, for instance ``rollouts``
``rlad.version``   version of that schema, raised when a column changes its meaning
``rlad.tokenizer`` fingerprint of the tokenizer whose ids the table holds (`tokenizer_fingerprint`)
=================  =========================================================================
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

import pyarrow as pa

NAME_KEY: Final = b"rlad.schema"
VERSION_KEY: Final = b"rlad.version"
TOKENIZER_KEY: Final = b"rlad.tokenizer"

VERSION: Final = 1


def name_of(schema: pa.Schema) -> str:
    """Name of one of this package's schemas."""
    return str((schema.metadata or {})[NAME_KEY].decode())


def fingerprint_of(table: pa.Table) -> str | None:
    """Tokenizer fingerprint that `table` carries, None where it carries none."""
    value = (table.schema.metadata or {}).get(TOKENIZER_KEY)
    return None if value is None else str(value.decode(errors="replace"))


def tokenizer_fingerprint(vocab: Mapping[str, int]) -> str:
    """Stable hash of what must be equal for two models to understand each other's token ids.

    Args:
        vocab: token -> id, added tokens included (``tokenizer.get_vocab()``). The size of a model's embedding
            plays no part, so a padded vocabulary alone changes nothing.

    Returns:
        ``sha256:`` and 32 hexadecimal digits.
    """
    by_id = sorted((token_id, token) for token, token_id in vocab.items())
    # The null is a part of every fingerprint that tables carry already.
    return _digest(json.dumps([by_id, None], ensure_ascii=True, separators=(",", ":")))


def text_fingerprint(text: str | None) -> str | None:
    """Stable hash of a text, such as a chat template; None for None."""
    return None if text is None else _digest(text)


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:32]
