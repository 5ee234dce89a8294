"""A folder's archive as one file, for as long as it is offered from here: a swarm reads files, and nothing else.

Owns the file, which is made where temporary files are kept and gone with the block. The archive's form is
`bitdew.core.tree`'s, and the same folder gives the same bytes each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import error
from bitdew.tasks import to_the_end

from .folder import FolderSource
from .part import no_room

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    Progress = Callable[[int, int], None]

STEP: Final = 4 * 2**20
"""Bytes that are copied at once."""
ROOM: Final = 64 * 2**20
"""Bytes that are left to others on the file system of temporary files."""


@contextlib.asynccontextmanager
async def packed(folder: Path, progress: Progress | None = None) -> AsyncIterator[Path]:
    """The archive of `folder` as a file, which is removed when the block ends.

    It lies where the system keeps temporary files: `TMPDIR` names another place.

    Args:
        folder: It is read once; what changes in it later does not change the archive.
        progress: Called with the bytes that were written, and their total.

    Raises:
        BitDewError: what `FolderSource` says, `disk.changed`, `storage.full` before anything is written,
            `storage.failed`.
    """
    source = await asyncio.to_thread(FolderSource, folder)
    scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="bitdew-offer-"))
    try:
        archive = scratch / f"{folder.name or 'folder'}.tar"
        for offset in await asyncio.to_thread(_begin, source, archive):
            await to_the_end(asyncio.to_thread(_copy, source, archive, offset))
            if progress:
                progress(min(offset + STEP, source.size), source.size)
        await asyncio.to_thread(source.check_unchanged)
        yield archive
    finally:
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True))


def _begin(source: FolderSource, archive: Path) -> range:
    """Make the file, of its size and without bytes; where each step of copying begins."""
    free = shutil.disk_usage(archive.parent).free
    if free < source.size + ROOM:
        raise no_room(archive, source.size + ROOM, free)
    with archive.open("xb") as file:
        file.truncate(source.size)
    return range(0, source.size, STEP)


def _copy(source: FolderSource, archive: Path, offset: int) -> None:
    """Copy one step's bytes; zeros are left as the hole that they are."""
    raw = source.read_at(offset, min(STEP, source.size - offset))
    if not raw.strip(b"\0"):
        return
    try:
        descriptor = os.open(archive, os.O_WRONLY | os.O_CLOEXEC)
        try:
            while raw:
                done = os.pwrite(descriptor, raw, offset)
                raw, offset = raw[done:], offset + done
        finally:
            os.close(descriptor)
    except OSError as fault:
        why = fault.strerror or str(fault)
        do = "Set TMPDIR to a folder with more room, or put the folder without --seed."
        raise error("storage.failed", f"Writing {archive} failed", why=why, do=do, path=str(archive)) from fault
