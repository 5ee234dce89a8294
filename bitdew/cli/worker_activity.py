"""`bitdew worker pause`, `resume`, `status` and `rules`: the owner's word, what the worker does, and when it works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from bitdew.core.errors import error
from bitdew.core.units import format_size, parse_duration, parse_size

from .options import Home, Json, worker_home
from .output import Output, heading, table
from .running import run
from .worker_bridge import listeners_table

if TYPE_CHECKING:
    from bitdew.worker.activity.rules import Rules
    from bitdew.worker.limits import LimitsView, Used
    from bitdew.worker.status import SeenView, StatusView

AGAIN_SECONDS: Final = 1.0
_SHORT: Final = 8


def add_to(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    app.command("pause", epilog="Example: bitdew worker pause --for 2h")(pause)
    app.command("resume", epilog="Example: bitdew worker resume")(resume)
    app.command("status", epilog="Example: bitdew worker status --follow")(status)
    app.command("rules", epilog="Example: bitdew worker rules --when idle --schedule 'mon-fri 20:00-07:00'")(rules)


def pause(
    for_: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="How long: 30m, 2h; until `resume` by default.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Leave this host to its owner: machines pause at once, and nothing is sent or received by swarm.

    Machines keep their memory and go on where they were. The pause holds over restarts of the worker.
    """
    from bitdew.worker.activity.guard import LONGEST_PAUSE
    from bitdew.worker.status import pause as have_paused

    seconds = None if for_ is None else parse_duration(for_).total_seconds()
    if seconds is not None and not 0 < seconds <= LONGEST_PAUSE:
        raise error("input.invalid", f"A pause of {for_} is impossible", why="it lasts up to a year", field="for")
    view = run(have_paused(worker_home(home), seconds))
    Output(as_json=as_json).document(view, lambda: _verdict(view))


def resume(home: Home = None, as_json: Json = False) -> None:
    """Take a pause back. What the rules say holds all the same."""
    from bitdew.worker.status import resume as have_resumed

    view = run(have_resumed(worker_home(home)))
    Output(as_json=as_json).document(view, lambda: _verdict(view))


def status(
    home: Home = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show it again every second, until Ctrl-C; with --json a line each.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what this host's worker does, why not more, and what it uses of what it may."""
    from bitdew.worker.status import show_status

    folder, output = worker_home(home), Output(as_json=as_json)
    if follow:
        run(_follow(folder, output))
        return
    view = run(show_status(folder))
    output.document(view, lambda: _whole(view))


def rules(
    home: Home = None,
    when: Annotated[
        str | None,
        typer.Option(
            "--when", metavar="WHEN", help="always, idle (nobody touches it) or logged-out (nobody is on it)."
        ),
    ] = None,
    idle: Annotated[str | None, typer.Option("--idle", metavar="DURATION", help="How long idle is: 5m.")] = None,
    busy: Annotated[
        int | None,
        typer.Option("--busy", metavar="PERCENT", help="Pause while others use more processor; 0 for never."),
    ] = None,
    schedule: Annotated[
        list[str] | None,
        typer.Option("--schedule", metavar="HOURS", help="Work at these hours: 'mon-fri 20:00-07:00'; repeatable."),
    ] = None,
    any_time: Annotated[bool, typer.Option("--any-time", help="Take the schedule away.")] = False,
    battery: Annotated[bool | None, typer.Option("--battery/--no-battery", help="Run machines on battery.")] = None,
    metered: Annotated[
        bool | None, typer.Option("--metered/--no-metered", help="Use a network that is paid for by volume.")
    ] = None,
    swarms: Annotated[
        str | None,
        typer.Option("--swarms", metavar="WHAT", help="What swarms do while machines pause: free, capped or stopped."),
    ] = None,
    upload: Annotated[str | None, typer.Option("--upload", help="Bytes per second sent while capped: 256KB.")] = None,
    download: Annotated[str | None, typer.Option("--download", help="Bytes per second received while capped.")] = None,
    witness: Annotated[
        str | None,
        typer.Option(
            "--witness", metavar="FILE", help="A file that a program of yours touches at each input; '' for none."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show when this host works, or change it: at once if the worker runs, and for its next starts too."""
    from bitdew.meant import path_meant
    from bitdew.worker.adjusting import change_limits, show_limits

    from .worker_documents import WorkerRules

    if schedule and any_time:
        raise error(
            "input.invalid", "--any-time takes the schedule away, and goes without --schedule", field="any-time"
        )
    asked = {
        "when": when,
        "idle_minutes": None if idle is None else parse_duration(idle).total_seconds() / 60,
        "busy_percent": busy,
        "schedule": () if any_time else tuple(schedule) if schedule else None,
        "battery": battery,
        "metered": metered,
        "swarms": swarms,
        "upload": None if upload is None else parse_size(upload),
        "download": None if download is None else parse_size(download),
        "witness": None if witness is None else str(path_meant(witness)) if witness else "",
    }
    given = {name: value for name, value in asked.items() if value is not None}
    folder = worker_home(home)
    view = run(change_limits(folder, _change(given)) if given else show_limits(folder))
    document = WorkerRules(running=view.running, name=view.name, home=view.home, rules=view.activity)
    Output(as_json=as_json).document(document, lambda: _rules(view))


def _change(given: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from bitdew.worker.limits import ActivityChange, LimitsChange

    try:
        return LimitsChange(activity=ActivityChange(**given))
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        option = "--" + str(first["loc"][0]).split("_")[0]
        raise error("input.invalid", f"{option} is impossible", why=first["msg"], field=option) from None


async def _follow(folder: Path, output: Output) -> None:
    from rich.console import Group
    from rich.live import Live

    from bitdew.worker.status import show_status

    if output.as_json or not output.out.is_terminal:
        while True:
            view = await show_status(folder)
            output.document(view, lambda view=view: _whole(view))  # type: ignore[misc]
            await asyncio.sleep(AGAIN_SECONDS)
    with Live(console=output.out, auto_refresh=False) as live:
        while True:
            live.update(Group(*_whole(await show_status(folder))), refresh=True)
            await asyncio.sleep(AGAIN_SECONDS)


def _whole(view: StatusView) -> Iterator[Any]:
    whole = view.limits
    yield from _verdict(view)
    if seen := ", ".join(_seen(view.seen)):
        yield f"Seen here: {seen}."
    caps = table("", ">CAP", ">NOW")
    for name, used, rate in (("upload", whole.upload, "/s"), ("download", whole.download, "/s")):
        caps.add_row(name, f"{format_size(used.cap)}{rate}" if used.cap else "none", _size(used, rate))
    caps.add_row("quota", format_size(whole.quota.cap), _size(whole.quota))
    caps.add_row("machines", str(whole.machines.cap or "none"), _count(whole.machines))
    caps.add_row("jobs", str(whole.jobs_at_once.cap or "none"), _count(whole.jobs_at_once))
    caps.add_row("memory", format_size(whole.memory.cap), _size(whole.memory))
    caps.add_row("CPUs of all", str(whole.all_cpus.cap or "none"), _count(whole.all_cpus))
    yield caps
    for hypervisor, how in sorted(view.held.items()):
        yield f"Machines in {hypervisor}: {how}."
    if view.machines:
        yield heading("Machines")
        rows = table("UID", "DISK", "STATE", ">CPUS", ">MEMORY", ">GREW BY", "REASON")
        for one in view.machines:
            reason = f"{one.reason.message}: {one.reason.why}" if one.reason else ""
            memory, grown = format_size(one.memory), format_size(one.grown)
            rows.add_row(one.uid[:_SHORT], one.disk, one.state, str(one.cpus), memory, grown, reason)
        yield rows
    if view.machines_left_out:
        yield f"{view.machines_left_out} more machines are here."
    if view.bridges:
        yield heading("Told of copies")
        yield listeners_table(view.bridges)
    if whole.data:
        yield heading("Swarms")
        rows = table("NAME", ">UPLOAD", ">DOWNLOAD", ">CONNECTIONS")
        for datum in whole.data:
            rows.add_row(datum.name, _size(datum.upload, "/s"), _size(datum.download, "/s"), _count(datum.connections))
        yield rows


def _verdict(view: StatusView) -> Iterator[str]:
    name = view.limits.name
    if not view.running:
        word = "does not run"
        if view.paused:
            word += f", and starts paused{_until(view.paused_until)}"
        yield f"{name} {word}."
        return
    machines = "machines may run" if view.machines_may_run else "machines are paused"
    yield f"{name}: {machines}, swarms are {view.swarms}{_until(view.until)}."
    yield from (f"  {reason}" for reason in view.reasons)


def _until(instant: datetime | None) -> str:
    return f" until {instant.astimezone():%a %Y-%m-%d %H:%M}" if instant else ""


def _seen(seen: SeenView) -> Iterator[str]:
    if seen.idle_seconds is not None:
        yield f"last input {seen.idle_seconds:.0f} s ago"
    if seen.sessions is not None:
        yield f"{seen.sessions} session(s)"
    if seen.busy_percent is not None:
        yield f"others use {seen.busy_percent:g} % of the processors"
    if seen.on_battery is not None:
        yield "on battery" if seen.on_battery else "on mains"
    if seen.metered is not None:
        yield "a metered network" if seen.metered else "a network that is not metered"


def _rules(view: LimitsView) -> Iterator[str]:
    found: Rules = view.activity
    state = "runs" if view.running else "does not run; this holds from its next start on"
    yield f"{view.name} {state}."
    yield {
        "always": "Machines may run whoever uses the host.",
        "idle": f"Machines run when nobody has touched the host for {found.idle_minutes:g} minutes.",
        "logged-out": "Machines run when nobody is logged in.",
    }[found.when]
    if found.busy_percent:
        yield f"They pause while other programs use more than {found.busy_percent} % of the processors."
    yield f"Hours: {'; '.join(found.schedule) or 'any'}."
    yield f"On battery they {'run' if found.battery else 'pause'}."
    rates = f" ({_rate(found.upload)} up, {_rate(found.download)} down)" if found.swarms == "capped" else ""
    yield f"Meanwhile swarms are {found.swarms}{rates}."
    yield f"On a network that is paid for by volume swarms {'go on' if found.metered else 'stop'}."
    if found.witness:
        yield f"A sign of the owner is also a change of {found.witness}."


def _rate(cap: int) -> str:
    return f"{format_size(cap)}/s" if cap else "as usual"


def _size(used: Used, unit: str = "") -> str:
    return "-" if used.now is None else f"{format_size(used.now)}{unit}"


def _count(used: Used) -> str:
    return "-" if used.now is None else str(used.now)
