"""docs/interop.md: lm-evaluation-harness and TRL are installed and run as the page says, with a teacher."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from pages import ROOT, Command, commands, page, run, sections
from test_services_page import arguments, started
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlad_core.config import resolve_model

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

PARTS = sections(page("interop.md"))
TEACHER = "rlad:kk-teacher"


def blocks(part: str) -> list[list[Command]]:
    found = re.findall(r"^```console\n(.*?)^```$", PARTS[part], re.MULTILINE | re.DOTALL)
    return [commands(block) for block in found]


def carry_out(part: str, folder: Path, environment: str, output: str) -> dict[str, str]:
    """The commands of a part in the repository's folder; what they make is put elsewhere.

    Returns:
        What each printed, in order; the teacher that they start serves all that come after it.
    """
    lines = [command.line for block in blocks(part) for command in block]
    [serving] = [line for line in lines if line.startswith("rlad serve")]
    place = lines.index(serving)
    said: dict[str, str] = {}

    def carry(line: str, url: str = "") -> None:
        here = re.sub(rf"(?<![\w-]){environment}(?=[/\s]|$)", str(folder / environment), line)
        here = re.sub(rf"(?<= ){output}$", str(folder / output), here)
        code, printed = run(here.replace("http://localhost:8000", url), ROOT, limit_s=1200)
        assert code == 0, (here, printed)
        said[f"{len(said)} {line}"] = printed

    for line in lines[:place]:
        carry(line)
    with started(arguments(serving), folder) as (url, _):
        for line in lines[place + 1 :]:
            carry(line, url)
    return said


def test_lm_evaluation_harness_tells_what_transformers_does(tmp_path: Path) -> None:
    carry_out("lm-evaluation-harness", tmp_path, "lm-eval", "knights")
    [file] = (tmp_path / "knights").rglob("samples_knights_*.jsonl")
    samples = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(samples) == 12
    folder = resolve_model(TEACHER)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    greedy = set()
    for sample in samples:
        [[[total, is_greedy]]] = sample["resps"]
        question, answer = (tokenizer(sample["doc"][name])["input_ids"] for name in ("question", "answer"))
        with torch.no_grad():
            logits = model(torch.tensor([question + answer])).logits[0, len(question) - 1 : -1]
        logprobs = logits[:, : len(tokenizer.get_vocab())].double().log_softmax(-1)
        expected = float(logprobs.gather(1, torch.tensor(answer)[:, None]).sum())
        assert float(total) == pytest.approx(expected, abs=1e-4)
        assert str(is_greedy) == str(logprobs.argmax(-1).tolist() == answer)
        greedy.add(str(is_greedy))
    assert greedy == {"True", "False"}


def test_trl_distils_two_steps_and_its_older_route_gives_the_same(tmp_path: Path) -> None:
    said = carry_out("TRL", tmp_path, "trl-env", "distilled")
    losses = [
        re.findall(r"^step (\d): loss (\d+\.\d+)$", printed, re.MULTILINE)
        for line, printed in said.items()
        if "trl_distillation.py" in line
    ]
    newer, older = losses
    assert [step for step, _ in newer] == ["1", "2"]
    assert all(float(loss) > 0 for _, loss in newer)
    assert newer == older
    assert (tmp_path / "distilled" / "checkpoint-2" / "model.safetensors").exists()
