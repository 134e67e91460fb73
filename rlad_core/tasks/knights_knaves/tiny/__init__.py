"""Tiny models of the real architecture, for machines without a GPU: a word-level tokenizer, two Qwen3 sizes.

Puzzles, prompt, reply format, verifier and reward are those of a full-size run; only tokenizer and size
differ.
"""

from rlad_core.tasks.knights_knaves.tiny.models import TINY_CONFIGS, write_untrained
from rlad_core.tasks.knights_knaves.tiny.tokenizer import build_tokenizer

__all__ = ["TINY_CONFIGS", "build_tokenizer", "write_untrained"]
