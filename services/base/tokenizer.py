"""A model's tokenizer.

transformers, and most often torch with it, is imported when a tokenizer is wanted: it takes longer to load
than all else that a process needs which only deploys services or calls them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlad_core.client.forms import TokenizerInfo
from rlad_core.language_model.chat import OWN
from rlad_core.language_model.end_tokens import end_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub id, with its chat template.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError: transformers knows no such tokenizer.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = _loader(model).from_pretrained(model)
    except (OSError, ValueError, ImportError):
        raise
    except Exception as error:  # readers of broken files raise whatever they stumble over
        raise OSError(f"a file of it is broken ({type(error).__name__}: {error})") from error
    return tokenizer


def _loader(model: str) -> Any:
    """The class that AutoTokenizer would choose, where that is plain to see; else AutoTokenizer itself.

    With it come torch and its compilers, several seconds of a processor for a process that only reads text. A
    Qwen3 whose tokenizer transformers saved by itself, as the tiny models are, can do without.
    """
    folder = Path(model)
    config, settings = (_told(folder / name) for name in ("config.json", "tokenizer_config.json"))
    is_its_own = settings.get("tokenizer_class") == "TokenizersBackend" and "auto_map" not in settings
    if config.get("model_type") == "qwen3" and is_its_own and (folder / "tokenizer.json").is_file():
        from transformers import PreTrainedTokenizerFast  # another name of TokenizersBackend

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def _told(file: Path) -> dict[str, Any]:
    """What a file of JSON holds; nothing where that cannot be read, which is AutoTokenizer's to say."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def tokenizer_info(tokenizer: PreTrainedTokenizerBase, model: str) -> TokenizerInfo:
    """What `TokenizerInfo` says of the tokenizer of a model, a folder or hub id."""
    special = {
        name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)
    }
    return TokenizerInfo(
        vocabulary=tokenizer.get_vocab(),
        special_tokens=special,
        chat_template=OWN.read_with(tokenizer),
        end_token_ids=list(end_tokens(tokenizer, model)),
    )
