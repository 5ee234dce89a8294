"""`bitdew disk`: disk images, and where their copies are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitdew.core.units import format_size, parse_size

from . import disk_build
from .data_views import explained, one_datum, placements, summary, wanted_of
from .options import DiskName, Json, Limit, Profile, Seed, SeedListen, SeedStay, SeedUpload, Url
from .output import Output, table
from .placing import placed, watched
from .running import ask
from .seeding import offer, seeding_of
from .wishes import Wished, with_wishes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bitdew.client.grid import BitDew
    from bitdew.wire.models import DataView, DiskView, WhereReply

app = typer.Typer(help="Disks: images of VMs, and where their copies are.", no_args_is_help=True, rich_markup_mode=None)
disk_build.add_to(app)


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

    from .documents import DiskMade

    output = Output(as_json=as_json)
    total = parse_size(size)
    with output.progress(f"Writing {file}") as report:
        write_boot_disk(file, line=line, size=total, power_off=not stay, progress=lambda done: report(done, total))
    about = DiskMade(file=str(file), size=total, line=line, stays=stay)
    output.document(about, lambda: [f"{file} has {format_size(total)}. Add it: bitdew disk add {file} --name NAME"])


@app.command("add", epilog="Example: bitdew disk add hep.raw --name hep --replica 3 --ft --requires 'sharing=qemu'")
@with_wishes()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A disk image.", show_default=False, readable=False)],
    name: Annotated[str, typer.Option("--name", help="What to call the disk.", show_default=False)],
    wished: Wished,
    system: Annotated[str, typer.Option("--os", help="What boots from it, in words.", show_default=False)] = "",
    arch: Annotated[str, typer.Option("--arch", help="The machine that it is made for.")] = "x86_64",
    version: Annotated[str, typer.Option("--version", help="Your version of this disk.")] = "1",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all copies are held.")] = False,
    seed: Seed = False,
    stay: SeedStay = False,
    listen: SeedListen = None,
    upload: SeedUpload = None,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Add a disk: sign it, store it in the repository, and have copies placed.

    A qcow2, VMDK, VDI, VHD or OVA is converted to a raw image first, which must be bootable.
    What breaks off goes on where it stopped, by the same command. What the repository has already is not sent.
    With --seed nothing is sent to the repository: hosts fetch the file from here, while this command runs.
    """
    output = Output(as_json=as_json)
    choice = wished.choice()
    if how := seeding_of(seed=seed, stay=stay, listen=listen, upload=upload):
        about = {"os": system, "arch": arch, "version": version}
        offer(output, how, file, name, choice, profile=profile, url=url, disk=about)
        return

    async def work(grid: BitDew) -> tuple[DataView, WhereReply | None]:
        with output.steps(f"Reading {file}", f"Converting {file}", f"Adding {name}") as (reading, converting, sending):
            disk = await grid.add_disk(
                file,
                name,
                choice,
                os=system,
                arch=arch,
                version=version,
                converting=converting,
                reading=reading,
                progress=sending,
            )
        return disk, await placed(grid, name, output) if wait else None

    from .documents import put_document

    disk, where = ask(profile, url, work)
    document = put_document(disk, where)

    def shown() -> Iterator[object]:
        yield f"{disk.name} is in the repository: {format_size(disk.size)}, root {disk.root}"
        yield placements(where) if where else f"Follow its copies: bitdew disk where {disk.name} --watch"

    output.document(document, shown)


@app.command("ls", epilog="Example: bitdew disk ls --prefix hep --limit 20")
def ls(
    prefix: Annotated[str, typer.Option("--prefix", help="Only names that begin so.", show_default=False)] = "",
    after: Annotated[str, typer.Option("--after", help="Only names after this one.", show_default=False)] = "",
    limit: Limit = 100,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List the disks by name, with how many of the wanted copies are held."""
    page = ask(profile, url, lambda grid: grid.disk_page(prefix, after, limit))
    disks = page.disks

    def shown() -> Iterator[object]:
        rows = table("NAME", ">SIZE", ">HELD", ">WANTED", "OS", "ARCH", "VERSION", "PUBLISHER", "CREATED (UTC)")
        for one in disks:
            about = (one.os, one.arch, one.version, one.publisher, f"{one.created:%Y-%m-%d %H:%M}")
            rows.add_row(one.name, format_size(one.size), str(one.held), wanted_of(one), *about)
        yield rows if disks else "There is no disk. Add one: bitdew disk add FILE --name NAME"
        for one in disks:
            if one.deprecated:
                yield f"{one.name} is deprecated, and no machine is launched from it: {one.deprecated}"
            if one.damaged:
                do = "it is mended from its hosts" if one.held else "add the original file again"
                yield f"The repository's own copy of {one.name} is damaged: {do}."
        if page.next:
            yield f"There are more: bitdew disk ls --after {page.next}{f' --prefix {prefix}' if prefix else ''}"

    Output(as_json=as_json).document(page, shown)


@app.command("show", epilog="Example: bitdew disk show hep")
def show(name: DiskName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Show one disk: its record, its wishes and its copies' number."""
    disk = ask(profile, url, lambda grid: grid.disk(name))
    Output(as_json=as_json).document(disk, lambda: [one_datum(disk)])


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
        ask(profile, url, lambda grid: watched(grid, name, output))
        return
    reply = ask(profile, url, lambda grid: grid.where(name))
    output.document(reply, lambda: [summary(reply), placements(reply)])


@app.command("explain", epilog="Example: bitdew disk explain hep")
def explain(name: DiskName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Explain a disk's copies: wanted, held, missing, why each host was chosen or refused, what happens next."""
    reply = ask(profile, url, lambda grid: grid.explain(name))
    Output(as_json=as_json).document(reply, lambda: explained(reply))


@app.command("deprecate", epilog="Example: bitdew disk deprecate hep --why 'use hep-2'")
def deprecate(
    name: DiskName,
    why: Annotated[str, typer.Option("--why", help="What users are told.")] = "a newer one took its place",
    undo: Annotated[bool, typer.Option("--undo", help="Let machines run from it again.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Say that no more machines are to run from a disk. Those that run go on, and its copies stay."""

    async def work(grid: BitDew) -> DiskView:
        return await (grid.reinstate_disk(name) if undo else grid.deprecate_disk(name, why))

    disk = ask(profile, url, work)
    told = f"{name} is deprecated: {disk.deprecated}" if disk.deprecated else f"Machines may run from {name}."
    Output(as_json=as_json).document(disk, lambda: [told])


@app.command("rm", epilog="Example: bitdew disk rm hep")
def rm(name: DiskName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Remove a disk: its copies are dropped everywhere."""
    from .documents import Removed

    ask(profile, url, lambda grid: grid.remove_disk(name))
    Output(as_json=as_json).document(Removed(removed=name), lambda: [f"{name} is removed; hosts drop their copies."])
