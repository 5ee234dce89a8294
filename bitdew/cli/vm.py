"""`bitdew vm`: machines that run from disks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.errors import ERRORS
from bitdew.core.states import MACHINE, MachineState, PlacementState
from bitdew.core.units import format_size, parse_size

from .options import DiskName, Json, Profile, Uid, Url
from .output import Output, printable, table
from .running import ask
from .waiting import saying_why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import DeploymentView, MachineView

app = typer.Typer(help="Machines that run from disks.", no_args_is_help=True, rich_markup_mode=None)
SHORT: Final = 8
"""Digits of a uid that are shown: enough to name a machine by."""
LOOK_AGAIN: Final = 1.0
"""Seconds between two looks at machines that are waited for: there is no route that holds the answer open."""


@app.command("deploy", epilog="Example: bitdew vm deploy hep --count 2 --memory 512MB --wait")
def deploy(
    name: DiskName,
    count: Annotated[int, typer.Option("--count", min=1, help="How many machines.")] = 1,
    memory: Annotated[str, typer.Option("--memory", help="Memory of each: 256MB, 2GB.")] = "256MB",
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="Processors of each.")] = 1,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all of them run or have ended.")] = False,
    console: Annotated[bool, typer.Option("--console", help="Follow the console of the first one to its end.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Run machines from a disk, each on a host that holds it."""
    output = Output(as_json=as_json)
    size = parse_size(memory)

    async def work(grid: BitDew) -> DeploymentView:
        made = await grid.deploy(name, count, memory=size, cpus=cpus)
        if wait or console:
            output.remark(f"{count} machine(s) from {name} are asked for.")
        if not wait and not console:
            return made
        async with saying_why(output, lambda: _why_waiting(grid, made, size, cpus)) as moved:
            if console:
                await _follow(grid, made.machines[0].uid, output)
            settled = await _settled(grid, made, moved, ended=console and count == 1)
        return made.model_copy(update={"machines": settled})

    made = ask(profile, url, work)

    def shown() -> Iterator[object]:
        yield _rows(made.machines)
        if not wait and not console:
            yield f"See what becomes of them: bitdew vm ls, bitdew vm logs {made.machines[0].uid[:SHORT]} --follow"

    output.document(made, shown)
    if any(one.state is MachineState.FAILED for one in made.machines):
        raise typer.Exit(ERRORS["hypervisor.failed"].exit_code)


@app.command("ls", epilog="Example: bitdew vm ls")
def ls(profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """List the machines."""
    machines = ask(profile, url, lambda grid: grid.machines())

    def shown() -> Iterator[object]:
        yield _rows(machines) if machines else "There is no machine. Run one: bitdew vm deploy DISK"

    Output(as_json=as_json).document({"machines": [one.model_dump(mode="json") for one in machines]}, shown)


@app.command("logs", epilog="Example: bitdew vm logs 3fa9 --follow")
def logs(
    uid: Uid,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the machine has ended.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print what a machine wrote on its serial console."""
    output = Output(as_json=as_json)
    if follow:
        ask(profile, url, lambda grid: _follow(grid, uid, output))
        return
    reply = ask(profile, url, lambda grid: grid.console(uid))
    if as_json:
        output.line(reply)
    else:
        output.raw(reply.text)


@app.command("stop", epilog="Example: bitdew vm stop 3fa9")
def stop(uid: Uid, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Stop a machine. The disk that it runs from stays as it was."""
    machine = ask(profile, url, lambda grid: grid.stop_machine(uid))
    Output(as_json=as_json).document(machine, lambda: [_rows([machine])])


async def _follow(grid: BitDew, uid: str, output: Output) -> None:
    async for part in grid.follow_console(uid):
        if output.as_json:
            output.line(part)
        else:
            output.raw(part.text)


async def _settled(grid: BitDew, made: DeploymentView, moved: Callable[[], None], *, ended: bool) -> list[MachineView]:
    """The deployment's machines once each runs or has ended; with `ended`, once each has ended."""
    enough = MACHINE.ends() if ended else MACHINE.ends() | {MachineState.RUNNING}
    ours = {one.uid for one in made.machines}
    seen: list[MachineState] = []
    while True:
        machines = [one for one in await grid.machines() if one.uid in ours]
        if seen != (seen := [one.state for one in machines]):
            moved()
        if all(one.state in enough for one in machines):
            return machines
        await asyncio.sleep(LOOK_AGAIN)


async def _why_waiting(grid: BitDew, made: DeploymentView, memory: int, cpus: int) -> list[str]:
    """What the machines that no host has yet ask for, and what each holder of their disk has."""
    ours = {one.uid for one in made.machines}
    waiting = sum(one.uid in ours and one.state is MachineState.REQUESTED for one in await grid.machines())
    if not waiting:
        return []
    copies = (await grid.where(made.disk)).placements
    holders = {one.host for one in copies if one.state is PlacementState.HELD}
    asked = f"{format_size(memory)} of memory and {cpus} processor(s)"
    lines = [f"{waiting} machine(s) wait for a host that holds {made.disk}, has {asked} free and shares a hypervisor."]
    for host in await grid.hosts():
        if host.host in holders:
            lends = f"lends {format_size(host.memory)} and {host.cpus} processor(s), runs {host.machines} machine(s)"
            shares = ", ".join(one.name for one in host.sharings) or "nothing"
            lines.append(f"  {host.name}: {host.state}, {lends}, shares {shares}")
    if not holders:
        lines.append(f"  No host holds it yet: bitdew explain {made.disk}")
    return lines


def _rows(machines: list[MachineView]) -> Table:
    rows = table("UID", "DISK", "HOST", "STATE", "HYPERVISOR", "SINCE (UTC)", "REASON")
    for one in machines:
        reason = f"{one.reason.message} ({one.reason.key})" if one.reason else printable(one.cause)
        since = f"{one.since:%Y-%m-%d %H:%M:%S}"
        rows.add_row(one.uid[:SHORT], one.disk, one.host_name, one.state, one.hypervisor, since, printable(reason))
    return rows
