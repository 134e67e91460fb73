"""Models of benchmarks end their responses as often as they are told to, and have a token for each row."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.models import SHAPES, tokenizer_of, write_sampler
from rlad_core.config import resolve_model
from rlad_core.language_model.vocabulary import token_rows
from services.base.tokenizer import load_tokenizer


@pytest.mark.parametrize(("shape", "median"), [("student", 300), ("student", None), ("32k", 300)])
def test_lengths_are_in_the_weights(shape: str, median: int | None, tmp_path: Path) -> None:
    write_sampler(shape, tmp_path, median)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    torch.manual_seed(0)
    with torch.no_grad():
        logits = model(torch.randint(5, 200, (4, 60))).logits
    probabilities = logits.double().softmax(dim=-1)
    ends = probabilities[..., tokenizer.eos_token_id]
    if median is None:
        assert ends.max() < 1e-20
    else:
        # Of a geometric distribution: (1 - p) ** median = 1 / 2.
        assert ((1 - ends) ** median - 0.5).abs().max() < 0.02
    assert probabilities.shape[-1] == len(tokenizer)


@pytest.mark.parametrize("shape", ["student", "14m", "32k"])
def test_a_run_has_the_whole_vocabulary_and_reads_prompts_as_the_student_does(
    shape: str, tmp_path: Path
) -> None:
    rows = SHAPES[shape].vocabulary
    tokenizer_of(shape).save_pretrained(tmp_path)
    tokenizer, student = load_tokenizer(str(tmp_path)), load_tokenizer(resolve_model("rlad:kk-student"))
    assert token_rows(tokenizer.get_vocab(), rows) == len(tokenizer) == rows
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (student.eos_token_id, student.pad_token_id)
    chat = [{"role": "user", "content": " You meet 2 inhabitants: Zoey says: Owen is a knave. t300"}]
    ids, known = (
        each.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        for each in (tokenizer, student)
    )
    assert ids == known
    assert tokenizer.decode([rows - 2, rows - 1]) == f"t{rows - 2}t{rows - 1}"
