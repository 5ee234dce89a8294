"""The options that many commands share, so that each has one spelling and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout: one document, or a line for each event.")]
Profile = Annotated[
    str, typer.Option("--profile", envvar="BITDEW_PROFILE", help="Whose identity to use.", show_default=True)
]
Url = Annotated[
    str | None, typer.Option("--url", help="Where the profile's service is reached, if not where it was joined.")
]
Home = Annotated[
    Path | None, typer.Option("--home", help="The folder to keep everything in, instead of one in BITDEW_HOME.")
]
Token = Annotated[
    str,
    typer.Option(
        "--token", envvar="BITDEW_TOKEN", help="The join token that an operator gave you.", show_default=False
    ),
]
Uid = Annotated[str, typer.Argument(metavar="UID", help="The machine's id, or its first digits.", show_default=False)]
DiskName = Annotated[str, typer.Argument(metavar="NAME", help="The disk's name or uid.", show_default=False)]
DatumName = Annotated[str, typer.Argument(metavar="NAME", help="The datum's name or uid.", show_default=False)]
AttrName = Annotated[str, typer.Argument(metavar="NAME", help="The attribute's name.", show_default=False)]
StopWithParent = Annotated[
    bool,
    typer.Option(
        "--stop-with-parent", hidden=True, help="Stop in order when stdin ends: the starter holds its other end."
    ),
]
