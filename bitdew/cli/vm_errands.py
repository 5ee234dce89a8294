"""`bitdew vm pause`, `resume`, `screenshot`, `snapshot`, `snapshots`, `restore`: what a machine is asked for once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitdew.core.errors import error
from bitdew.core.units import format_size

from .options import Json, Profile, Uid, Url
from .output import Output, table
from .running import ask
from .vm_deployments import SHORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bitdew.wire.models import ErrandView


def register(app: typer.Typer) -> None:
    """Add these commands to `bitdew vm`."""
    app.command("pause", epilog="Example: bitdew vm pause 3fa9")(pause)
    app.command("resume", epilog="Example: bitdew vm resume 3fa9")(resume)
    app.command("screenshot", epilog="Example: bitdew vm screenshot 3fa9 -o screen.png")(screenshot)
    app.command("snapshot", epilog="Example: bitdew vm snapshot 3fa9 before-upgrade")(snapshot)
    app.command("snapshots", epilog="Example: bitdew vm snapshots 3fa9")(snapshots)
    app.command("restore", epilog="Example: bitdew vm restore 3fa9 before-upgrade")(restore)


def pause(uid: Uid, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Have a machine stand still: it keeps its memory and its place, and takes no processor time."""
    output = Output(as_json=as_json)
    done = ask(profile, url, lambda grid: grid.pause_machine(uid, _patience(output, "paused")))
    _said(output, done, f"Machine {done.machine[:SHORT]} stands still. Let it go on: bitdew vm resume {uid}")


def resume(uid: Uid, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """Let a machine go on that was paused. One that stands still for its host's owner goes on when that ends."""
    output = Output(as_json=as_json)
    done = ask(profile, url, lambda grid: grid.resume_machine(uid, _patience(output, "resumed")))
    _said(output, done, f"Machine {done.machine[:SHORT]} runs.")


def screenshot(
    uid: Uid,
    to: Annotated[Path, typer.Option("--output", "-o", help="The file to write: a PNG.")],
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Picture what a machine's screen shows."""
    output = Output(as_json=as_json)
    from .documents import ScreenPictured

    picture = ask(profile, url, lambda grid: grid.screenshot(uid, _patience(output, "pictured")))
    try:
        to.write_bytes(picture)
    except OSError as fault:
        why = fault.strerror or str(fault)
        raise error("storage.failed", f"The picture can't be written to {to}", why=why, path=str(to)) from None
    document = ScreenPictured(machine=uid, path=str(to), bytes=len(picture))
    output.document(document, lambda: [f"{to}: {format_size(len(picture))}"])


def snapshot(
    uid: Uid,
    name: Annotated[str | None, typer.Argument(help="What it is to be called; else by the time of day, UTC.")] = None,
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Save a machine's memory and disk on its host. It stands still meanwhile, and goes on then.

    Snapshots outlast the machine, and a restart of its host: restore then has another machine go on from there.
    """
    output = Output(as_json=as_json)
    done = ask(profile, url, lambda grid: grid.snapshot(uid, name, _patience(output, "saved")))
    _said(output, done, f"Saved as {done.name}. Go back to it: bitdew vm restore {uid} {done.name}")


def snapshots(uid: Uid, profile: Profile = "default", url: Url = None, as_json: Json = False) -> None:
    """List what was saved of a machine, and is still on its host."""
    from .documents import SnapshotsSaved

    machine = ask(profile, url, lambda grid: grid.machine(uid))

    def shown() -> Iterator[object]:
        if not machine.snapshots:
            yield f"Nothing of it is saved. Save it while it runs: bitdew vm snapshot {uid}"
            return
        rows = table("NAME", "SAVED (UTC)", "HOST")
        for one in machine.snapshots:
            rows.add_row(one.name, f"{one.at:%Y-%m-%d %H:%M:%S}", machine.host_name)
        yield rows

    document = SnapshotsSaved(machine=machine.uid, snapshots=machine.snapshots)
    Output(as_json=as_json).document(document, shown)


def restore(
    uid: Uid,
    name: Annotated[str, typer.Argument(help="The snapshot's name.")],
    profile: Profile = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Have a machine go on from a snapshot. What it did since is lost.

    For a machine that has ended another one is launched on the same host, which goes on from there.
    """
    output = Output(as_json=as_json)
    done = ask(profile, url, lambda grid: grid.restore(uid, name, _patience(output, "restored")))
    _said(output, done, f"Machine {done.machine[:SHORT]} goes on from {name}: bitdew vm ls")


def _said(output: Output, done: ErrandView, text: str) -> None:
    output.document(done.model_copy(update={"picture": None}), lambda: [text])


def _patience(output: Output, what: str) -> Callable[[], None]:
    """Says once that the host is waited for: most errands are done before."""
    told = False

    def wait() -> None:
        nonlocal told
        if not told:
            told = True
            output.remark(f"Its host is asked; when the machine is {what}, this says so.")

    return wait
