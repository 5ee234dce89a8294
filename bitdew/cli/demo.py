"""`bitdew demo`: the whole of it on one machine, for real, in a minute, leaving nothing behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from bitdew.core.errors import BitDewError, error
from bitdew.core.units import format_size, parse_size

from .faults import defect, report
from .options import Json
from .output import Output
from .running import configure_log, signals

MOST_WORKERS: Final = 16
SMALLEST: Final = 1024 * 1024
SECTOR: Final = 512
ROOM: Final = 256 * 1024 * 1024
"""Bytes beside the disks: databases, logs and the machine's own differences."""


def add_to(app: typer.Typer) -> None:
    """Make it a command of `app`."""
    app.command("demo", epilog="Example: bitdew demo --workers 4 --replicas 3 --size 64MB")(demo)


def demo(
    workers: Annotated[int, typer.Option("--workers", help=f"How many hosts: 1 to {MOST_WORKERS}.")] = 4,
    replicas: Annotated[int, typer.Option("--replicas", help="How many of them get a copy.")] = 3,
    size: Annotated[
        str, typer.Option("--size", help="The disk's size: 64MB; a bare number counts megabytes.")
    ] = "64MB",
    disk: Annotated[
        Path | None,
        typer.Option("--disk", help="A disk of yours, instead of a tiny one that says a line.", readable=False),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder, with its logs, to look at it.")] = False,
    where: Annotated[
        Path | None, typer.Option("--dir", help="Where to put the demo's folder; the temporary folder by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Place a disk on workers by a swarm and boot a machine from it: all on this machine, with real processes."""
    from . import demo_view  # noqa: F401 - a second of imports, better before signals mean more than the end

    output = Output(as_json=as_json)
    total = _checked(workers, replicas, size, disk, where)
    configure_log(as_json=False, quiet=True)
    sys.exit(asyncio.run(_demo(output, workers, replicas, total, disk=disk, keep=keep, where=where)))


def _checked(workers: int, replicas: int, size: str, disk: Path | None, where: Path | None) -> int:
    """The disk's size in bytes, if everything that was asked for is possible."""
    if not 1 <= workers <= MOST_WORKERS:
        raise error("input.invalid", f"--workers {workers} is out of range", why=f"it is 1 to {MOST_WORKERS}")
    if not 1 <= replicas <= workers:
        why = f"copies are on distinct hosts, and there are {workers} workers"
        raise error("input.invalid", f"--replicas {replicas} is out of range", why=why, do=f"Choose 1 to {workers}.")
    if disk is None:
        total = parse_size(f"{size}MB" if size.isdecimal() else size) // SECTOR * SECTOR
        if total < SMALLEST:
            raise error("input.invalid", f"--size {size} is too small", why="a disk has at least 1 MB")
    else:
        total = _size_of(disk)
    if where is not None and not where.is_dir():
        raise error("input.invalid", f"--dir {where} is not a folder", do="Make it first.")
    place = where or Path(tempfile.gettempdir())
    # The original, the repository's copy, and one for each host.
    needed = total * (replicas + (1 if disk else 2)) + ROOM
    free = shutil.disk_usage(place).free
    if free < needed:
        why = f"the demo needs {format_size(needed)}, and {format_size(free)} are free"
        raise error(
            "storage.full", f"There is not enough room in {place}", why=why, do="Choose a smaller --size, or --dir."
        )
    return total


def _size_of(disk: Path) -> int:
    if not disk.exists():
        raise error("disk.file-missing", f"{disk} does not exist", path=str(disk))
    if not disk.is_file():
        raise error("input.invalid", f"{disk} is not a regular file", path=str(disk))
    if not disk.stat().st_size:
        raise error("disk.empty", f"{disk} is empty", path=str(disk))
    return disk.stat().st_size


async def _demo(
    output: Output, workers: int, replicas: int, size: int, *, disk: Path | None, keep: bool, where: Path | None
) -> int:
    """Run the demo under the watch of signals. The exit code: of success, of the error, or 130.

    The order of the end is fixed: the story is cancelled, workers stop, the service stops, orphans are ended, the
    folder goes, and only then is looked whether all of it is gone. No signal cuts that short; each step is bounded.
    """
    from .demo_processes import Children
    from .demo_run import Demo, Wishes
    from .demo_view import ending, watching

    began = time.monotonic()
    came: list[str] = []
    story: asyncio.Task[None] | None = None

    def interrupted(name: str) -> None:
        if not came and not output.as_json:
            output.err.print(f"{name}: stopping everything …")
        came.append(name)
        if story is not None and len(came) == 1:
            story.cancel()

    with signals(interrupted):
        folder = _new_folder(where)
        children = Children(folder, _environment(folder))
        try:
            with watching(output) as watcher:
                run = Demo(Wishes(workers, replicas, size, disk, folder), children, watcher)
                story = asyncio.create_task(run.run())
                await asyncio.wait({story})
            output.remark("Stopping everything …")
        finally:
            if story is not None:
                story.cancel()
                await asyncio.wait({story})
                # What a defect left is evidence, and its message names a file in there.
                keep = keep or _is_defect(story)
            await children.stop()
            left = await asyncio.to_thread(_tidy, folder, keep=keep)
    fault = _fault(story, came)
    if output.as_json:
        from bitdew.wire.model import ErrorView

        from .documents import DemoReport

        document = DemoReport(
            **run.story.as_dict(),
            seconds=round(time.monotonic() - began, 2),
            clean=not left,
            left=left,
            forced=children.forced,
            folder=str(folder) if keep else None,
            error=ErrorView.of(fault) if fault else None,
        )
        output.line(document)
    elif fault is None:
        for part in ending(run.story, clean=not left, seconds=time.monotonic() - began):
            output.show(part)
    if keep:
        output.remark(f"Everything is in {folder}: logs/, home/ (BITDEW_HOME of the service), host-N/ (the workers').")
    if fault is None:
        return 0 if not left else 1
    return fault.kind.exit_code if output.as_json else report(fault, as_json=False)


def _fault(story: asyncio.Task[None], came: list[str]) -> BitDewError | None:
    """Why the story ended early, if it did."""
    if story.cancelled() or came:
        if not story.cancelled():
            story.exception()
        why = f"{came[0]} came" if came else ""
        return error("interrupted", "The demo was interrupted", why=why, do="Start it again. Nothing was left behind.")
    fault = story.exception()
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    if fault is None or isinstance(fault, BitDewError):
        return fault
    return defect(fault)


def _is_defect(story: asyncio.Task[None]) -> bool:
    """Whether the story, which has ended, came upon a defect of ours, in this process or in one of its children."""
    fault = None if story.cancelled() else story.exception()
    while isinstance(fault, BaseExceptionGroup):
        fault = fault.exceptions[0]
    return fault is not None and (not isinstance(fault, BitDewError) or fault.key == "internal")


def _new_folder(where: Path | None) -> Path:
    """The demo's own folder. Its name is random, so that a command line which has it belongs to this demo."""
    try:
        return Path(tempfile.mkdtemp(prefix="bitdew-demo-", dir=where)).absolute()
    except OSError as cause:
        place = where or tempfile.gettempdir()
        message = f"The demo's folder can't be made in {place}"
        do = "Name a folder that you may write to: --dir FOLDER"
        raise error("storage.failed", message, why=cause.strerror or str(cause), do=do, path=str(place)) from cause


def _environment(folder: Path) -> dict[str, str]:
    """The children's environment: none of the user's own profiles, homes and choices reach them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BITDEW_")}
    return kept | {"BITDEW_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}


def _tidy(folder: Path, *, keep: bool) -> list[str]:
    """Remove the folder unless it is kept, and look for whatever is left of the demo. Blocks."""
    from .demo_processes import belonging

    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
    left = [f"process {process.pid}" for process in belonging(folder)]
    if not keep and folder.exists():
        left.append(f"folder {folder}")
    mounts = Path("/proc/self/mounts")
    if mounts.exists() and str(folder) in mounts.read_text(encoding="utf-8", errors="replace"):
        left.append(f"mount under {folder}")
    return left
