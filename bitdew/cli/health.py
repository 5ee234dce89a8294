"""`bitdew health`: whether a service can do its work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .options import Json, Profile, Url
from .output import Output
from .running import ask

if TYPE_CHECKING:
    import typer

    from bitdew.client.grid import BitDew
    from bitdew.wire import models as m


def add_to(app: typer.Typer) -> None:
    """Make `bitdew health` a command of `app`."""
    app.command("health", epilog="Example: bitdew health --json")(health)


def health(profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Ask whether a service is well: it answers, and so do its database and its repository. Else the exit code says."""

    async def both(grid: BitDew) -> tuple[m.HealthReply, m.ServiceReply]:
        return await grid.health(), await grid.service()

    from .documents import ServiceHealth

    well, about = ask(profile, url, both)
    plans = "plans" if well.leads else "leaves planning to another service of its database"
    lines = [f"{about.name} is well: BitDew {about.version}, its database and its repository answer, and it {plans}."]
    document = ServiceHealth(leads=well.leads, name=about.name, version=about.version)
    Output(as_json=as_json).document(document, lambda: lines)
