"""`bitdew explain`: why a datum's copies are where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .data_views import explained
from .options import DatumName, Json, Profile, Url
from .output import Output
from .running import ask

if TYPE_CHECKING:
    import typer


def add_to(app: typer.Typer) -> None:
    """Make `bitdew explain` a command of `app`."""
    app.command("explain", epilog="Example: bitdew explain hep")(explain)


def explain(name: DatumName, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Explain a datum's copies: wanted, held, missing, what each wish does, each host and why, what happens next."""
    reply = ask(profile, url, lambda grid: grid.explain(name))
    Output(as_json=as_json).document(reply, lambda: explained(reply))
