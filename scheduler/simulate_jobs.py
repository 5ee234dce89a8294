"""The command `python -m bitdew.scheduler.simulate_jobs`: how jobs fare when users compete and hosts come and go.

Owns the options and what is printed; the exit code is 1 if a rule was broken. What is printed on stdout follows from
the options alone.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from bitdew.core.errors import error

from .simulate import carried_out
from .simulation.churn import Availability
from .simulation.identities import identities_from
from .simulation.job_grid import JobGrid, JobOptions
from .simulation.job_load import Load

EXAMPLES: Final = """\b
Examples:
  python -m bitdew.scheduler.simulate_jobs --hosts 20 --churn 0.1
  python -m bitdew.scheduler.simulate_jobs --user 'many at_once=2000 minutes=2' --user 'few hourly=6 minutes=10'
  python -m bitdew.scheduler.simulate_jobs --user 'a at_once=50 replicas=3' --lying 0.1 --json

\b
A user is a name and what is asked for: at_once (jobs of one array), hourly, minutes (that one runs, on average), cpus,
replicas, attempts, failing (part), urgent (part that has priority), standing (at most so many at a time), begins, ends
(hours)."""
USERS: Final = (
    "burst at_once=2000 minutes=3",
    "steady hourly=60 minutes=10",
    "light hourly=4 minutes=5",
    "large hourly=6 minutes=30 cpus=4",
    "careful hourly=6 minutes=10 replicas=3",
    "failing hourly=20 minutes=5 failing=0.3",
    "stream hourly=120 minutes=2 standing=8",
)
_WHOLE: Final = frozenset({"at_once", "cpus", "replicas", "attempts", "standing"})
_KEYS: Final = tuple(one.name for one in fields(Load) if one.name not in {"name", "memory"})

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(epilog=EXAMPLES)
def run(
    hosts: Annotated[int, typer.Option(min=1, max=10_000, help="Hosts, of 2 to 8 processors.")] = 20,
    user: Annotated[list[str] | None, typer.Option(help="A user and the jobs asked for. Repeatable.")] = None,
    hours: Annotated[float, typer.Option(min=0.1, help="Virtual hours at most; it ends when no job is left.")] = 72,
    churn: Annotated[float, typer.Option(min=0, help="The part of the hosts that leave in an hour.")] = 0.05,
    absence: Annotated[float, typer.Option(min=0.01, help="Hours until one returns, on average.")] = 1,
    lying: Annotated[float, typer.Option(min=0, max=1, help="The part of the hosts that claim wrong results.")] = 0,
    seed: Annotated[int, typer.Option(help="Where chance begins: the same seed, the same report.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Simulate jobs: the scheduler's own matching and judging, in virtual time, with users and hosts that are played.

    Reports how long each user's jobs waited and how evenly processors were shared while several waited.
    """
    loads = [load_of(text) for text in user or USERS]
    if len({load.name for load in loads}) < len(loads):
        raise error("input.invalid", "Two users have the same name", do="Give each --user a name of its own.")
    options = JobOptions(hosts, loads, Availability(churn, absence), hours, lying, seed)
    with identities_from(random.Random(seed)):  # noqa: S311 (nothing is kept secret by it)
        grid = JobGrid(options)
        grid.play()
    report = {"seed": seed, "hosts": hosts, **grid.figures.report(), "violations": len(grid.violations)}
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _print(report)
    for violation in sorted(set(grid.violations))[:20]:
        sys.stderr.write(f"Violation: {violation}\n")
    if grid.violations:
        raise typer.Exit(1)


def load_of(text: str) -> Load:
    """The user that a text describes.

    Raises:
        UserError: `input.invalid`.
    """
    name, *words = text.split()
    said: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        try:
            said[key] = int(value) if key in _WHOLE else float(value)
        except ValueError:
            key = ""
        if key not in _KEYS or not 0 <= said[key] <= 1e6:
            do = f"Write it like 'anna at_once=100 minutes=5'. The keys are {', '.join(_KEYS)}."
            raise error("input.invalid", f"{word[:60]!r} says nothing of a user's jobs", do=do)
    return Load(name=name, **said)


def _print(report: dict[str, Any]) -> None:
    console = Console(markup=False, highlight=False, width=100)
    evenness = "-" if report["evenness"] is None else f"{report['evenness']:.2f}"
    for line in (
        f"Seed {report['seed']}, {report['hosts']} hosts, {report['hours']:.1f} virtual hours",
        f"{report['departures']} departures, {report['runs lost']} runs lost with their host",
        f"{report['processor hours']:.0f} processor hours, of {report['contested hours']:.1f} hours users competed",
        f"Evenness while they competed (Jain): {evenness}",
    ):
        console.print(line)
    table = Table("user", "jobs", "done", "failed", "runs", "wait: median", "p95", "max", "processors", box=None)
    for name, its in report["users"].items():
        share = its["processors while contested"]
        table.add_row(name, *_counts(its), *_waits(its["wait"]), "-" if share is None else f"{share:.1f}")
    console.print(table)
    console.print(f"Violations: {report['violations']}")


def _counts(its: dict[str, Any]) -> Iterable[str]:
    return (str(its[key]) for key in ("jobs", "done", "failed", "runs"))


def _waits(wait: dict[str, float] | None) -> Iterable[str]:
    for key in ("median", "p95", "max"):
        if wait is None:
            yield "-"
        else:
            minutes, seconds = divmod(round(wait[key]), 60)
            yield f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` spell; its exit code."""
    return carried_out(app, "python -m bitdew.scheduler.simulate_jobs", arguments)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets must not differ from run to run
        os.execve(sys.executable, sys.orig_argv, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606
    sys.exit(main())
