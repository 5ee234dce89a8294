"""The options that many commands share, so that each has one spelling and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import names

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout: one document, or a line for each event.")]


def _current(context: typer.Context, value: str) -> str:
    """What `--profile` says, or else the current profile."""
    from bitdew.client.profiles import current_profile

    source = context.get_parameter_source("profile")
    return current_profile()[0] if source is not None and source.name == "DEFAULT" else value


Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        envvar="BITDEW_PROFILE",
        help="Whose identity to use, if not the current profile's (bitdew profile ls).",
        show_default=False,
        callback=_current,
        autocompletion=names.profiles,
    ),
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
Uid = Annotated[
    str,
    typer.Argument(
        metavar="UID", help="The machine's id, or its first digits.", show_default=False, autocompletion=names.machines
    ),
]
After = Annotated[str, typer.Option("--after", help="Go on behind this place, which a page told.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many at most.")]
DeploymentUid = Annotated[
    str,
    typer.Argument(
        metavar="UID",
        help="The deployment's id, or its first digits.",
        show_default=False,
        autocompletion=names.deployments,
    ),
]
MachineOrDeployment = Annotated[
    str,
    typer.Argument(
        metavar="UID",
        help="The id of a machine or of a deployment, or its first digits.",
        show_default=False,
        autocompletion=names.machines_or_deployments,
    ),
]
DiskName = Annotated[
    str, typer.Argument(metavar="NAME", help="The disk's name or uid.", show_default=False, autocompletion=names.disks)
]
DatumName = Annotated[
    str, typer.Argument(metavar="NAME", help="The datum's name or uid.", show_default=False, autocompletion=names.data)
]
AttrName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The attribute's name.", show_default=False, autocompletion=names.attributes),
]
Upload = Annotated[str | None, typer.Option("--upload", help="Bytes per second sent at most: 1MB.")]
Download = Annotated[str | None, typer.Option("--download", help="Bytes per second received at most.")]
Quota = Annotated[str | None, typer.Option("--quota", help="Bytes of copies at most; 20GB by default.")]
Seed = Annotated[
    bool,
    typer.Option("--seed", help="Offer it from here by swarm, until the copies are held: the repository gets none."),
]
SeedStay = Annotated[bool, typer.Option("--stay", help="With --seed: go on offering it until Ctrl-C.")]
SeedListen = Annotated[
    str | None,
    typer.Option("--listen", metavar="IP:PORT", help="With --seed: where hosts fetch it, if not at any free port."),
]
SeedUpload = Annotated[str | None, typer.Option("--upload", help="With --seed: bytes per second sent at most: 1MB.")]
StopWithParent = Annotated[
    bool,
    typer.Option(
        "--stop-with-parent", hidden=True, help="Stop in order when stdin ends: the starter holds its other end."
    ),
]


def worker_home(home: Path | None) -> Path:
    """What `--home` means to a worker."""
    from bitdew.client.profiles import home_folder
    from bitdew.meant import path_meant

    return path_meant(home or home_folder() / "worker")
