"""A tokenizer of nine words with a chat template, and what services read and tell with it."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from services.serve.http.texts import Reader
from services.serve.token_texts import TokenTexts

WORDS = ["<unk>", "<end>", "user", ":", "Mia", "is", "a", "knight", "knave"]
LONGEST = 12


def make_tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<end>",
        unk_token="<unk>",
        chat_template="{% for m in messages %}{{ m.role }} : {{ m.content }} {% endfor %}",
    )


TOKENIZER = make_tokenizer()
READER, TEXTS = Reader.of(TOKENIZER, LONGEST), TokenTexts(TOKENIZER)
