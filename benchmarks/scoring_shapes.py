"""How fast the torch engine scores batches of any composition: many short sequences, few long ones, groups.

    python -m benchmarks.scoring_shapes --model rlad:kk-teacher

Seconds are those of the CPU, so that what else the machine does counts little: with one thread, tokens/s of
an idle core. Each cell is one request to the engine in this process, as the service would cut it into
passes: so many sequences of so many tokens, a quarter of them prompt, in groups that share it. Tokens are
those of the stream, each shared prompt once: cost that is linear in tokens shows as one rate down a column.

With ``--details`` the table is of what may be asked for besides, on 512 sequences of 64 + 192 tokens in
groups of 8: scored tokens/s.
"""

import asyncio
import time
from typing import Annotated

import numpy as np
import typer

from benchmarks.options import Model
from rlad_core.client.details import NO_DETAILS, Details
from rlad_core.config import resolve_model
from services.teacher.scoring.batcher import Batcher
from services.teacher.scoring.interface import TokenPair
from services.teacher.scoring.torch_engine import TorchEngine

LENGTHS = (16, 64, 256, 1024, 8192)
COUNTS = (1, 8, 64, 512, 4096)
GROUPS = (1, 8, 32)


def pairs_of(sequences: int, tokens: int, group: int, entries: int) -> list[TokenPair]:
    """Random sequences of ``tokens`` tokens, ``group`` neighbours with one prompt."""
    generator = np.random.default_rng(0)
    prompt = max(1, tokens // 4)
    pairs: list[TokenPair] = []
    while len(pairs) < sequences:
        shared = generator.integers(entries, size=prompt, dtype=np.int32)
        pairs += [
            TokenPair(shared, generator.integers(entries, size=tokens - prompt, dtype=np.int32))
            for _ in range(min(group, sequences - len(pairs)))
        ]
    return pairs


def stream_tokens(pairs: list[TokenPair]) -> int:
    """Of prompts, each once, and responses."""
    prompts = {id(pair.prompt): pair.prompt.size for pair in pairs}
    return sum(prompts.values()) + sum(int(pair.response.size) for pair in pairs)


async def of_details(engine: TorchEngine, batcher: Batcher) -> None:
    """Print the rate of each detail and of all together."""
    plain = pairs_of(512, 256, 8, engine.vocab_size)
    everything = Details(5, True, (0, 1), "float32", 5)
    asked = {
        "log-probs alone": NO_DETAILS,
        "top_k 5": Details(top_k=5),
        "entropy": Details(entropy=True),
        "2 end tokens": Details(end_token_ids=(0, 1)),
        "5 named tokens": Details(named_token_ids=5),
        "hidden, float32": Details(hidden="float32"),
        "hidden, bfloat16": Details(hidden="bfloat16"),
        "all": everything,
    }
    print("| asked for | scored tokens/s |\n|---|---|")
    for name, wanted in asked.items():
        pairs = [
            TokenPair(
                pair.prompt,
                pair.response,
                wanted,
                named=np.zeros((pair.response.size, 5), np.int32) if wanted.named_token_ids else None,
            )
            for pair in plain
        ]
        seconds = []
        for _ in range(3):
            clock = time.process_time()
            await batcher.score(pairs)
            seconds.append(time.process_time() - clock)
        tokens = sum(int(pair.response.size) for pair in pairs)
        print(f"| {name} | {tokens / min(seconds):,.0f} |", flush=True)
    await batcher.close()
    engine.shutdown()


def main(
    model: Model = "rlad:kk-teacher",
    most_tokens: Annotated[int, typer.Option(min=1, help="Larger requests are left out.")] = 65_536,
    tokens_per_batch: Annotated[int, typer.Option(min=1)] = 8192,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    details: Annotated[bool, typer.Option("--details", help="What else is told, instead.")] = False,
) -> None:
    """Print stream tokens/s as Markdown: a line for each count and group, a column for each length."""

    async def body() -> None:
        engine = TorchEngine(
            resolve_model(model), dtype="float32", max_model_len=max(LENGTHS),
            logits_memory_bytes=2**30, threads=threads,
        )  # fmt: skip
        batcher = Batcher(engine, tokens_per_batch // engine.passes_per_batch)
        if details:
            await of_details(engine, batcher)
            return
        print("| sequences | group | " + " | ".join(f"{length:,} tokens" for length in LENGTHS) + " |")
        print("|---" * (2 + len(LENGTHS)) + "|")
        for group in GROUPS:
            for count in (each for each in COUNTS if each >= group or group == 1):
                cells = []
                for length in LENGTHS:
                    if count * length > most_tokens:
                        cells.append("")
                        continue
                    pairs = pairs_of(count, length, group, engine.vocab_size)
                    seconds = []
                    for _ in range(3):
                        clock = time.process_time()
                        await batcher.score(pairs)
                        seconds.append(time.process_time() - clock)
                    cells.append(f"{stream_tokens(pairs) / min(seconds):,.0f}")
                print(f"| {count:,} | {group} | " + " | ".join(cells) + " |", flush=True)
        await batcher.close()
        engine.shutdown()

    asyncio.run(body())


if __name__ == "__main__":
    typer.run(main)
