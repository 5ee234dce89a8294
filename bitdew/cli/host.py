"""`bitdew host`: the machines that run a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bitdew.core.units import format_size

from . import host_drain, names
from .options import After, Json, Limit, Profile, Url
from .output import Output, table
from .running import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(help="Hosts: the machines that run a worker.", no_args_is_help=True, rich_markup_mode=None)
host_drain.add_to(app)


@app.command("ls", epilog="Example: bitdew host ls --limit 20")
def ls(
    after: After = "", limit: Limit = 100, profile: Profile = "default", url: Url = None, as_json: Json = False
) -> None:
    """List the hosts by name: their state, what they lend and what they hold."""
    page = ask(profile, url, lambda grid: grid.host_page(after, limit))
    hosts = page.hosts

    def shown() -> Iterator[object]:
        rows = table(
            "NAME", "STATE", "SWARM", ">CPUS", ">MEMORY", ">USED", ">QUOTA", ">DISKS", ">VMS", "SHARES", "LABELS"
        )
        for one in hosts:
            shares = ", ".join(f"{s.name} {s.version}".strip() for s in one.sharings)
            labels = ", ".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
            sizes = (format_size(one.memory), format_size(one.used), format_size(one.quota))
            figures = (str(one.held), str(one.machines))
            rows.add_row(one.name, one.state, one.swarm, str(one.cpus), *sizes, *figures, shares, labels)
        yield rows if hosts else "No host has joined. Make a token for one: bitdew token create --role worker"
        for one in hosts:
            if one.unknown:
                yield f"{one.name} has {len(one.unknown)} copies that the catalog does not know; they are kept."

        if page.next:
            yield f"There are more: bitdew host ls --after {page.next}"

    Output(as_json=as_json).document(page, shown)


@app.command("revoke", epilog="Example: bitdew host revoke pc-7")
def revoke(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The host's name or id.", show_default=False, autocompletion=names.hosts),
    ],
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Shut a host out, from its next request on. It can join again with a new token only, as a new host."""
    from .documents import HostRevoked

    host = ask(profile, url, lambda grid: grid.revoke_host(name))
    lines = [f"{host.name} is shut out, and its copies no longer count."]
    Output(as_json=as_json).document(HostRevoked(revoked=host.host, name=host.name), lambda: lines)
