"""A tokenizer of each kind, and texts to read with them."""

from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rlad_core.config import resolve_model
from services.base.tokenizer import load_tokenizer
from services.serve.token_texts import TokenTexts

_SAMPLE = ["Mia said: Zoey is a knave.", "naïve café 😀 👍🏽", " two  spaces\n", "日本語"]


def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<end>"]
    )
    tokenizer.train_from_iterator(_SAMPLE, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def _sentence_piece() -> PreTrainedTokenizerFast:
    """As Llama 2 has it: a mark in place of spaces, bytes for what is no token."""
    words = ["<unk>", "<end>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdeimnosy", "▁a", "▁is"]
    vocabulary = {word: place for place, word in enumerate(words)}
    tokenizer = Tokenizer(
        models.BPE(
            vocabulary, [("▁", "a"), ("▁", "i")][:1], unk_token="<unk>", byte_fallback=True, fuse_unk=True
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>")


def _words() -> PreTrainedTokenizerFast:
    vocabulary = {word: place for place, word in enumerate(["<unk>", "<end>", "Mia", "said", "Zoey", "is"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", unk_token="<unk>")


KINDS = {"bytes": byte_level(), "pieces": _sentence_piece(), "words": _words()}
ALL_KINDS = {**KINDS, "shipped": load_tokenizer(resolve_model("rlad:kk-student"))}
TEXTS = {kind: TokenTexts(tokenizer) for kind, tokenizer in ALL_KINDS.items()}
WRITTEN = st.one_of(st.sampled_from(_SAMPLE), st.text(st.characters(blacklist_categories=["Cs"]), min_size=1))
