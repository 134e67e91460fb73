"""How fast responses are scored, by every way there is, on one model in one run.

    python -m benchmarks.scoring --model rlad:kk-teacher --sequences 512
    python -m benchmarks.scoring --model Qwen/Qwen3-8B --num-gpus 1 --dtype bfloat16

Every way scores the same sequences, in the same order, several times; the first time is not counted. Ways
are measured one after another, each in a process of its own with its service. The table gives sequences/s and
scored tokens/s (median of the repetitions), and how each compares with the bare packed forward pass and the
stock server. With a thread for each core, as by default, a way with a service in it leaves the bare pass the
advantage of a machine of its own.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import typer
from ray import serve
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoTokenizer

from benchmarks.options import Model, names_of
from benchmarks.stock_server import stock_server
from rlad_core import schema
from rlad_core.client.endpoint import Endpoint
from rlad_core.client.forms import JSON
from rlad_core.client.parts import cut
from rlad_core.client.teacher import TeacherClient
from rlad_core.client.teacher_parts import TOKENS_WORTH_A_REQUEST
from rlad_core.config import resolve_model
from rlad_core.waiting import all_of
from services.clients.teachers import StockServerTeacher
from services.serve.cluster import embedded_ray
from services.serve.deployment import deployed
from services.teacher import service as teacher
from services.teacher.scoring.batcher import Batcher
from services.teacher.scoring.engines import load_engine
from services.teacher.scoring.tables import to_pairs
from services.teacher.settings import TeacherArgs

_START_LIMIT_S = 300.0
_WAY_LIMIT_S = 3600.0
_RESULT = "seconds: "
_CONNECTIONS = 8
_CORES = len(os.sched_getaffinity(0))
console = Console()


@dataclass(frozen=True)
class Work:
    """What is scored, and with what."""

    table: pa.Table
    args: TeacherArgs
    model: str
    repeats: int

    @property
    def scored_tokens(self) -> int:
        """Response tokens of all sequences."""
        return int(schema.lengths(self.table.column("response_token_ids")).sum())


def timed(score: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    score()
    seconds = []
    for _ in range(repeats):
        clock = time.perf_counter()
        score()
        seconds.append(time.perf_counter() - clock)
    return statistics.median(seconds)


def bare_forward(work: Work) -> float:
    """The torch engine in this process, no service around it: the limit. Batches are those of the service,
    whose reading, checking, encoding and HTTP are left out, and nothing that it computes.
    """
    args = work.args.model_copy(update={"engine": "torch"})

    async def body() -> float:
        engine = load_engine(args, work.model)
        batcher = Batcher(engine, args.max_tokens_per_batch // engine.passes_per_batch)
        seconds = []
        for _ in range(work.repeats + 1):
            clock = time.perf_counter()
            await batcher.score(to_pairs(work.table).pairs)
            seconds.append(time.perf_counter() - clock)
        await batcher.close()
        engine.shutdown()
        return statistics.median(seconds[1:])

    return asyncio.run(body())


def vllm_in_process(work: Work) -> float:
    """``LLM.generate`` with prompt log-probs."""
    from vllm import LLM, SamplingParams

    cache_bytes = int(work.args.kv_cache_memory_gib * 2**30)
    on_cpu: dict[str, Any] = {} if work.args.num_gpus else {"kv_cache_memory_bytes": cache_bytes}
    llm = LLM(
        model=work.model,
        dtype=work.args.dtype,
        max_model_len=engine_length(work.args) + 1,
        max_num_batched_tokens=work.args.max_tokens_per_batch,
        enforce_eager=not work.args.num_gpus,
        enable_prefix_caching=False,
        **on_cpu,
    )
    rows = work.table.to_pylist()
    prompts = [{"prompt_token_ids": r["prompt_token_ids"] + r["response_token_ids"]} for r in rows]
    sampling = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False, flat_logprobs=True)
    return timed(lambda: llm.generate(prompts, sampling, use_tqdm=False), work.repeats)


def ours(engine: str, way: str, work: Work) -> float:
    """Our service with an engine, by handle, or over REST in Arrow or JSON."""
    args = work.args.model_copy(update={"engine": engine})
    apps = {"teacher": teacher.build(args)}
    with (
        embedded_ray(num_cpus=4, num_gpus=1 if args.num_gpus else 0),
        deployed(apps, timeout_s=_START_LIMIT_S, setting="the benchmark's limit", take_down=False) as url,
    ):
        if way == "handle":
            handle = serve.get_app_handle("teacher")
            return timed(lambda: handle.score.remote(work.table).result(timeout_s=600), work.repeats)
        if way == "REST, Arrow":
            with TeacherClient(f"{url}/teacher") as client:
                return timed(lambda: client.score(work.table), work.repeats)
        return asyncio.run(in_json(f"{url}/teacher", work))


async def in_json(url: str, work: Work) -> float:
    """Requests cut as `TeacherClient` cuts them, and answers read as those of the stock server are."""
    rows = work.table.select(["prompt_token_ids", "response_token_ids"]).to_pylist()
    tokens = [sum(map(len, row.values())) for row in rows]
    share = max(TOKENS_WORTH_A_REQUEST, -(-sum(tokens) // _CONNECTIONS))
    parts = [
        json.dumps({"sequences": rows[start:stop]}).encode() for start, stop in cut(tokens, len(rows), share)
    ]
    async with Endpoint(url, connections=_CONNECTIONS, call_timeout_s=600) as endpoint:

        async def score(part: bytes) -> list[np.ndarray]:
            headers = {"Content-Type": JSON}
            answer = await endpoint.request("POST", "/v1/score", content=part, headers=headers, what="scores")
            return [np.asarray(result["logprobs"], np.float32) for result in answer.json()["results"]]

        seconds = []
        for _ in range(work.repeats + 1):
            clock = time.perf_counter()
            await all_of(map(score, parts))
            seconds.append(time.perf_counter() - clock)
        return statistics.median(seconds[1:])


def stock(work: Work) -> float:
    """A stock vLLM server over ``/v1/completions``."""
    options = (
        *("--dtype", work.args.dtype, "--max-model-len", str(engine_length(work.args) + 1)),
        *("--max-num-batched-tokens", str(work.args.max_tokens_per_batch), "--no-enable-prefix-caching"),
        *(() if work.args.num_gpus else ("--enforce-eager",)),
    )
    with stock_server(work.model, "model", *options) as url:

        async def body() -> float:
            async with Endpoint(url, connections=16) as endpoint:
                asked = StockServerTeacher(endpoint, "model")
                seconds = []
                for _ in range(work.repeats + 1):
                    clock = time.perf_counter()
                    await asked.score(work.table)
                    seconds.append(time.perf_counter() - clock)
                return statistics.median(seconds[1:])

        return asyncio.run(body())


def engine_length(args: TeacherArgs) -> int:
    """Longest sequence of the engines."""
    assert args.max_model_len is not None
    return args.max_model_len


def make_work(
    model: str, sequences: int, prompt: int, response: int, group: int, args: TeacherArgs, repeats: int
) -> Work:
    """Random sequences; ``group`` neighbours share a prompt, as the responses of a group do."""
    folder = resolve_model(model)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # A stock server refuses ids of the padding, which its tokenizer does not know.
    entries = min(len(tokenizer), int(AutoConfig.from_pretrained(folder).get_text_config().vocab_size))
    generator = np.random.default_rng(0)
    prompts = [generator.integers(entries, size=prompt) for _ in range(-(-sequences // group))]
    table = schema.build(
        schema.SEQUENCES,
        {
            "sequence_id": [str(place) for place in range(sequences)],
            "prompt_token_ids": [prompts[place // group] for place in range(sequences)],
            "response_token_ids": [generator.integers(entries, size=response) for _ in range(sequences)],
        },
        tokenizer_fingerprint=schema.tokenizer_fingerprint(tokenizer.get_vocab()),
    )
    return Work(table, args, folder, repeats)


WAYS: dict[str, Callable[[Work], float]] = {
    "bare packed forward": bare_forward,
    "torch engine, handle": lambda work: ours("torch", "handle", work),
    "torch engine, REST, Arrow": lambda work: ours("torch", "REST, Arrow", work),
    "torch engine, REST, JSON": lambda work: ours("torch", "REST, JSON", work),
    "vLLM in process": vllm_in_process,
    "vllm engine, handle": lambda work: ours("vllm", "handle", work),
    "vllm engine, REST, Arrow": lambda work: ours("vllm", "REST, Arrow", work),
    "vllm engine, REST, JSON": lambda work: ours("vllm", "REST, JSON", work),
    "stock vLLM server": stock,
}
_KNOWN = names_of(WAYS, between="; ")


def main(
    model: Model = "rlad:kk-teacher",
    sequences: Annotated[int, typer.Option(min=1)] = 512,
    prompt: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 64,
    response: Annotated[int, typer.Option(min=1, help="Tokens of a response.")] = 192,
    group: Annotated[int, typer.Option(min=1, help="Neighbours with one prompt.")] = 8,
    repeats: Annotated[int, typer.Option(min=1)] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of an engine; all cores.")] = _CORES,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option()] = "float32",
    num_gpus: Annotated[float, typer.Option(min=0)] = 0,
    tokens_per_batch: Annotated[int, typer.Option(min=1)] = 8192,
    only: Annotated[
        str, typer.Option(help="A way of the table, measured in this process.", callback=_KNOWN)
    ] = "",
    way: Annotated[
        list[str] | None, typer.Option(help="One of those that are measured; all.", callback=_KNOWN)
    ] = None,
) -> None:
    """Measure all ways and print the table, as Markdown too."""
    args = TeacherArgs(
        model=model, dtype=dtype, num_gpus=num_gpus, threads=threads, max_tokens_per_batch=tokens_per_batch,
        max_model_len=prompt + response, num_cpus=1,
    )  # fmt: skip
    work = make_work(model, sequences, prompt, response, group, args, repeats)
    if only:
        print(f"{_RESULT}{WAYS[only](work)}", flush=True)
        return
    seconds: dict[str, float] = {}
    for name in way or WAYS:
        # A process for each: engines leave threads and memory behind, and the next one should not feel them.
        command = [sys.executable, "-m", "benchmarks.scoring", *sys.argv[1:], "--only", name]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_WAY_LIMIT_S, check=False
        )
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        # vLLM and Ray print there too, also afterwards.
        [result] = [line for line in done.stdout.splitlines() if line.startswith(_RESULT)]
        seconds[name] = float(result.removeprefix(_RESULT))
        console.print(f"{name}: {seconds[name]:.3f} s")
    report(seconds, work)


def report(seconds: dict[str, float], work: Work) -> None:
    """Print the table for people, and as Markdown for docs/."""
    header = ("way", "sequences/s", "scored tokens/s", "of the bare forward", "times the stock server")
    rows: list[tuple[str, ...]] = [
        (
            way,
            f"{work.table.num_rows / took:,.0f}",
            f"{work.scored_tokens / took:,.0f}",
            *(
                f"{seconds[other] / took:.2f}" if other in seconds else "-"
                for other in ("bare packed forward", "stock vLLM server")
            ),
        )
        for way, took in seconds.items()
    ]
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for row in (header, ("---",) * len(header), *rows):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    typer.run(main)
