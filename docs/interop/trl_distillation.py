"""Two steps of TRL's distillation trainer: the student learns from a teacher that is asked over HTTP.

python docs/interop/trl_distillation.py STUDENT TEACHER_URL OUTPUT_FOLDER
"""

import json
import sys
from pathlib import Path

from datasets import Dataset
from trl.experimental.server_distillation import ServerDistillationConfig, ServerDistillationTrainer

student, url, output = sys.argv[1:]
lines = (Path(__file__).parent / "knights.jsonl").read_text().splitlines()
questions = [json.loads(line)["question"] for line in lines[::2]]

trainer = ServerDistillationTrainer(
    model=student,
    args=ServerDistillationConfig(
        output_dir=output,
        teacher_model_server_url=url,
        max_steps=2,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=1,
        max_completion_length=16,
        learning_rate=1e-4,
        beta=1.0,
        logging_steps=1,
        report_to="none",
        use_cpu=True,
        bf16=False,
    ),
    train_dataset=Dataset.from_dict({"prompt": questions}),
)
trainer.train()
for entry in trainer.state.log_history:
    if "loss" in entry:
        print(f"step {entry['step']}: loss {entry['loss']:.4f}")
