"""GRPO steps of TRL, timed. Run by `benchmarks.step` with an interpreter that has TRL, and nothing of rlad.

    echo '{"model": FOLDER, "prompts": [CHAT, ...], "group": 8, "longest": 96, ...}' | python trl_step.py

Prints one JSON object: seconds and response tokens of each step, and the versions.
"""

import json
import random
import sys
import tempfile
import time

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback


class Clock(TrainerCallback):
    """Time from the beginning of a step to its end: generation, rewards, update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_, **__) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_, **__) -> None:
        self.seconds.append(time.perf_counter() - self.began)


def main(settings: dict) -> None:
    torch.set_num_threads(settings["threads"])
    lengths: list[float] = []
    generator = random.Random(0)

    def reward(completions: list, completion_ids: list[list[int]], **_) -> list[float]:
        lengths.append(sum(map(len, completion_ids)) / len(completion_ids))
        return [generator.random() for _ in completions]

    responses = settings["prompts_per_step"] * settings["group"]
    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=settings["bf16"],
            max_steps=settings["steps"],
            learning_rate=1e-6,
            num_generations=settings["group"],
            max_completion_length=settings["longest"],
            per_device_train_batch_size=settings["sequences"],
            gradient_accumulation_steps=responses // settings["sequences"],
            save_strategy="no",
            report_to="none",
            **settings["more"],
        )
        clock = Clock()
        trainer = trl.GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(settings["model"], padding_side="left"),
            reward_funcs=reward,
            args=arguments,
            train_dataset=Dataset.from_dict({"prompt": settings["prompts"]}),
            callbacks=[clock],
        )
        trainer.train()
    versions = {"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({"seconds": clock.seconds, "lengths": lengths, "versions": versions}))


if __name__ == "__main__":
    main(json.load(sys.stdin))
