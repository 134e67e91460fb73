"""Reading a tokenizer: whichever way is taken, it is the one that transformers would choose."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from rlad_core.config import resolve_model
from rlad_core.language_model.chat import OWN
from services.base.tokenizer import load_tokenizer, tokenizer_info
from services.clients.teachers.policy import PolicyFacts

CHAT = [
    {"role": "system", "content": "You solve puzzles."},
    {"role": "user", "content": "Mia said that Ed is a knave. Ed is not a knight, and 7 < 8."},
    {"role": "assistant", "content": "<think>Cases: Mia knight</think>"},
]


def folder_with(tmp_path: Path, **told: dict[str, object]) -> Path:
    """The student's folder with other words in config.json or tokenizer_config.json."""
    folder = Path(shutil.copytree(resolve_model("rlad:kk-student"), tmp_path / "model"))
    for name, changes in told.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


@pytest.mark.parametrize("model", ["rlad:kk-student", "rlad:kk-teacher"])
def test_the_models_that_ship_have_the_tokenizer_that_transformers_chooses(model: str) -> None:
    folder = resolve_model(model)
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert type(ours) is type(theirs)
    assert tokenizer_info(ours, folder) == tokenizer_info(theirs, folder)
    assert ours.apply_chat_template(CHAT)["input_ids"] == theirs.apply_chat_template(CHAT)["input_ids"]
    assert ours.model_max_length == theirs.model_max_length
    ids = ours(CHAT[1]["content"])["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize(
    "told",
    [
        {"config": {"model_type": "qwen2"}},
        {"tokenizer_config": {"tokenizer_class": "Qwen2Tokenizer"}},
        {"tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast"}},
    ],
)
def test_where_it_is_not_plain_to_see_transformers_chooses(
    told: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, **told)
    assert type(load_tokenizer(str(folder))) is type(AutoTokenizer.from_pretrained(folder))


def test_of_several_templates_the_one_for_chats_without_tools_is_told(tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    shipped = tokenizer_info(load_tokenizer(str(folder)), str(folder))
    file, template = folder / "tokenizer_config.json", folder / "chat_template.jinja"
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": template.read_text()}]
    template.unlink()
    for templates, is_there in ((named, True), (named[:1], False)):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": templates}))
        tokenizer = load_tokenizer(str(folder))
        told = tokenizer_info(tokenizer, str(folder)).chat_template
        assert told == (shipped.chat_template if is_there else None)
        assert told == PolicyFacts(tokenizer, max_length=8).info.chat_template
        assert OWN.is_there(tokenizer) is is_there


def test_a_process_that_only_reads_text_does_without_torch() -> None:
    program = (
        "import sys; from services.base.tokenizer import load_tokenizer, tokenizer_info; "
        f"folder = {resolve_model('rlad:kk-student')!r}; tokenizer_info(load_tokenizer(folder), folder); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_generation_config_is_named(text: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(OSError, match=r"generation_config\.json is broken"):
        tokenizer_info(load_tokenizer(str(folder)), str(folder))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_a_broken_file_is_an_error(name: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path)
    (folder / name).write_text("{")
    with pytest.raises((OSError, ValueError)):
        load_tokenizer(str(folder))
