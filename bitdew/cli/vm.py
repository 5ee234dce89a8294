"""`bitdew vm`: machines that run from disks."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.errors import ERRORS, BitDewError, error
from bitdew.core.restarting import Restart
from bitdew.core.states import MACHINE, MachineState, PlacementState
from bitdew.core.units import format_size, parse_size
from bitdew.wire import limits

from . import vm_deployments, vm_drain, vm_errands
from .options import After, DiskName, Json, Limit, MachineOrDeployment, Profile, Uid, Url
from .output import Output
from .running import ask
from .vm_deployments import SHORT, rows_of
from .waiting import saying_why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import DeploymentView, MachineView

app = typer.Typer(help="Machines that run from disks.", no_args_is_help=True, rich_markup_mode=None)
vm_deployments.register(app)
vm_drain.register(app)
vm_errands.register(app)
LAST_PORT: Final = 65535
LOOK_AGAIN: Final = 1.0
"""Seconds between two looks at machines that are waited for: there is no route that holds the answer open."""


class NetworkKind(StrEnum):
    """What machines reach: nothing; or what their host reaches, behind its address."""

    NONE = "none"
    USER = "user"


@app.command("deploy", epilog="Example: bitdew vm deploy hep --count 2 --memory 512MB --wait")
def deploy(
    name: DiskName,
    count: Annotated[int, typer.Option("--count", min=1, help="How many machines.")] = 1,
    memory: Annotated[str, typer.Option("--memory", help="Memory of each: 256MB, 2GB.")] = "256MB",
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="Processors of each.")] = 1,
    restart: Annotated[Restart, typer.Option("--restart", help="Which machines another takes the place of.")] = (
        Restart.ON_FAILURE
    ),
    network: Annotated[
        NetworkKind, typer.Option("--network", help="user: each reaches what its host reaches, and can join this grid.")
    ] = NetworkKind.NONE,
    user_data: Annotated[
        Path | None, typer.Option("--user-data", help="A file that each is told; one that begins with #! is run.")
    ] = None,
    requires: Annotated[str, typer.Option("--requires", help="What their hosts have to be: 'site = orsay'.")] = "",
    port: Annotated[
        list[str] | None,
        typer.Option(
            "--port",
            metavar="[HOST:]GUEST",
            help="A TCP port of each, reached at one of its host's 127.0.0.1. May be given again.",
        ),
    ] = None,
    lifetime: Annotated[str, typer.Option("--lifetime", help="When they are stopped: 2h, 7d, 2026-12-31.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all of them run or have ended.")] = False,
    console: Annotated[bool, typer.Option("--console", help="Follow the console of the first one to its end.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Run machines from a disk, each on a host that holds it, and keep so many running.

    A machine whose host is lost is launched anew on another, and so is one that failed; with `--restart always` one
    that ended by itself too, with `never` none. Its place stays empty for 5 seconds, and twice as long each time.
    """
    output = Output(as_json=as_json)
    size, told, ports = parse_size(memory), _text_of(user_data), [_port_of(text) for text in port or ()]

    async def work(grid: BitDew) -> DeploymentView:
        made = await grid.deploy(
            name,
            count,
            memory=size,
            cpus=cpus,
            restart=restart,
            network=network.value,
            user_data=told,
            requires=requires,
            ports=ports,
            lifetime=lifetime,
        )
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
        yield rows_of(made.machines)
        if not wait and not console:
            yield f"See what becomes of them: bitdew vm ls, bitdew vm logs {made.machines[0].uid[:SHORT]} --follow"

    output.document(made, shown)
    if any(one.state is MachineState.FAILED for one in made.machines):
        raise typer.Exit(ERRORS["hypervisor.failed"].exit_code)


def _port_of(text: str) -> tuple[int, int]:
    """The host's port, 0 for any, and the machine's."""
    outer, colon, inner = text.rpartition(":")
    figures = [outer if colon else "0", inner]
    if not all(figure.isascii() and figure.isdecimal() and int(figure) <= LAST_PORT for figure in figures):
        raise error("input.invalid", f"{text[:40]!r} is no port", do="Write it like 22, or like 8022:22.")
    return int(figures[0]), int(figures[1])


def _text_of(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(limits.USER_DATA + 1)
    except (OSError, UnicodeDecodeError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "it is no text in UTF-8"
        raise error("input.invalid", f"{path} can't be told to machines", why=why or "", path=str(path)) from None


@app.command("ls", epilog="Example: bitdew vm ls --deployment 71c0 --limit 20")
def ls(
    deployment: Annotated[str, typer.Option("--deployment", metavar="UID", help="Only those of this one.")] = "",
    after: After = "",
    limit: Limit = 100,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the machines, those of the oldest deployment first."""
    page = ask(profile, url, lambda grid: grid.machine_page(deployment, after, limit))

    def shown() -> Iterator[object]:
        yield rows_of(page.machines) if page.machines else "There is no machine. Run one: bitdew vm deploy DISK"
        if page.next:
            same = f" --deployment {deployment}" if deployment else ""
            yield f"There are more: bitdew vm ls --after {page.next}{same}"

    Output(as_json=as_json).document(page, shown)


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
def stop(uid: MachineOrDeployment, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Stop a machine, or all of a deployment. None takes its place; the disk that it runs from stays as it was."""

    async def work(grid: BitDew) -> MachineView | DeploymentView:
        try:
            return await grid.stop_machine(uid)
        except BitDewError as fault:
            if fault.key != "machine.not-found":
                raise
        return await grid.scale(uid, 0)

    stopped = ask(profile, url, work)
    machines = getattr(stopped, "machines", [stopped])
    Output(as_json=as_json).document(stopped, lambda: [rows_of(machines)])


@app.command("rm", epilog="Example: bitdew vm rm 3fa9")
def rm(uid: MachineOrDeployment, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Forget a machine that has ended, or a deployment whose machines all have, with their snapshots.

    Without it they are forgotten after a week.
    """

    async def work(grid: BitDew) -> None:
        try:
            return await grid.remove_machine(uid)
        except BitDewError as fault:
            if fault.key != "machine.not-found":
                raise
        return await grid.remove_deployment(uid)

    from .documents import Removed

    ask(profile, url, work)
    Output(as_json=as_json).document(Removed(removed=uid), lambda: [f"{uid} is forgotten."])


async def _follow(grid: BitDew, uid: str, output: Output) -> None:
    async for part in grid.follow_console(uid):
        if output.as_json:
            output.line(part)
        else:
            output.raw(part.text)


async def _settled(grid: BitDew, made: DeploymentView, moved: Callable[[], None], *, ended: bool) -> list[MachineView]:
    """The deployment's machines once each runs or has ended; with `ended`, once each has ended."""
    enough = MACHINE.ends() if ended else MACHINE.ends() | {MachineState.RUNNING, MachineState.PAUSED}
    ours = {one.uid for one in await grid.machines(made.uid) if one.attempt == 1}
    seen: list[MachineState] = []
    while True:
        machines = [one for one in await grid.machines(made.uid) if one.uid in ours]
        if seen != (seen := [one.state for one in machines]):
            moved()
        if all(one.state in enough for one in machines):
            return machines
        await asyncio.sleep(LOOK_AGAIN)


async def _why_waiting(grid: BitDew, made: DeploymentView, memory: int, cpus: int) -> list[str]:
    """What the machines that no host has yet ask for, and what each holder of their disk has."""
    waiting = sum(one.state is MachineState.REQUESTED for one in await grid.machines(made.uid))
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
