"""The command `python -m bitdew.scheduler.simulate`: how the scheduler fares on a grid that is too large to be had.

Owns the options, what is printed where, and the exit code: 0, or 1 if a rule was broken, or 2 for wrong usage. What is
printed on stdout follows from the options alone; what the run cost this machine is told on stderr.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Self

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bitdew.core.attribute import Attribute
from bitdew.core.attribute_options import from_options
from bitdew.core.attribute_text import parse_line
from bitdew.core.errors import BitDewError, error
from bitdew.core.units import format_size, parse_size

from .simulation.churn import Availability
from .simulation.network import Faults
from .simulation.scenario import Options, Outcome, simulate

EXAMPLES: Final = """\b
Examples:
  python -m bitdew.scheduler.simulate --hosts 200 --data 100 --hours 24
  python -m bitdew.scheduler.simulate --churn 0.05 --replica 4 --ft --spread site
  python -m bitdew.scheduler.simulate --attr 'attr base = {replica=3, ft=true}' --attr 'attr more = {affinity=base-1}'
  python -m bitdew.scheduler.simulate --mass-loss 12:0.3 --loss 0.05 --json

\b
Options of an attribute, as everywhere (--replica, --ft, --requires, --spread, --distrib, --lifetime, --priority ...),
are those of all data; with --attr, given any number of times, each attribute has as many data, called NAME-1, NAME-2
and so on. Hosts have the labels site (site1 to site20) and os, and some of the sharings qemu, virtualbox and root."""
PATIENCE: Final = 1.0
"""Seconds after which a bar is shown."""

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog=EXAMPLES,
)
def run(
    context: typer.Context,
    hosts: Annotated[int, typer.Option(help="Hosts at the beginning.")] = 2000,
    data: Annotated[int, typer.Option(help="Data, all added at the beginning.")] = 500,
    hours: Annotated[float, typer.Option(help="Virtual hours.")] = 48,
    churn: Annotated[float, typer.Option(help="The part of the hosts that leave in an hour.")] = 0.01,
    absence: Annotated[float, typer.Option(help="Hours until one that left returns, on average.")] = 4,
    for_good: Annotated[float, typer.Option(help="Of those that leave, the part that never returns.")] = 0.2,
    wiped: Annotated[float, typer.Option(help="Of those that return, the part whose disk is empty.")] = 0.1,
    attr: Annotated[list[str] | None, typer.Option(help="An attribute in one line. Repeatable.")] = None,
    size: Annotated[str, typer.Option(help="Size of a datum, on average.")] = "2GB",
    quota: Annotated[str, typer.Option(help="Quota of a host, on average.")] = "50GB",
    loss: Annotated[float, typer.Option(help="The part of the replies to hosts that are lost.")] = 0,
    repeat: Annotated[float, typer.Option(help="The part of them that arrive twice.")] = 0,
    reorder: Annotated[float, typer.Option(help="The part of them that arrive late, after others.")] = 0,
    mass_loss: Annotated[str, typer.Option(metavar="HOUR:PART", help="At that hour, so many are gone at once.")] = "",
    seed: Annotated[int, typer.Option(help="Where chance begins: the same seed, the same report.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Simulate a grid: the real catalog and scheduler on a real database, in virtual time, with hosts that are played.

    Reports how long repairs took, what was moved, copies missing and too many, and every breach of the rules that must
    always hold. The exit code is 1 if there was one.
    """
    options = Options(
        hosts=hosts,
        data=data,
        hours=hours,
        availability=Availability(churn, absence, for_good, wiped),
        attributes=_attributes(attr or [], context.args),
        size=parse_size(size),
        quota=parse_size(quota),
        faults=Faults(loss, repeat, reorder),
        mass_loss=_mass_loss(mass_loss),
        seed=seed,
    )
    defects: list[str] = []
    structlog.configure(processors=[_keep_errors(defects)])
    try:
        outcome = _play(options)
    finally:
        structlog.reset_defaults()
    violations = [*outcome.violations, *(f"a defect: {defect}" for defect in defects)]
    outcome.report["violations"] |= {"a defect": len(defects)} if defects else {}
    if as_json:
        sys.stdout.write(json.dumps(outcome.report) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _lines(outcome.report))
    for violation in violations[:20]:
        sys.stderr.write(f"Violation: {violation}\n")
    cost = f"{outcome.cost:.3f} s of processor time for each virtual hour"
    sys.stderr.write(f"Planning took {cost}; the whole run took {outcome.seconds:.1f} s.\n")
    if violations:
        raise typer.Exit(1)


# Reading options ------------------------------------------------------------------------------------------------------


def _attributes(lines: Sequence[str], options: Sequence[str]) -> dict[str, Attribute]:
    if lines and options:
        why = f"{options[0]} stands beside --attr"
        raise error("input.invalid", "Wishes are given as options or with --attr, not both", why=why)
    if not lines:
        wished = from_options(options) if options else Attribute(replica=3, fault_tolerance=True)
        return {"data": wished}
    named = [parse_line(line) for line in lines]
    if len(dict(named)) < len(named):
        raise error("input.invalid", "Two attributes have the same name", do="Give each --attr a name of its own.")
    return dict(named)


def _mass_loss(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    hour, _, part = text.partition(":")
    try:
        return float(hour.removesuffix("h")), float(part)
    except ValueError:
        do = "Write it like 12:0.3: at the twelfth hour, three in ten."
        raise error("input.invalid", f"--mass-loss can't be {text[:40]!r}", do=do) from None


# Playing --------------------------------------------------------------------------------------------------------------


def _play(options: Options) -> Outcome:
    memory = Path("/dev/shm")  # noqa: S108 (the folder is made under a name of its own, for its owner alone)
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="bitdew-simulated-", dir=where) as folder, _Bar() as bar:
        return asyncio.run(simulate(options, Path(folder), bar.passed))


class _Bar:
    """A bar on stderr, for whoever waits longer than a second; a line now and then where nobody watches."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, highlight=False)
        self._bars = Progress(
            TextColumn("simulating"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._bar = self._bars.add_task("", total=1.0)
        self._began = time.monotonic()
        self._shown = False
        self._said = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._bars.stop()

    def passed(self, part: float) -> None:
        """So much of the time is over."""
        if time.monotonic() - self._began < PATIENCE:
            return
        if self._console.is_terminal:
            if not self._shown:
                self._shown = True
                self._bars.start()
            self._bars.update(self._bar, completed=part)
        elif (quarter := int(4 * part)) > self._said:
            self._said = quarter
            self._console.print(f"simulating: {25 * quarter} %")


def _keep_errors(
    defects: list[str],
) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    """A log that keeps what is a defect and forgets the rest."""

    def process(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method in {"error", "exception", "critical"}:
            defects.append(", ".join(f"{key}={value}" for key, value in event.items()))
        raise structlog.DropEvent

    return process


# Printing -------------------------------------------------------------------------------------------------------------


def _lines(report: dict[str, Any]) -> Iterable[str]:
    hosts, data, moved = report["hosts"], report["data"], report["bytes"]
    options, hours = report["options"], report["copy-hours"]
    yield f"Seed {options['seed']}, {options['hours']:g} virtual hours"
    yield f"Hosts           {hosts['at the end']} at the end of {hosts['ever']} ever; {hosts['departures']} departures,"
    yield f"                {hosts['disks lost']} disks lost"
    yield f"Data            {data['alive']} alive, {data['ended']} ended"
    yield f"Time to place   {_times(report['time to place'])}"
    yield f"Time to repair  {_times(report['time to repair'])}"
    each = format_size(moved["for each datum"])
    yield f"Moved           {format_size(moved['moved'])} in all, {each} for each datum; {moved['overhead']:+.1%} over"
    yield f"                the {format_size(moved['least'])} of the copies that are wanted"
    yield f"Copy-hours      {hours['missing']:.2f} missing, {hours['surplus']:.2f} too many"
    orders = ", ".join(f"{count} {kind}" for kind, count in report["orders"].items())
    yield f"Orders          {orders}; in {report['rounds']} rounds"
    for reason, count in report["short at the end"].items():
        yield f"Short           {count}: {reason}"
    yield f"Violations      {sum(report['violations'].values())}"
    for rule, count in report["violations"].items():
        yield f"                {count}: {rule}"


def _times(figures: dict[str, Any]) -> str:
    spread = ", ".join(f"{name} {_duration(figures[name])}" for name in ("median", "p95", "max"))
    return f"{spread} ({figures['count']} times; {figures['unfinished']} unfinished)"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


# Ending ---------------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` spell; its exit code."""
    return carried_out(app, "python -m bitdew.scheduler.simulate", arguments)


def carried_out(command: typer.Typer, called: str, arguments: Sequence[str] | None) -> int:
    """Run a simulator's command, `called` so, and say what is wrong as all commands do; its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        ended = command(args=given, prog_name=called, standalone_mode=False)
    except BitDewError as fault:
        return _tell(fault, as_json="--json" in given)
    except KeyboardInterrupt:
        return _tell(error("interrupted", "The command was interrupted"), as_json="--json" in given)
    except Exception as fault:
        if not isinstance(fault, typer.BadParameter.__bases__):  # what is wrong usage: typer exports one kind only
            raise
        shown = getattr(fault, "format_message", fault.__str__)()
        do = f"See what it takes: {called} --help"
        return _tell(error("input.invalid", str(shown).rstrip("."), do=do), as_json="--json" in given)
    return ended if isinstance(ended, int) else 0


def _tell(fault: BitDewError, *, as_json: bool) -> int:
    if as_json:
        told = {"key": fault.key, "message": fault.message, "why": fault.why, "do": fault.do}
        sys.stdout.write(json.dumps({"error": told}) + "\n")
    else:
        lines = [f"Error: {fault.message}", *([f"  Why: {fault.why}"] if fault.why else [])]
        sys.stderr.write("\n".join([*lines, f"  Do:  {fault.do}", f"  Key: {fault.key}"]) + "\n")
    return fault.kind.exit_code


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets must not differ from run to run
        os.execve(sys.executable, sys.orig_argv, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606
    sys.exit(main())
