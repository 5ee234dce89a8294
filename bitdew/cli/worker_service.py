"""`bitdew worker install-service` and `uninstall-service`: the worker as a service of systemd."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from bitdew.core.errors import error

from .options import Home, Json, worker_home
from .output import Output

System = Annotated[
    bool, typer.Option("--system/--user", help="A service of the whole system, or of your own sessions (default).")
]


def add_to(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    app.command("install-service", epilog="Example: bitdew worker install-service --home ~/bitdew-worker")(
        install_service
    )
    app.command("uninstall-service", epilog="Example: bitdew worker uninstall-service")(uninstall_service)


def install_service(
    system: System = False,
    run_as: Annotated[
        str | None, typer.Option("--run-as", metavar="USER", help="With --system: the home's owner by default.")
    ] = None,
    start: Annotated[bool, typer.Option("--start/--no-start", help="Enable and start it, or only write it.")] = True,
    show: Annotated[bool, typer.Option("--print", help="Print the unit, and change nothing.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Have systemd run the worker that joined before: hardened, with the lowest priority, started by itself.

    For macOS and Windows the guide for volunteers has files that do the same.
    """
    from bitdew.worker.enrol import identity_folder
    from bitdew.worker.unit import Scope, install, text_of

    from .worker_documents import UnitInstalled, UnitText

    folder, scope = worker_home(home), Scope.SYSTEM if system else Scope.USER
    if not show and not identity_folder(folder).exists():
        do = "Join first: bitdew worker join URL --token … --enrol-only"
        raise error("profile.missing", f"No worker has joined in {folder}", do=do, path=str(folder))
    owner = (run_as or _owner(folder)) if system else ""
    text = text_of(scope, _program(), folder, owner=owner, privileged=_has_virtualbox())
    output = Output(as_json=as_json)
    if show:
        output.document(UnitText(unit=text), lambda: [text])
        return
    unit = install(scope, text, folder, start=start)

    def shown() -> Iterator[str]:
        yield f"{unit.path} is written" + (", enabled and started." if start else ".")
        if not system:
            yield "It runs while you are logged in. To have it run always: loginctl enable-linger"

    document = UnitInstalled(unit=str(unit.path), scope=str(scope), home=str(folder), started=start)
    output.document(document, shown)


def uninstall_service(home: Home = None, as_json: Json = False) -> None:
    """Stop the service and remove its unit. The worker's home stays; `leave` removes that too."""
    from bitdew.worker.unit import uninstall

    from .worker_documents import UnitRemoved

    unit = uninstall(None if home is None else worker_home(home))
    text = f"{unit.path} is removed." if unit else "There is no service of a worker here."
    Output(as_json=as_json).document(UnitRemoved(removed=str(unit.path) if unit else None), lambda: [text])


def _program() -> list[str]:
    """The command that runs this very `bitdew`."""
    script = Path(sys.argv[0])
    if script.name == "bitdew" and os.access(script, os.X_OK):
        return [str(script.absolute())]
    return [sys.executable, "-P", "-m", "bitdew"]


def _owner(folder: Path) -> str:
    try:
        return folder.owner()
    except (OSError, KeyError):
        return ""


def _has_virtualbox() -> bool:
    import shutil

    return shutil.which("VBoxManage") is not None
