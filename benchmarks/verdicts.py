r"""How fast math replies are judged, in the worker processes of the verifier service.

    python -m benchmarks.verdicts --pairs 20000 --workers 2
    python -m benchmarks.verdicts --profile 2000      # where the time goes, in one process, without isolation

Every pair of a gold answer and a reply is another one, so that no cache of an earlier verdict helps. Replies
are like those of models: some hundred to some thousand characters of prose and formulas, the answer in a box
at the end. The mix: whole numbers 55 %, fractions, decimals and units 25 %, lists and tuples 5 %, expressions
15 %; one answer in three is wrong. Each verdict is known, and the table counts those that are not as they
should be.
"""

import asyncio
import cProfile
import json
import pstats
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from rlad_core.tasks import shipped
from rlad_core.tasks.base import Verdict
from services.verifier.checking.messages import Check
from services.verifier.checking.pool import CheckPool

console = Console()
_SENTENCES = (
    "Let us denote the unknown by $x$ and write down what is given.",
    r"From the first condition we get $x^2 + {a}x = {b}$, and the second one says $x > \frac{{{a}}}{{{b}}}$.",
    r"Substituting, \[ {a}x + {b} = {c}, \quad \text{{so that}} \quad x = \frac{{{c} - {b}}}{{{a}}}. \]",
    "Wait, this must be checked again, since a sign may have been lost on the way.",
    r"The sum of the first ${a}$ terms is $\frac{{{a}({a}+1)}}{{2}}$, which we compare with {b}.",
    "This leaves two cases, of which only one satisfies the inequality above.",
    r"Hence $\sqrt{{{a}}} < {b}$, and the bound $\{{ {a}, {b}, {c} \}}$ is tight.",
)


@dataclass(frozen=True)
class Pair:
    """A gold answer, a reply, and whether the reply is right."""

    kind: str
    gold: str
    reply: str
    right: bool


def pairs(count: int, seed: int) -> Iterator[Pair]:
    """Distinct pairs."""
    drawn = random.Random(seed)
    seen: set[tuple[str, str]] = set()
    while len(seen) < count:
        kind = drawn.choices(("whole", "number", "list", "expression"), (55, 25, 5, 15))[0]
        right = drawn.random() < 2 / 3
        gold, answer = {"whole": _whole, "number": _number, "list": _list, "expression": _expression}[kind](
            drawn, right
        )
        reply = _reply(drawn, answer)
        if (gold, reply) not in seen:
            seen.add((gold, reply))
            yield Pair(kind, gold, reply, right)


def _reply(drawn: random.Random, answer: str) -> str:
    sentences = [
        drawn.choice(_SENTENCES).format(
            a=drawn.randint(2, 99), b=drawn.randint(2, 999), c=drawn.randint(2, 9999)
        )
        for _ in range(drawn.randint(4, 40))
    ]
    return "\n\n".join(sentences) + f"\n\nTherefore the answer is $\\boxed{{{answer}}}$."


def _whole(drawn: random.Random, right: bool) -> tuple[str, str]:
    value = drawn.randint(-999, 99999)
    given = value if right else value + drawn.choice((-10, -1, 1, 2, 100))
    return str(value), drawn.choice(
        (f"{given}", f"{given}", f"{given}", f"{given:,}", f"x = {given}", f"{given}.0")
    )


def _number(drawn: random.Random, right: bool) -> tuple[str, str]:
    top, bottom = drawn.randint(1, 9999), drawn.choice((2, 4, 5, 8, 10, 16, 20, 25))
    given = top if right else top + bottom * drawn.randint(1, 3)
    gold = drawn.choice(
        (f"\\frac{{{top}}}{{{bottom}}}", f"{top}/{bottom}", f"{top / bottom}", f"{top / bottom}\\text{{ cm}}")
    )
    return gold, drawn.choice(
        (
            f"\\frac{{{given}}}{{{bottom}}}",
            f"\\dfrac{{{given}}}{{{bottom}}}",
            f"{given / bottom}",
            f"{given / bottom}\\text{{ cm}}",
        )
    )


def _list(drawn: random.Random, right: bool) -> tuple[str, str]:
    first, second = drawn.randint(-99, 999), drawn.randint(1000, 9999)
    given = first if right else first + 1
    if drawn.random() < 0.5:
        return f"({first}, {second})", f"\\left({given}, {second}\\right)"
    return f"{first}, {second}", drawn.choice(
        (f"{second}, {given}", f"x = {given} \\text{{ or }} x = {second}")
    )


def _expression(drawn: random.Random, right: bool) -> tuple[str, str]:
    a, b, c = (drawn.randint(2, 99) for _ in range(3))
    given = a if right else a + 1
    return drawn.choice(
        (
            (f"{a}\\sqrt{{{b}}}", f"{given}\\sqrt{{{b}}}"),
            (f"{a}\\pi", f"{given}\\pi"),
            (f"\\frac{{{a}\\pi}}{{{b}}}", f"\\frac{{{given}\\pi}}{{{b}}}"),
            (f"{a}x^2 + {b}x - {c}", f"{given}x^2 + {b}x - {c}"),
            (f"{b} + {a}\\sqrt{{{c}}}", f"{given}\\sqrt{{{c}}} + {b}"),
            (f"y = {a}x + {b}", f"y = {b} + {given}x"),
            (f"2^{{{a}}} - {b}", f"2^{{{given}}}-{b}"),
        )
    )


async def _measured(work: list[Pair], workers: int, request: int) -> tuple[float, float, list[bool | None]]:
    """Seconds, seconds of the workers' CPU time, verdicts."""
    pool = CheckPool(
        {"math": shipped()["math"]}, workers=workers, time_limit_s=10.0, memory_limit_bytes=2 * 2**30
    )
    try:
        await pool.start()
        checks = [Check("math", pair.reply, json.dumps({"answer": pair.gold})) for pair in work]
        busy = sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids)
        begin = time.perf_counter()
        outcomes = []
        for start in range(0, len(checks), request):
            outcomes += await pool.judge(checks[start : start + request])
        seconds = time.perf_counter() - begin
        busy = sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pool.pids) - busy
    finally:
        pool.close()
    return seconds, busy, [each.correct if isinstance(each, Verdict) else None for each in outcomes]


def _profiled(work: list[Pair]) -> None:
    from rlad_core.tasks.math.verifier import verify, warm_up

    warm_up()
    profile = cProfile.Profile()
    with profile:
        for pair in work:
            verify(pair.reply, pair.gold)
    pstats.Stats(profile).sort_stats("cumulative").print_stats(30)


def main(
    count: Annotated[int, typer.Option("--pairs", min=1, help="Different pairs to judge.")] = 20000,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    request: Annotated[int, typer.Option(min=1, help="Pairs in one request.")] = 4096,
    seed: int = 0,
    profile: Annotated[int, typer.Option(min=0, help="Profile so many pairs instead.")] = 0,
) -> None:
    """Print verdicts per second, and how many were not as they should be."""
    if profile:
        _profiled(list(pairs(profile, seed)))
        return
    work = list(pairs(count, seed))
    seconds, busy, verdicts = asyncio.run(_measured(work, workers, request))
    kinds = Counter(pair.kind for pair in work)
    faults = Counter(pair.kind for pair, found in zip(work, verdicts, strict=True) if found is not pair.right)
    table = Table("answers", "pairs", "wrongly judged")
    for kind, number in sorted(kinds.items()):
        table.add_row(kind, str(number), str(faults[kind]))
    console.print(table)
    characters = sum(len(pair.reply) for pair in work) / len(work)
    console.print(
        f"{count / seconds:,.0f} verdicts/s: {count} pairs, {workers} worker processes, "
        f"{characters:,.0f} characters a reply; {1000 * busy / count:.2f} ms of a worker's CPU time each"
    )


if __name__ == "__main__":
    typer.run(main)
