"""`bitdew disk build`: a bootable disk from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bitdew.core.units import format_size

from .options import Json
from .output import Output


def add_to(group: typer.Typer) -> None:
    """Add the command to the group of `bitdew disk`."""
    group.command("build", epilog="Example: bitdew disk build examples/disks/worker.toml worker.raw")(build)


def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="What it is to contain: TOML.", show_default=False)],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The raw disk to write.", show_default=False)],
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Where fetched packages are kept; your cache folder by default.")
    ] = None,
    mirror: Annotated[
        str | None, typer.Option("--mirror", metavar="URL", help="A mirror of Debian; this machine's own by default.")
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask Debian for newer packages than those kept.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Build a bootable disk from Debian's packages, Python's, and files of your own.

    It needs no root and mounts nothing. The same packages give the same disk, bit for bit.
    """
    from platformdirs import user_cache_path

    from bitdew.disks.build import build_disk
    from bitdew.disks.recipe import read_recipe

    from .documents import DiskBuilt

    output = Output(as_json=as_json)
    kept = cache or user_cache_path("bitdew") / "disks"
    built = build_disk(
        read_recipe(recipe),
        file,
        cache=kept,
        mirror=mirror,
        refresh=refresh,
        overwrite=overwrite,
        step=lambda what: output.remark(f"{what} …"),
    )
    about = DiskBuilt(
        file=str(file), size=built.size, sha256=built.sha256, kernel=built.kernel, packages=built.packages
    )
    output.document(about, lambda: [f"{file} has {format_size(built.size)}, SHA-256 {built.sha256}."])
