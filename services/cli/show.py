"""The command `show`."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from services.cli.console import complain, out

if TYPE_CHECKING:
    from services.report.answers import Kept


def show(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a run, or of an evaluation (evaluations/...).")
    ],
    wrong: Annotated[bool, typer.Option("--wrong", help="Only responses that are not right.")] = False,
    prompt: Annotated[str, typer.Option(metavar="ID", help="Beginning of a prompt's id.")] = "",
    when: Annotated[
        str,
        typer.Option(
            help="Of a run: before, after, training, or a step's number; by default its last evaluation, "
            "and with --prompt all there is."
        ),
    ] = "",
    subset: Annotated[str, typer.Option(help="Of the prompts.")] = "",
    fault: Annotated[
        str, typer.Option(help="E.g. 'cut off', 'no answer', format, 'timed out', 'wrong answer'.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="So many responses.")] = 5,
) -> None:
    """Read responses: prompt, response, verdict, reward parts; tokens in the colours of their log-probs.

    Examples:

        rlad show runs/kk-tiny-trrd --wrong

        rlad show runs/kk-tiny-trrd --when training --limit 3

        rlad show evaluations/kk-teacher-1a2b3c4d --prompt 5f0c --limit 20
    """
    from rlad_core.evaluation.faults import Fault
    from rlad_core.schema import SchemaError
    from services.report.answers import is_judged, kept_in
    from services.report.records import ReportError, refuse_missing
    from services.report.responses import Filter, responses_of, token_texts
    from services.report.showing import legend
    from services.report.showing import show as print_response

    if fault and fault not in (known := get_args(Fault)):
        complain(f"--fault {fault!r}: there is {', '.join(filter(None, known))}")
        raise typer.Exit(2)
    folder = folder.expanduser()
    try:
        refuse_missing(folder)
    except ReportError as error:
        complain(error)
        raise typer.Exit(2) from error
    kept = kept_in(folder)
    if not kept:
        complain(f"{folder} keeps no responses. Write the folder of a run or of an evaluation")
        raise typer.Exit(2)
    chosen = [each for each in kept if _is(each.when, each.step, when)] if when else kept
    if not when and not prompt:
        evaluations = [each for each in kept if each.when != "training"]
        chosen = [(evaluations or kept)[-1]]
    if not chosen:
        complain(f"--when {when}: {_whens(kept)}")
        raise typer.Exit(2)
    tokens, remark = token_texts(folder)
    wanted = Filter(wrong, prompt, subset, fault)
    try:
        found = (response for each in chosen for response in responses_of(each, wanted, tokens))
        shown = list(islice(found, limit))
        more = next(found, None) is not None
    except SchemaError as error:
        complain(error)
        raise typer.Exit(1) from error
    if not shown:
        asked = ", ".join(each.label for each in chosen)
        judged = [table for each in chosen if is_judged(table := each.read())]
        subsets = sorted({name for table in judged for name in table["subset"].to_pylist()})
        if subset and subsets and subset not in subsets:
            complain(f"--subset {subset}: there is {', '.join(subsets)}")
            raise typer.Exit(2)
        if judged:
            complain(f"no response is like that in {asked}")
        else:
            complain(f"{asked} is on worked solutions, which are the task's and not judged")
        raise typer.Exit(1)
    for response in shown:
        print_response(out, response)
    if any(response.tokens for response in shown):
        out.print(legend())
    elif remark:
        out.print(remark, style="dim", soft_wrap=True)
    if more:
        out.print(f"There are more; --limit {4 * limit} shows them.", style="dim")


def _whens(kept: "Sequence[Kept]") -> str:
    """What --when takes."""
    steps = sorted({each.step for each in kept if each.when})
    if not steps:
        return "an evaluation was asked once. Leave it out"
    names = dict.fromkeys(each.when for each in kept if each.when not in ("", "step"))
    return f"there is {', '.join(names)}, or a step: {', '.join(map(str, steps))}"


def _is(kept_when: str, step: int, asked: str) -> bool:
    if asked.isdecimal():
        return step == int(asked)
    return kept_when == asked
