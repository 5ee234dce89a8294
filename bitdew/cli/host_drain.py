"""`bitdew host show`, `explain`, `drain` and `undrain`: one host, what is on it and why, and having it emptied."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.draining import Drain
from bitdew.core.errors import error
from bitdew.core.units import format_size, parse_duration

from . import names
from .options import Json, Profile, Url
from .output import Output, heading, table
from .running import ask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import DrainView

HostName = Annotated[
    str, typer.Argument(metavar="HOST", help="The host's name or id.", show_default=False, autocompletion=names.hosts)
]
Machines = Annotated[
    Drain,
    typer.Option(
        "--machines",
        help="keep: those that restart go on until another runs elsewhere, others to their end. stop: all stop now.",
    ),
]
LOOK_AGAIN: Final = 1.0
SHORT: Final = 8


def add_to(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    app.command("show", epilog="Example: bitdew host show pc-7")(show)
    app.command("explain", epilog="Example: bitdew host explain pc-7")(explain)
    app.command("drain", epilog="Example: bitdew host drain pc-7 --machines stop --wait")(drain)
    app.command("undrain", epilog="Example: bitdew host undrain pc-7")(undrain)


def show(name: HostName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Show one host: its state, what it lends and shares, and what it has."""
    host = ask(profile, url, lambda grid: grid.host(name))

    def shown() -> Iterator[object]:
        yield heading(f"{host.name} ({host.host})")
        rows = table("what", "value")
        drained = f", being emptied (machines: {host.drain})" if host.drain else ""
        rows.add_row("state", f"{host.state}{drained}")
        rows.add_row("last heard", "never" if host.last_seen is None else f"{host.last_seen:%Y-%m-%d %H:%M:%S} UTC")
        rows.add_row("swarm", host.swarm)
        rows.add_row("lends", f"{host.cpus} processors, {format_size(host.memory)} of memory")
        rows.add_row("storage", f"{format_size(host.used)} of {format_size(host.quota)} taken")
        rows.add_row("labels", ", ".join(f"{key}={value}" for key, value in sorted(host.labels.items())) or "none")
        rows.add_row("shares", ", ".join(f"{s.name} {s.version}".strip() for s in host.sharings) or "nothing")
        rows.add_row("has", f"{host.held} verified copies, {host.machines} machines")
        if host.unknown:
            rows.add_row("unknown", f"{len(host.unknown)} copies that the catalog does not know; they are kept")
        yield rows

    Output(as_json=as_json).document(host, shown)


def explain(name: HostName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Explain what is on a host: each copy and machine, and why it is there still or what comes next."""
    view = ask(profile, url, lambda grid: grid.draining(name))
    Output(as_json=as_json).document(view, lambda: [summary(view), *left(view)])


def drain(
    name: HostName,
    machines: Machines = Drain.KEEP,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until nothing is left on it.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="With --wait: how long at most: 10m, 2h.")
    ] = None,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Have a host emptied. It gets no new copies and machines, and those that it has are made elsewhere first.

    Until then its copies are read by others as before, and the last verified copy of anything stays. The host is
    drained until `undrain`, over restarts of the service and its own. Ctrl-C ends the waiting alone.
    """
    output = Output(as_json=as_json)
    seconds = None if timeout is None else parse_duration(timeout).total_seconds()

    async def work(grid: BitDew) -> DrainView:
        view = await grid.drain_host(name, machines)
        if not wait:
            return view
        return await emptied(output, lambda: grid.draining(name), seconds, done=lambda one: one.empty)

    view = ask(profile, url, work)
    Output(as_json=as_json).document(view, lambda: [summary(view), *([] if wait else left(view))])


def undrain(name: HostName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Let a host have copies and machines again. What went meanwhile comes back only as wishes ask for it."""
    view = ask(profile, url, lambda grid: grid.undrain_host(name))
    Output(as_json=as_json).document(view, lambda: [summary(view)])


async def emptied(
    output: Output,
    look: Callable[[], Awaitable[DrainView]],
    seconds: float | None,
    *,
    done: Callable[[DrainView], bool],
) -> DrainView:
    """What is on a host once `done` says so; how far it is and what keeps it is told on the way.

    Raises:
        UserError: `host.not-empty`, when `seconds` are over.
    """
    told, view = "", None
    try:
        async with asyncio.timeout(seconds):
            while True:
                view = await look()
                if told != (told := "\n".join([summary(view), *left(view, most=3)])):
                    output.remark(told)
                if done(view):
                    return view
                await asyncio.sleep(LOOK_AGAIN)
    except TimeoutError:
        what = "It is not known what is left" if view is None else summary(view)
        raise error("host.not-empty", f"The host is not empty yet: {what}", why="it stays drained") from None


def summary(view: DrainView) -> str:
    """What is on a host, in a sentence."""
    host = view.host
    state = f"{host.name} is {host.state}" + (f", to be emptied (machines: {host.drain})" if host.drain else "")
    if view.empty:
        return f"{state}; nothing is left on it."
    only = f", {view.only_here} of them nowhere else" if view.only_here else ""
    return f"{state}; {view.copies} copies ({format_size(view.size)}{only}) and {view.machines} machines are on it."


def left(view: DrainView, most: int = 100) -> Iterator[str]:
    """Each copy and machine on a host, with the reason."""
    for copy in view.left[:most]:
        only = ", nowhere else" if copy.only_here else ""
        yield f"  {copy.name} ({format_size(copy.size)}, {copy.state}{only}): {copy.reason}"
    for machine in view.left_machines[:most]:
        yield f"  machine {machine.uid[:SHORT]} from {machine.disk}: {machine.reason or machine.state}"
    more = view.copies - len(view.left[:most]) + view.machines - len(view.left_machines[:most])
    if more > 0:
        yield f"  and {more} more"
