"""`bitdew data`: any files and folders as data, and where their copies are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitdew.client.events import EventKind
from bitdew.core.errors import error
from bitdew.core.units import format_size

from . import names
from .data_events import EventsShown
from .data_views import moment, one_datum, placements, summary, wanted_of, wishes_of
from .options import DatumName, Json, Profile, Seed, SeedListen, SeedStay, SeedUpload, Url
from .output import Output, table
from .placing import placed, watched
from .running import ask
from .seeding import offer, seeding_of
from .wishes import Wished, with_wishes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bitdew.client.getting import Got
    from bitdew.client.grid import BitDew
    from bitdew.wire.models import DataView, WhereReply

app = typer.Typer(
    help="Data: any files and folders, placed by attributes.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("put", epilog="Example: bitdew data put inputs.tar --name hep-inputs --attr root")
@with_wishes()
def put(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Any file, or a folder.", show_default=False, readable=False)
    ],
    name: Annotated[str, typer.Option("--name", help="What to call the datum.", show_default=False)],
    wished: Wished,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all copies are held.")] = False,
    seed: Seed = False,
    stay: SeedStay = False,
    listen: SeedListen = None,
    upload: SeedUpload = None,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make a file, or a folder, a datum: store it in the repository, and have copies placed.

    What breaks off goes on where it stopped, by the same command. What the repository has already is not sent.
    With --seed nothing is sent to the repository: hosts fetch it from here, while this command runs.
    """
    output = Output(as_json=as_json)
    choice = wished.choice()
    if how := seeding_of(seed=seed, stay=stay, listen=listen, upload=upload):
        offer(output, how, file, name, choice, profile=profile, url=url)
        return

    async def work(grid: BitDew) -> tuple[DataView, WhereReply | None]:
        with output.steps(f"Reading {file}", f"Sending {name}") as (reading, sending):
            datum = await grid.put(file, name, choice, reading=reading, sending=sending)
        return datum, await placed(grid, name, output) if wait else None

    from .documents import put_document

    datum, where = ask(profile, url, work)
    document = put_document(datum, where)

    def shown() -> Iterator[object]:
        yield f"{datum.name} is in the repository: {format_size(datum.size)}, root {datum.root}"
        yield placements(where) if where else f"Follow its copies: bitdew data where {datum.name} --watch"

    output.document(document, shown)


@app.command("get", epilog="Example: bitdew data get hep-inputs inputs.tar")
def get(
    name: DatumName,
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="Where it is to be; here, under its name, by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file, or the folder, that is there.")] = False,
    archive: Annotated[bool, typer.Option("--archive", help="Leave a folder packed, for tar to unpack.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Bring a datum's bytes back, as the file or the folder that it was. If it breaks off, run it again: it goes on."""
    output = Output(as_json=as_json)

    async def work(grid: BitDew) -> Got:
        named = f"Fetching {name}", f"Checking {name}", f"Unpacking {name}"
        with output.steps(*named) as (fetching, checking, unpacking):
            return await grid.get(
                name, path, force=force, archive=archive, checking=checking, fetching=fetching, unpacking=unpacking
            )

    from bitdew.wire.model import ErrorView

    from .documents import DataGot

    got = ask(profile, url, work)
    because = None if got.because is None else ErrorView.of(got.because)
    document = DataGot(
        path=str(got.path), fetched=got.fetched, from_hosts=got.from_hosts, because=because, data=got.data
    )
    fetched = "" if got.fetched == got.data.size else f"; {format_size(got.fetched)} of it were fetched"
    lines = [f"{path or got.data.name} is {name}: {format_size(got.data.size)}{fetched}"]
    if got.because is not None:
        lines.append(f"{format_size(got.from_hosts)} came from hosts: {got.because}. The repository was told.")
    output.document(document, lambda: lines)


@app.command("ls", epilog="Example: bitdew data ls --prefix run-2026 --limit 20")
def ls(
    prefix: Annotated[str, typer.Option("--prefix", help="Only names that begin so.", show_default=False)] = "",
    after: Annotated[str, typer.Option("--after", help="Only names after this one.", show_default=False)] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most.")] = 100,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List living data by name, disks among them, with how many of the wanted copies are held."""
    page = ask(profile, url, lambda grid: grid.page(prefix, after, limit))

    def shown() -> Iterator[object]:
        rows = table("NAME", ">SIZE", ">HELD", ">WANTED", "ATTRIBUTE", "ENDS (UTC)", "CREATED (UTC)")
        for one in page.data:
            held = "awaited" if one.awaited and not one.seeded else str(one.held)
            attribute = one.attribute_name or wishes_of(one.attribute)
            ends = moment(one.ends) if one.ends else ""
            rows.add_row(one.name, format_size(one.size), held, wanted_of(one), attribute, ends, moment(one.created))
        yield rows if page.data else "There is no such datum. Put one: bitdew data put FILE --name NAME"
        if page.next:
            yield f"There are more: bitdew data ls --after {page.next}{f' --prefix {prefix}' if prefix else ''}"

    Output(as_json=as_json).document(page, shown)


@app.command("show", epilog="Example: bitdew data show hep-inputs")
def show(name: DatumName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Show one datum: what it is, its wishes, its end and its copies' number."""
    datum = ask(profile, url, lambda grid: grid.datum(name))
    Output(as_json=as_json).document(datum, lambda: [one_datum(datum)])


@app.command("where", epilog="Example: bitdew data where hep-inputs --watch")
def where(
    name: DatumName,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and show each change until Ctrl-C.")] = False,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show where a datum's copies are, and how they came there."""
    output = Output(as_json=as_json)
    if watch:
        ask(profile, url, lambda grid: watched(grid, name, output))
        return
    reply = ask(profile, url, lambda grid: grid.where(name))
    output.document(reply, lambda: [summary(reply), placements(reply)])


@app.command("watch", epilog="Example: bitdew data watch --attr hep --kind held --kind lost --cursor my-script --json")
def watch(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Only this datum, by name or uid; all data by default.", autocompletion=names.data
        ),
    ] = None,
    attr: Annotated[
        str | None, typer.Option("--attr", help="Only data that have this attribute.", autocompletion=names.attributes)
    ] = None,
    kind: Annotated[
        list[EventKind] | None, typer.Option("--kind", help="Only this kind of event; repeatable.", show_default=False)
    ] = None,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="Keep under this name how far it came, and go on there next time.")
    ] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="Begin with the oldest event that is kept.")] = False,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many; never by default.")] = None,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show what happens to data and to their copies, a line each, until Ctrl-C.

    A week of it is kept. With --cursor nothing is missed between one run and the next; an event that was being printed
    when the command was ended comes again.
    """
    shown = EventsShown(Output(as_json=as_json), kinds=tuple(kind or ()), data=name, attr=attr)
    ask(profile, url, lambda grid: shown.follow(grid, cursor, since="oldest" if oldest else "now", count=count))


@app.command("attr", epilog="Example: bitdew data attr hep-inputs --attr root")
@with_wishes()
def attr(name: DatumName, wished: Wished, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Give a datum another attribute: a defined one, or wishes, which replace all that it had."""
    choice = wished.choice()
    if not wished.given and wished.name is None:
        why = "neither --attr nor a wish was given"
        do = "Give one of them; --replica 1 alone is the default."
        raise error("input.invalid", f"It is not clear what {name!r} is to have", why=why, do=do)
    from .documents import AttributeChosen

    view = ask(profile, url, lambda grid: grid.choose(name, choice))
    document = AttributeChosen(datum=name, attribute=view)

    def shown() -> Iterator[object]:
        yield f"{name} has {view.name or 'these wishes'}: {wishes_of(view.wishes) or 'one copy'}"

    Output(as_json=as_json).document(document, shown)


@app.command("rm", epilog="Example: bitdew data rm hep-inputs")
def rm(name: DatumName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """End a datum's life: its copies are dropped everywhere, and with it data whose lifetime is tied to it."""
    from .documents import Removed

    ask(profile, url, lambda grid: grid.remove(name))
    Output(as_json=as_json).document(Removed(removed=name), lambda: [f"{name} is removed; hosts drop their copies."])
