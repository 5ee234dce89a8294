"""A folder's archive becomes the folder again: in a place of its own first, then renamed to where it belongs.

Owns what is written where. An archive may come from anyone: `bitdew.core.tree` reads it, and lets nothing pass that is
outside the tree, within a link, or there already. Everything here blocks; call it in a thread.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.tree import EntryKind, Placed, read_tree

from .part import in_the_way

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int, int], bytes]
    Progress = Callable[[int, int], None]

CHUNK: Final = 256 * 1024
"""Bytes that are copied at once; as many zeros stay a hole."""
_ZEROS: Final = bytes(CHUNK)


class Unpacking:
    """One archive on its way to `target`. Another thread may stop it.

    Attributes:
        stopped: Set it to have `run` end early, with `interrupted`.
    """

    def __init__(self, read: Read, size: int, target: Path, progress: Progress | None = None) -> None:
        """`read(offset, length)` gives the archive's bytes, of which there are `size`."""
        self._read, self._size, self._target = read, size, target
        self._progress = progress
        self.stopped = False

    def run(self, *, force: bool) -> None:
        """Unpack everything, then put it at the target: in place of another folder only by `force`.

        Raises:
            UserError: `input.invalid` and `input.too-large` for what is not a folder's archive; `data.in-the-way`,
                `interrupted`. HostError: `storage.full`, `storage.failed`. In every case nothing is left.
        """
        aside: Path | None = None
        try:
            aside = Path(tempfile.mkdtemp(prefix=f".{self._target.name[:80]}.", dir=self._target.parent))
            tree = aside / "tree"
            tree.mkdir()
            for placed in read_tree(self._read, self._size):
                self._make(tree / placed.entry.path, placed)
                self._report(placed.end)
            self._report(self._size)
            self._put_in_place(tree, aside / "before", force=force)
        except OSError as fault:
            why, full = fault.strerror or str(fault), fault.errno in {errno.ENOSPC, errno.EDQUOT}
            raise error(
                "storage.full" if full else "storage.failed", f"{self._target} can't be unpacked", why=why
            ) from fault
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)

    def _make(self, path: Path, placed: Placed) -> None:
        entry = placed.entry
        if entry.kind is EntryKind.FOLDER:
            path.mkdir()
        elif entry.kind is EntryKind.LINK:
            path.symlink_to(entry.target)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o777 if entry.executable else 0o666)
            try:
                self._copy(placed, descriptor)
            finally:
                os.close(descriptor)

    def _copy(self, placed: Placed, descriptor: int) -> None:
        size = placed.entry.size
        if size > CHUNK:
            os.ftruncate(descriptor, size)
        for position in range(0, size, CHUNK):
            self._check_stopped()
            chunk = self._read(placed.start + position, min(CHUNK, size - position))
            if size > CHUNK and chunk == _ZEROS[: len(chunk)]:
                continue
            _write(descriptor, chunk, position)
            self._report(placed.start + position)

    def _put_in_place(self, tree: Path, before: Path, *, force: bool) -> None:
        target = self._target
        self._check_stopped()
        if os.path.lexists(target):
            if not force or target.is_symlink() or not target.is_dir():
                raise in_the_way(target)
            target.rename(before)
        try:
            tree.rename(target)
        except OSError as fault:
            if before.exists():
                before.rename(target)
            if fault.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise in_the_way(target) from None
            raise

    def _check_stopped(self) -> None:
        if self.stopped:
            raise BitDewError("interrupted", f"{self._target} was not unpacked to its end")

    def _report(self, done: int) -> None:
        self._check_stopped()
        if self._progress is not None:
            self._progress(done, self._size)


def _write(descriptor: int, chunk: bytes, position: int) -> None:
    view = memoryview(chunk)
    while view:
        written = os.pwrite(descriptor, view, position)
        view, position = view[written:], position + written
