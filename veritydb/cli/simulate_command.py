"""``veritydb simulate``: run the replication protocol in an imaginary world, and try to break it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veritydb.cli.exits import Exit
from veritydb.cli.options import Json
from veritydb.cli.output import count_text, printable, progress_bar, write_fields, write_json
from veritydb.errors import ConfigurationError

if TYPE_CHECKING:
    from veritydb.simulation.campaign import Total
    from veritydb.simulation.run import Result
    from veritydb.simulation.scenario import Scenario

_SECOND = 1_000_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "simulate",
        epilog=(
            "veritydb simulate --seed 7                    one run\n\n"
            "veritydb simulate --seed 7 --html run.html    a picture of it\n\n"
            "veritydb simulate --seed 7 --trace            every event and effect, as text\n\n"
            "veritydb simulate --runs 1000 --jobs 4        many\n\n"
            "Exit codes: 0 all promises held, 1 one was broken."
        ),
    )(simulate_command)


def simulate_command(
    seed: Annotated[
        int | None, typer.Option("--seed", help="The run, or the first of the runs. Default: drawn by chance.")
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="How many seeds, one after the other.")] = 1,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes that share the runs.")] = 1,
    trace: Annotated[bool, typer.Option("--trace", help="Write everything that happens, one line each.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write the run as a picture into this file.")] = None,
    shrink: Annotated[
        bool, typer.Option("--shrink/--no-shrink", help="Look for a smaller run that breaks the same promise.")
    ] = True,
    json: Json = False,
) -> None:
    """Run a group of imaginary nodes while disks, networks, clocks and processes fail, and check every promise.

    One seed decides everything, so a run can be had again. The code that runs is the one that real nodes run.
    """
    if runs > 1 and (trace or html is not None):
        raise ConfigurationError("--trace and --html show one run; name it by --seed and leave --runs away")
    first = int.from_bytes(os.urandom(5), "little") if seed is None else seed
    if runs == 1:
        _one(first, trace=trace, html=html, shrinking=shrink, as_json=json)
    else:
        _many(first, runs, jobs, shrinking=shrink, as_json=json)


def _one(seed: int, *, trace: bool, html: Path | None, shrinking: bool, as_json: bool) -> None:
    from veritydb.simulation.diagram import Recorder, page
    from veritydb.simulation.run import Run
    from veritydb.simulation.scenario import draw
    from veritydb.simulation.telling import Telling

    scenario = draw(seed)
    if html is not None:
        recorder = Recorder()
        run = Run(scenario, story=recorder)
        recorder.world = run.world
        result = run.run()
        html.write_text(page(recorder, result), encoding="utf-8")
    else:
        result = Run(scenario, story=Telling(typer.echo) if trace else None).run()
    if as_json:
        write_json(_document(result))
    else:
        _show(scenario, result)
        if result.failure is not None and shrinking:
            _shrink(result)
    if result.failure is not None:
        raise typer.Exit(Exit.PROBLEM)


def _many(first: int, runs: int, jobs: int, *, shrinking: bool, as_json: bool) -> None:
    from veritydb.simulation.campaign import NOTHING, add, run_seeds

    total = NOTHING
    begun = time.monotonic()
    with progress_bar() as progress:
        for result, cpu in run_seeds(range(first, first + runs), jobs=jobs):
            total = add(total, result, cpu)
            progress(f"seeds, {len(total.failures)} broken", total.runs, runs)
    if as_json:
        write_json({"runs": total.runs, "useful": total.useful, "ops": total.ops, "cpu": round(total.cpu, 1),
                    "failures": [_document(result) for result in total.failures]})  # fmt: skip
    else:
        _show_total(first, total, time.monotonic() - begun)
        for result in total.failures[:10]:
            typer.echo(f"\nseed {result.seed}: {printable(str(result.failure))}")
            typer.echo(f"  again: veritydb simulate --seed {result.seed} --trace")
        if total.failures and shrinking:
            _shrink(total.failures[0])
    if total.failures:
        raise typer.Exit(Exit.PROBLEM)


def _document(result: Result) -> dict[str, object]:
    failure = result.failure
    return {
        "seed": result.seed,
        "rule": None if failure is None else failure.rule,
        "facts": None if failure is None else failure.facts,
        "ops": result.ops,
        "faults": result.kinds,
        "reached": result.marks,
        "steps": result.steps,
        "virtual_seconds": result.virtual / _SECOND,
        "trace": result.trace,
    }


def _show(scenario: Scenario, result: Result) -> None:
    failure = result.failure
    write_fields(
        {
            "seed": result.seed,
            "verdict": "every promise held" if failure is None else f"BROKEN: {failure}",
            "members": scenario.members,
            "committed": count_text(result.ops, "op"),
            "answers": f"{result.answers:,}",
            "faults": ", ".join(f"{kind} {count}" for kind, count in result.kinds.items()),
            "reached": ", ".join(f"{mark} {count}" for mark, count in result.marks.items()) or None,
            "time": f"{result.virtual / _SECOND:.1f} s in the world, {count_text(result.steps, 'step')}",
            "trace": result.trace,
        },
        good=failure is None,
    )


def _show_total(first: int, total: Total, seconds: float) -> None:
    failed = len(total.failures)
    write_fields(
        {
            "seeds": f"{first} to {first + total.runs - 1}",
            "verdict": "every promise held in every run" if not failed else f"BROKEN in {count_text(failed, 'run')}",
            "useful": f"{count_text(total.useful, 'run')} with at least 200 ops and 5 kinds of fault",
            "committed": count_text(total.ops, "op"),
            "steps": f"{total.steps:,}",
            "world": f"{total.virtual / _SECOND / 3600:.1f} hours",
            "speed": f"{total.per_minute:.0f} useful seeds per minute and core; {seconds:.0f} s in all",
            "faults": ", ".join(f"{kind} {count}" for kind, count in sorted(total.kinds.items())),
            "reached": ", ".join(f"{mark} {count}" for mark, count in sorted(total.marks.items())) or None,
        },
        good=not failed,
    )


def _shrink(result: Result) -> None:
    from veritydb.simulation.scenario import draw
    from veritydb.simulation.shrinking import shrink, story

    assert result.failure is not None
    typer.echo(f"\nLooking for a smaller run than seed {result.seed} ...", err=True)
    small = shrink(draw(result.seed), result.failure)
    for line in _told(story(small)):
        typer.echo(line)


def _told(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield printable(line)
