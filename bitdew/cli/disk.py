"""`bitdew disk`: disk images, and where their copies are."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bitdew.core.units import format_size, parse_size

from .disk_views import explained, one_disk, placements, summary
from .options import DiskName, Json, Profile, Url
from .output import Output, table
from .running import ask
from .waiting import saying_why

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import DiskView, WhereReply

app = typer.Typer(help="Disks: images of VMs, and where their copies are.", no_args_is_help=True, rich_markup_mode=None)

MOST_REFUSALS: Final = 10
"""Hosts named by a command that waits; `disk explain` names all."""


@app.command("make", epilog='Example: bitdew disk make hello.raw --line "hello from a volunteer" --size 64MB')
def make(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)],
    line: Annotated[str, typer.Option("--line", help="What the machine writes on its console.")] = "hello from BitDew",
    size: Annotated[str, typer.Option("--size", help="The disk's size: 64MB, 1GB.")] = "64MB",
    stay: Annotated[bool, typer.Option("--stay", help="Stay on after the line, instead of powering off.")] = False,
    as_json: Json = False,
) -> None:
    """Make a tiny bootable disk that writes a line on its serial console: something to try a grid with."""
    from bitdew.bootdisk import write_boot_disk

    output = Output(as_json=as_json)
    total = parse_size(size)
    with output.progress(f"Writing {file}") as report:
        write_boot_disk(file, line=line, size=total, power_off=not stay, progress=lambda done: report(done, total))
    about = {"file": str(file), "size": total, "line": line, "stays": stay}
    output.document(about, lambda: [f"{file} has {format_size(total)}. Add it: bitdew disk add {file} --name NAME"])


@app.command("add", epilog="Example: bitdew disk add hep.raw --name hep --replica 3 --ft --requires 'sharing=qemu'")
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A raw disk image.", show_default=False, readable=False)],
    name: Annotated[str, typer.Option("--name", help="What to call the disk.", show_default=False)],
    replica: Annotated[int, typer.Option("--replica", help="Verified copies wanted; -1 on every eligible host.")] = 1,
    fault_tolerance: Annotated[
        bool, typer.Option("--ft", help="Make copies again elsewhere when their hosts are lost.")
    ] = False,
    requires: Annotated[str, typer.Option("--requires", help="Which hosts are eligible.", show_default=False)] = "",
    priority: Annotated[int, typer.Option("--priority", help="Which disk is placed first: the higher.")] = 0,
    system: Annotated[str, typer.Option("--os", help="What boots from it, in words.", show_default=False)] = "",
    arch: Annotated[str, typer.Option("--arch", help="The machine that it is made for.")] = "x86_64",
    version: Annotated[str, typer.Option("--version", help="Your version of this disk.")] = "1",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all copies are held.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Add a disk: sign it, store it in the repository, and have copies placed."""
    from bitdew.core.attribute import Attribute
    from bitdew.core.requirement import Requirement

    output = Output(as_json=as_json)
    attribute = Attribute(replica, fault_tolerance, Requirement(requires), priority)

    async def work(grid: BitDew) -> tuple[DiskView, WhereReply | None]:
        with output.progress(f"Adding {name}") as report:
            disk = await grid.add_disk(file, name, attribute, os=system, arch=arch, version=version, progress=report)
        return disk, await _placed(grid, name, output) if wait else None

    disk, where = ask(profile, url, work)
    document = (where.disk if where else disk).model_dump(mode="json")
    if where:
        document["placements"] = [one.model_dump(mode="json") for one in where.placements]

    def shown() -> Iterator[object]:
        yield f"{disk.name} is in the repository: {format_size(disk.size)}, root {disk.root}"
        yield placements(where) if where else f"Follow its copies: bitdew disk where {disk.name} --watch"

    output.document(document, shown)


@app.command("ls", epilog="Example: bitdew disk ls")
def ls(profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """List the disks, with how many of the wanted copies are held."""
    disks = ask(profile, url, lambda grid: grid.disks())

    def shown() -> Iterator[object]:
        rows = table("NAME", ">SIZE", ">HELD", ">WANTED", "OS", "ARCH", "VERSION", "PUBLISHER", "CREATED (UTC)")
        for one in disks:
            about = (one.os, one.arch, one.version, one.publisher, f"{one.created:%Y-%m-%d %H:%M}")
            rows.add_row(one.name, format_size(one.size), str(one.held), _wanted(one), *about)
        yield rows if disks else "There is no disk. Add one: bitdew disk add FILE --name NAME"
        for one in disks:
            if one.damaged:
                yield f"The repository's own copy of {one.name} is damaged: add the original file again."

    Output(as_json=as_json).document({"disks": [one.model_dump(mode="json") for one in disks]}, shown)


@app.command("show", epilog="Example: bitdew disk show hep")
def show(name: DiskName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Show one disk: its record, its wishes and its copies' number."""
    disk = ask(profile, url, lambda grid: grid.disk(name))
    Output(as_json=as_json).document(disk, lambda: [one_disk(disk)])


@app.command("where", epilog="Example: bitdew disk where hep --watch")
def where(
    name: DiskName,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and show each change until Ctrl-C.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show where a disk's copies are, and how they came there."""
    output = Output(as_json=as_json)
    if watch:
        ask(profile, url, lambda grid: _watched(grid, name, output))
        return
    reply = ask(profile, url, lambda grid: grid.where(name))
    output.document(reply, lambda: [summary(reply), placements(reply)])


@app.command("explain", epilog="Example: bitdew disk explain hep")
def explain(name: DiskName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Explain a disk's copies: wanted, held, missing, why each host was chosen or refused, what happens next."""
    reply = ask(profile, url, lambda grid: grid.explain(name))
    Output(as_json=as_json).document(reply, lambda: explained(reply))


@app.command("rm", epilog="Example: bitdew disk rm hep")
def rm(name: DiskName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Remove a disk: its copies are dropped everywhere."""
    ask(profile, url, lambda grid: grid.remove_disk(name))
    Output(as_json=as_json).document({"removed": name}, lambda: [f"{name} is removed; hosts drop their copies."])


def _wanted(disk: DiskView) -> str:
    return "all" if disk.wanted < 0 else str(disk.wanted)


async def _watched(grid: BitDew, name: str, output: Output) -> None:
    from rich.live import Live

    if output.as_json:
        async for reply in grid.watch(name):
            output.line(reply)
    elif not output.out.is_terminal:
        async for reply in grid.watch(name):
            output.show(summary(reply))
            output.show(placements(reply))
    else:
        with Live(console=output.out, auto_refresh=False) as live:
            async for reply in grid.watch(name):
                live.update(placements(reply, title=summary(reply)), refresh=True)


async def _placed(grid: BitDew, name: str, output: Output) -> WhereReply:
    """Wait until as many copies are held as are wanted; for "everywhere", until nothing is missing."""
    waits = saying_why(output, lambda: _why_missing(grid, name))
    with output.progress(f"Placing {name}") as report:
        async with waits as moved:
            return await _all_held(grid, name, report, moved)


async def _all_held(
    grid: BitDew, name: str, report: Callable[[int, int], None], moved: Callable[[], None]
) -> WhereReply:
    async with contextlib.aclosing(grid.watch(name)) as replies:
        async for reply in replies:
            moved()
            disk = reply.disk
            wanted = disk.wanted if disk.wanted >= 0 else max(1, len(reply.placements))
            done = sum(min(one.done, disk.size) for one in reply.placements)
            report(min(done, wanted * disk.size), wanted * disk.size)
            if disk.held >= wanted and (disk.wanted >= 0 or not (await grid.explain(name)).missing):
                return reply
    raise AssertionError("a watch has no end")


async def _why_missing(grid: BitDew, name: str) -> list[str]:
    """Why copies are missing, by the scheduler's own words; nothing while all that are wanted are on their way."""
    reply = await grid.explain(name)
    if not reply.missing:
        return []
    refused = [f"  {one.host_name}: {one.reason}" for one in reply.hosts if one.verdict == "refused"]
    return [f"{name} waits for {reply.missing} more: {' '.join(reply.next)}", *refused[:MOST_REFUSALS]]
