"""Which tokens end a turn.

A model may have several: chat models of one family end with <|im_end|> and know <|endoftext|> too, and their
Base siblings write only the latter. Where a student and its teacher are two such models, their end tokens are
different names of one outcome, "the response is over".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def end_tokens(tokenizer: PreTrainedTokenizerBase, model: str) -> tuple[int, ...]:
    """Every end token that a model's tokenizer and its generation config name, in rising order.

    Args:
        model: the folder or hub id that the tokenizer is of.

    Raises:
        OSError: its generation config cannot be read.
    """
    return united(_ids(tokenizer.eos_token_id), _ids(_generation_config(model).get("eos_token_id")))


def united(*sets: Iterable[int]) -> tuple[int, ...]:
    """The union E of several models' end tokens, in rising order."""
    return tuple(sorted({token for each in sets for token in each}))


def _ids(told: Any) -> tuple[int, ...]:
    """Configs name one id, several, or none."""
    if told is None:
        return ()
    return tuple(int(each) for each in told) if isinstance(told, list | tuple) else (int(told),)


def _generation_config(model: str) -> Mapping[str, Any]:
    # Not by transformers' GenerationConfig, with which torch comes into processes that only read text.
    from transformers.utils import cached_file

    try:
        file = cached_file(model, "generation_config.json")
    except OSError:  # many models have none
        return {}
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise OSError(f"{file} is broken: {error}") from error
    if not isinstance(found, dict):
        raise OSError(f"{file} is broken: it should be an object, not {found!s:.40}")
    return found
