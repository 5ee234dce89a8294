"""`bitdew vm drain`: machines that end once the jobs in them are done, and the wait for that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.errors import BitDewError, error
from bitdew.core.states import MACHINE
from bitdew.core.units import parse_duration

from .options import Json, Profile, Url
from .output import Output
from .running import ask
from .vm_deployments import SHORT, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import MachineView

LOOK_AGAIN: Final = 1.0


def register(app: typer.Typer) -> None:
    """Add the command to `bitdew vm`."""
    app.command("drain", epilog="Example: bitdew vm drain 71c0 --wait")(drain)


def drain(
    uid: Annotated[
        str, typer.Argument(metavar="[UID]", help="A deployment or a machine: its id, or the first digits.")
    ] = "",
    host: Annotated[str, typer.Option("--host", metavar="NAME", help="All of your machines on this host.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all of them have ended.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="With --wait: how long at most: 10m, 2h.")
    ] = None,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Have machines end once the jobs in them are done: a deployment's, one, or all on a host.

    No job begins in them any more, and none takes their place. A machine ends as soon as no job runs in it and nothing
    is held by it alone; one without a worker inside ends at once. `vm scale` brings new machines. To have a host's
    machines and copies elsewhere first: `host drain`.
    """
    if bool(uid) == bool(host):
        raise error("input.invalid", "One of UID and --host is needed", do="bitdew vm drain 71c0")
    output = Output(as_json=as_json)
    seconds = None if timeout is None else parse_duration(timeout).total_seconds()

    async def work(grid: BitDew) -> list[MachineView]:
        machines = await _drained(grid, uid, host)
        return await _ended(grid, machines, output, seconds) if wait else machines

    from .documents import MachinesDrained

    machines = ask(profile, url, work)
    document = MachinesDrained(machines=machines)
    output.document(document, lambda: [rows_of(machines) if machines else "No machine had to be drained."])


async def _drained(grid: BitDew, uid: str, host: str) -> list[MachineView]:
    """Have them drained; those that drain."""
    if host:
        return await grid.drain_machines_on(host)
    try:
        return [await grid.drain_machine(uid)]
    except BitDewError as fault:
        if fault.key != "machine.not-found":
            raise
    made = await grid.drain_deployment(uid)
    return [one for one in await grid.machines(made.uid) if one.state not in MACHINE.ends()]


async def _ended(
    grid: BitDew, machines: Sequence[MachineView], output: Output, seconds: float | None
) -> list[MachineView]:
    """The machines once all have ended; how many are left, and what they wait for, is told on the way.

    Raises:
        UserError: `machine.not-ended`, when `seconds` are over.
    """
    left, told = {one.uid: one for one in machines}, ""
    ended: list[MachineView] = []
    try:
        async with asyncio.timeout(seconds):
            while left:
                for one in [await grid.machine(uid) for uid in left]:
                    if one.state in MACHINE.ends():
                        ended.append(one)
                        del left[one.uid]
                if left and told != (told := "\n".join(await _waiting(grid, list(left.values())))):
                    output.remark(told)
                if left:
                    await asyncio.sleep(LOOK_AGAIN)
    except TimeoutError:
        why = f"{len(left)} of {len(machines)} go on, and still drain"
        raise error("machine.not-ended", "Not all of the machines have ended yet", why=why) from None
    return ended


async def _waiting(grid: BitDew, left: Sequence[MachineView]) -> list[str]:
    lines = [f"{len(left)} machine(s) have not ended."]
    ours = {one.uid[:SHORT] for one in left}
    for deployment in sorted({one.deployment for one in left}):
        said = (await grid.explain_deployment(deployment)).machines
        lines += [f"  {line}" for line in said if line[:SHORT] in ours]
    return lines
