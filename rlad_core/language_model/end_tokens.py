"""Which tokens end a turn.

A model may have several: chat models of one family end with <|im_end|> and know <|endoftext|> too, and their
Base siblings write only the latter. Where a student and its teacher are two such models, their end tokens are
different names of one outcome, "the response is over".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def end_tokens(tokenizer: PreTrainedTokenizerBase, model: str) -> tuple[int, ...]:
    """Every end token that a model's tokenizer and its generation config name, in rising order.

    Args:
        model: the folder or hub id that the tokenizer is of.
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
    from transformers import GenerationConfig

    try:
        found: Mapping[str, Any] = GenerationConfig.from_pretrained(model).to_dict()
    except OSError:  # many models have none
        return {}
    return found
