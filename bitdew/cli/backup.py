"""`bitdew backup` and `bitdew restore`: a service in one file. They use its folder and database, not the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitdew.core.errors import error
from bitdew.meant import path_meant

from .options import Home, Json
from .output import Output
from .running import configure_log, run

if TYPE_CHECKING:
    from bitdew.catalog.backup import Places

Database = Annotated[
    str | None,
    typer.Option(
        "--database", envvar="BITDEW_DATABASE", help="The service's database, as `serve` was told.", show_default=False
    ),
]
Authority = Annotated[Path | None, typer.Option("--authority", help="The CA's folder, if it is not in --home.")]
Repository = Annotated[Path | None, typer.Option("--repository", help="The repository, if it is not in --home.")]


def add_to(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    app.command("backup", epilog="Example: bitdew backup /mnt/safe/bitdew-monday.tar")(backup)
    app.command("restore", epilog="Example: bitdew restore /mnt/safe/bitdew-monday.tar")(restore)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, a tar.", show_default=False)],
    home: Home = None,
    database: Database = None,
    authority: Authority = None,
    repository: Repository = None,
    with_repository: Annotated[
        bool, typer.Option("--with-repository", help="The repository's files too: as large as all data.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a service's catalog and CA into one file, while it runs or not. Keep it secret: the CA's key is in it."""
    from bitdew.catalog.backup import backup as back_up
    from bitdew.clock import SystemClock
    from bitdew.core.units import format_size

    from .documents import BackupMade

    output, target = Output(as_json=as_json), path_meant(file)
    configure_log(as_json=as_json, quiet=True)
    places = _places(home, database, authority, repository)
    with output.progress("Backing up") as report:
        done = run(
            back_up(
                places,
                target,
                now=SystemClock().now(),
                with_repository=with_repository,
                replace=force,
                report=report,
            )
        )
    document = BackupMade(file=str(target), files=done.files, size=done.size, repository=with_repository)

    def shown() -> list[str]:
        left_out = "" if with_repository else " The repository's files are not in it (--with-repository)."
        return [f"{target} holds the catalog and the CA, {format_size(done.size)}.{left_out} Keep it secret."]

    output.document(document, shown)


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `bitdew backup` wrote.", show_default=False)],
    home: Home = None,
    database: Database = None,
    authority: Authority = None,
    repository: Repository = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where a service is: what is there is moved aside.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put a service back as it was when FILE was written. It must not run; everything is verified first."""
    from bitdew.catalog.backup import restore as put_back
    from bitdew.clock import SystemClock

    from .documents import BackupRestored

    output = Output(as_json=as_json)
    configure_log(as_json=as_json, quiet=True)
    file = path_meant(file)
    if not file.exists():
        raise error("disk.file-missing", f"{file} does not exist", path=str(file))
    places = _places(home, database, authority, repository)
    with output.progress("Verifying") as report:
        done = run(put_back(places, file, now=SystemClock().now(), replace=force, report=report))
    document = BackupRestored(
        home=str(places.home),
        made=done.about.made,
        files=done.files,
        repository=done.about.repository,
        aside=str(done.aside) if done.aside else None,
    )

    def shown() -> list[str]:
        lines = [f"{places.home} is as it was at {done.about.made}."]
        if done.aside:
            lines.append(f"What was there before is in {done.aside}.")
        if not done.about.repository:
            lines.append("The repository's files were not in the backup; hosts that hold copies serve each other.")
        return [*lines, "Start it: bitdew serve"]

    output.document(document, shown)


def _places(home: Path | None, database: str | None, authority: Path | None, repository: Path | None) -> Places:
    from bitdew.catalog.backup import Places
    from bitdew.client.profiles import home_folder

    chosen = path_meant(home or home_folder() / "service")
    return Places.of(chosen, database, authority and path_meant(authority), repository and path_meant(repository))
