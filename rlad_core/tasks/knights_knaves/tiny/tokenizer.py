"""A tokenizer of words and set phrases for Knights-and-Knaves text.

A token is a word with the blank or line break before it, or a phrase that always stands together ("is a
knight", the island's description, the format instruction). The prompt of a three-person puzzle then takes
about 45 tokens and its worked solution 150, an eighth of what characters would take. Decoding joins the
tokens as they are, so text comes back unchanged. It is an ordinary ``transformers`` fast tokenizer with a
chat template; nothing here is needed to load it.

It knows the words of puzzles about knights and knaves with common names (see `names`); anything else
may become the unknown token.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlad_core.tasks.knights_knaves import names
from rlad_core.tasks.knights_knaves.islanders import KNIGHTS
from rlad_core.tasks.knights_knaves.prompt import FORMAT_INSTRUCTION
from rlad_core.tasks.knights_knaves.puzzle import TEMPLATES, statement_text

END, PAD, UNKNOWN = "<|im_end|>", "<|endoftext|>", "<|unknown|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '" + END + "' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_PHRASES = (
    FORMAT_INSTRUCTION,
    KNIGHTS.description,
    " You meet",
    " inhabitants:",
    f" {KNIGHTS.question}",
    " is a knight",
    " is a knave",
    " is not a knight",
    " is not a knave",
    " if and only if",
    " is a knight, for",
    " is a knave, for",
    " is not a knight, for",
    " is not a knave, for",
    " Cases:",
    "\nAccording to",
    " fits:",
    ", so:",
    "\nAll fit:",
    ", case",
    " knight",
    " knave",
    " yes",
    " no",
    "<think>",
    " </think>",
    "<answer>",
    " </answer>",
)
# A word, a digit or a bracketed number, or punctuation, with one blank or line break before it; or any blank.
_WORD = r"[ \n]?[A-Za-z]+|[ \n]?\(\d\)|[ \n]?\d|[ \n]?[^\sA-Za-z0-9]+|\s"
_SPLIT = "|".join(map(re.escape, sorted(_PHRASES, key=len, reverse=True))) + "|" + _WORD


def build_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """The tokenizer; always the same token ids.

    Args:
        max_length: tokens that the model reads, kept as ``model_max_length``.
    """
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(_tokens()))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN,
        additional_special_tokens=list(ROLES),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
    )


def _tokens() -> Iterator[str]:
    """Every token, in the order of the ids; some come more than once."""
    yield from (PAD, END, UNKNOWN, *ROLES)
    yield from _PHRASES
    for number in range(1, 9):
        yield from (f" {number}", f" ({number})", f"\n({number})")
    yield from (" 9", *map(str, range(10)))
    yield from (",", ";", ".", " and", " or", " then", "If", " If")
    leaf, other = ("telling-truth", 0), ("lying", 1)
    for template in TEMPLATES:
        for statement in (leaf, ("not", leaf), ("->", leaf, other)):
            sentence = template.format(name="Zoey", says=statement_text(statement, ("Zoey", "Owen")))
            # A blank comes first: sentences follow a full stop, the list of people a colon.
            yield from re.findall(_SPLIT, f" {sentence}")
    for name in names.COMMON:
        yield from (name, f" {name}")
