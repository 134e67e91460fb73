"""The command `rlad compare`: methods side by side, from a suite."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlad_core.config import ConfigError
from services.cli.console import complain, err, out
from services.cli.extras import needs_services

if TYPE_CHECKING:
    from services.compare.comparison import Comparison
    from services.compare.part import Part


def compare(
    suite: Annotated[
        Path, typer.Argument(help="A suite: a YAML file, or the name of one that ships with rlad (kk_tiny).")
    ],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where runs and report go; comparisons/NAME without it.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Carry out the runs of this variant alone, of several by naming it again; with --report, "
            "--pack and --from it is the part that is reported, packed, taken."
        ),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="The same for the runs with this seed; also several times.")
    ] = None,
    untuned: Annotated[
        bool, typer.Option("--untuned", help="Try no settings first: each variant has those of the suite.")
    ] = False,
    at_once: Annotated[
        int,
        typer.Option(
            min=1,
            help="So many runs at a time, where devices and memory hold them. On cores that one run fills, "
            "two take longer than one after the other; seconds per step are then no measurement.",
        ),
    ] = 1,
    report: Annotated[
        bool, typer.Option("--report", help="Only write the report of what is finished; starts nothing.")
    ] = False,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="Take from this comparison's folder what is finished and a run of the suite too; it is not "
            "carried out again. Several folders by naming it again.",
        ),
    ] = None,
    packed: Annotated[
        Path | None,
        typer.Option(
            "--pack",
            help="Only write to this folder what the report needs of the finished runs, some 100 KB each. "
            "With it, or a copy of it elsewhere, as --out the comparison goes on.",
        ),
    ] = None,
) -> None:
    """Carry out a suite's runs and write one report over them.

    The same command goes on after any stop: finished runs are kept, a broken one goes on from its last
    checkpoint. Ctrl-C stops what is at work after its step; --report shows what there is, at any time.

    A suite of your own is a YAML file such as this one; docs/compare.md says the rest.

        name: mine
        recipe: recipe.yaml     # paths are relative to the suite
        seeds: [0, 1]
        variants:
          trrd: {}
          grpo: {set: {stages.0.objective: {kind: grpo}}}

    Exit codes: 0 all runs finished, 1 a run failed or it was stopped, 2 refused before anything was started.

    Examples:

        rlad compare smoke

        rlad compare my-suite.yaml --out comparisons/mine --at-once 2

        rlad compare smoke --report

        rlad compare kk_tiny --untuned --only trrd --only grpo --seed 0

        rlad compare smoke --pack results/smoke

        rlad compare alpha --from comparisons/kk_tiny
    """
    from services.compare.comparison import Comparison
    from services.compare.part import Part
    from services.compare.suite import load_suite
    from services.report.records import ReportError

    try:
        wanted, file = load_suite(suite)
        wanted = wanted.untuned if untuned else wanted
        part = Part(tuple(only or ()), tuple(seed or ()))
        part.check(wanted, str(file))
        where = _folder("--out", folder or Path("comparisons", wanted.name))
        to = None if packed is None else _folder("--pack", packed)
        comparison = Comparison(wanted, where)
        comparison.check(str(file))
        for other in others or ():
            _take(comparison, other.expanduser().absolute(), part)
    except (ConfigError, ReportError) as error:
        complain(str(error))
        raise typer.Exit(2) from error
    if to is not None:
        _pack(comparison, to, str(file), part)
        if not report:
            return
    if report:
        if not where.is_dir():
            complain(f"there is no comparison in {where} yet. Leave --report out to begin it")
            raise typer.Exit(2)
        _tell(comparison, {}, part)
        return
    needs_services()
    from services.base.stopping import sigterm_interrupts
    from services.compare.host import HostError
    from services.run.lease import HeldError

    try:
        with sigterm_interrupts():
            failed = comparison.carry_out(out, at_once, part)
    except HeldError as error:
        complain(f"{error}, or write another --out")
        raise typer.Exit(2) from error
    except (HostError, ConfigError, ReportError) as error:
        complain(str(error))
        raise typer.Exit(1) from error
    except KeyboardInterrupt as interrupt:
        _tell(comparison, {})
        out.print("stopped. The same command goes on")
        raise typer.Exit(1) from interrupt
    _tell(comparison, failed)
    if failed:
        err.print(f"failed: {', '.join(failed)}. The same command tries again", soft_wrap=True)
        raise typer.Exit(1)


def _folder(option: str, path: Path) -> Path:
    """Where an option's folder is or will be."""
    wanted = path.expanduser().absolute()
    there = next(each for each in (wanted, *wanted.parents) if each.exists())
    if not there.is_dir():
        complain(f"{option} {path}: {there} is a file. Write a folder")
        raise typer.Exit(2)
    return wanted


def _take(comparison: "Comparison", other: Path, part: "Part") -> None:
    from rlad_core.schema import SchemaError
    from services.run.lease import HeldError

    try:
        taken = comparison.take(other, out, part)
    except (HeldError, SchemaError, OSError) as error:
        complain(str(error))
        raise typer.Exit(2) from error
    runs = ", ".join(here if here == there else f"{here} ({there} there)" for here, there in taken.items())
    said = f"took  {runs} from {other}" if runs else f"{other} has no finished run that is missing here"
    out.print(said, soft_wrap=True)


def _pack(comparison: "Comparison", to: Path, source: str, part: "Part") -> None:
    if to.resolve() == comparison.folder.resolve():
        complain(f"{to} has the runs themselves. Write another folder to --pack")
        raise typer.Exit(2)
    from rlad_core.schema import SchemaError
    from services.report.records import ReportError

    try:
        names = comparison.pack(to, source, part)
    except (ConfigError, ReportError, SchemaError, OSError) as error:
        complain(str(error))
        raise typer.Exit(2) from error
    if not names:
        asked = f" ({said.removesuffix('.')})" if (said := str(part)) else ""
        complain(f"no run in {comparison.folder} is finished{asked}, so there is nothing to pack")
        raise typer.Exit(2)
    out.print(f"packed  {', '.join(names)} into {to}", soft_wrap=True)


def _tell(comparison: "Comparison", failed: dict[str, str], part: "Part | None" = None) -> None:
    from services.compare.page import write
    from services.compare.tables import not_compared, seeds_remark, terminal_pairs, terminal_table
    from services.report.records import ReportError

    try:
        results = comparison.results(failed, part)
        page = write(results, comparison.folder)
    except (ReportError, OSError) as error:
        complain(str(error))
        raise typer.Exit(1) from error
    if results.methods:
        out.print(terminal_table(results))
        if remark := seeds_remark(results):
            out.print(remark)
        if results.differences:
            out.print(terminal_pairs(results))
        for said in not_compared(results):
            out.print(said, soft_wrap=True)
        if missing := len(results.missing):
            are = "is" if missing == 1 else "are"
            out.print(f"{missing} of the suite's runs {are} not in it; the report says why")
    else:
        out.print("no run is finished yet; the report says how far each is")
    out.print(f"report  {page}", soft_wrap=True)
