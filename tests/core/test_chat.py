"""How the policy is asked and where it ends: one template, one set of end tokens, everywhere."""

import json
from pathlib import Path

import pytest
from example_recipe import read

from rlad_core.config import resolve_model
from rlad_core.language_model.chat import OWN, ChatFormat
from rlad_core.language_model.end_tokens import end_tokens, united
from rlad_core.prompt_checks import check
from rlad_core.prompt_stream import PromptStream, PromptTables
from rlad_core.tasks.knights_knaves.tiny.tokenizer import build_tokenizer

TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if not enable_thinking %} Mia is a knave.{% endif %}"
)
CHAT = [{"role": "user", "content": "Mia is a knight."}]


def test_a_template_and_its_variables() -> None:
    tokenizer = build_tokenizer(1024)
    chat = ChatFormat(TEMPLATE, {"enable_thinking": False})
    assert chat.text(tokenizer, CHAT) == "Mia is a knight. Mia is a knave."
    assert ChatFormat(TEMPLATE, {"enable_thinking": True}).text(tokenizer, CHAT) == "Mia is a knight."
    assert (
        chat.ids(tokenizer, CHAT) == tokenizer(chat.text(tokenizer, CHAT), add_special_tokens=False).input_ids
    )
    assert OWN.text(tokenizer, CHAT) == tokenizer.apply_chat_template(
        CHAT, add_generation_prompt=True, tokenize=False
    )
    bare = build_tokenizer(1024)
    bare.chat_template = None
    assert not OWN.is_there(bare)
    assert chat.is_there(bare)


def test_training_evaluation_and_checks_ask_in_the_recipes_template(tmp_path: Path) -> None:
    (tmp_path / "base.jinja").write_text(TEMPLATE)
    few = ["task.train.count=8", "task.evaluation.count=4"]
    few.append("policy.chat_template_kwargs={enable_thinking: false}")
    config = read(*few, f"policy.chat_template={tmp_path / 'base.jinja'}")
    # The text is part of the recipe from then on: another machine has no such file.
    assert config.policy.chat_template == TEMPLATE
    assert read(*few, f"policy.chat_template={json.dumps(TEMPLATE)}").policy == config.policy
    tokenizer = build_tokenizer(1024)
    tokenizer.chat_template = None
    checked = check(config, tokenizer)
    stream = PromptStream(config, tokenizer, checked.selection)
    [text] = stream.table(stream.prompts([0])).column("prompt").to_pylist()
    assert text.endswith(" Mia is a knave.")
    [prompt] = stream.prompts([0])
    assert PromptTables(tokenizer, chat=config.policy.chat).read([prompt])[0] == [text]


@pytest.mark.parametrize(("generation", "wanted"), [(None, (1,)), (7, (1, 7)), ([9, 1], (1, 9)), ([], (1,))])
def test_every_end_token_that_tokenizer_and_generation_config_name(
    generation: object, wanted: tuple[int, ...], tmp_path: Path
) -> None:
    tokenizer = build_tokenizer(1024)
    tokenizer.save_pretrained(tmp_path)
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    assert tokenizer.eos_token_id == 1
    assert end_tokens(tokenizer, str(tmp_path)) == wanted
    assert end_tokens(tokenizer, resolve_model("rlad:kk-student")) == (1,)


def test_the_union() -> None:
    assert united((3, 1), (), (1, 2)) == (1, 2, 3)
