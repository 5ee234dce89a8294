"""The folder of copies: one file for each content, what is needed to go on fetching it, and how much room there is.

Owns `<home>/copies`: `<root>` (the bytes), `<root>.torrent` (how they are fetched and verified), `<root>.have` (which
pieces are durable). It must not decide what is held, and it removes nothing but these three files, on request: what it
does not know stays.

Everything here blocks; callers run it in a thread.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from bitdew.core.content import root_of_piece
from bitdew.core.errors import error
from bitdew.core.units import format_size

from .entries import HeldCopy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from bitdew.core.content import Content

MARGIN: Final = 16 * 2**20
"""Bytes of the file system that are left to everybody else."""

_OURS: Final = re.compile(r"(?P<root>[0-9a-f]{64})(?:\.torrent|\.have)?")
_UNFINISHED: Final = ".writing-"


class Storage:
    """The files of one host's copies."""

    def __init__(self, folder: Path, quota: int) -> None:
        """`quota` is how many bytes of copies are held at most."""
        self.folder = folder
        self.quota = quota
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._incoming: set[str] = set()

    def open(self, known: Collection[str]) -> list[Path]:
        """Make the folder if need be; return what lies in it and belongs to none of the contents `known`.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.folder, "Opening"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unknown: list[Path] = []
            for path in sorted(self.folder.iterdir()):
                match = _OURS.fullmatch(path.name)
                if path.name.startswith(_UNFINISHED):
                    path.unlink()
                elif not match or match["root"] not in known:
                    unknown.append(path)
            return unknown

    def path(self, root: str) -> Path:
        """Where the bytes of `root` are or will be."""
        return self.folder / root

    def admit(self, root: str, size: int) -> None:
        """Keep room for all `size` bytes of `root`, whatever of them is there. Repeating it changes nothing.

        Raises:
            HostError: `storage.full`, with the figures; `storage.failed`.
        """
        with self._lock, _told(self.folder, "Measuring"):
            used = sum(self._sizes.values()) - self._sizes.get(root, 0)
            if used + size > self.quota:
                raise error(
                    "storage.full",
                    f"There is no room for {format_size(size)} more in the host's quota",
                    why=f"{format_size(used)} of {format_size(self.quota)} are taken",
                    do="Drop other data from this host, or lend more: the worker's --quota.",
                    size=size,
                    used=used,
                    quota=self.quota,
                )
            others = sum(max(0, self._sizes[r] - self._allocated(r)) for r in self._incoming if r != root)
            wanted = max(0, size - self._allocated(root))
            free = shutil.disk_usage(self.folder).free - others - MARGIN
            if wanted > free:
                raise error(
                    "storage.full",
                    f"There is no room for {format_size(wanted)} more on the file system of {self.folder}",
                    why=f"{format_size(max(0, free))} are free, beyond what other data on their way need",
                    size=size,
                    wanted=wanted,
                    free=max(0, free),
                )
            self._sizes[root] = size
            self._incoming.add(root)

    def settle(self, root: str, size: int) -> None:
        """The bytes of `root` are all there: they count by their size, and no more room is kept for them."""
        with self._lock:
            self._sizes[root] = size
            self._incoming.discard(root)

    def give_up(self, root: str) -> None:
        """Nothing more of `root` is fetched for now: it counts by what it takes on the disk."""
        with self._lock, _told(self.folder, "Measuring"):
            self._sizes[root] = self._allocated(root)
            self._incoming.discard(root)

    def notice(self, root: str) -> None:
        """What there is of `root` from an earlier start counts by what it takes, unless it is counted already.

        Raises:
            HostError: `storage.failed`.
        """
        with self._lock, _told(self.folder, "Measuring"):
            self._sizes.setdefault(root, self._allocated(root))

    def figures(self) -> tuple[int, int]:
        """Bytes that copies take, those on their way at their full size; and bytes that the file system could take.

        Raises:
            HostError: `storage.failed`.
        """
        with self._lock, _told(self.folder, "Measuring"):
            return sum(self._sizes.values()), max(0, shutil.disk_usage(self.folder).free - MARGIN)

    def look(self, root: str) -> HeldCopy | None:
        """The file of `root` as it is now, or None if there is none.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.path(root), "Reading"):
            try:
                found = self.path(root).stat()
            except FileNotFoundError:
                return None
            return HeldCopy(found.st_size, found.st_mtime_ns)

    def read_metainfo(self, root: str) -> bytes | None:
        """The .torrent of `root`, or None if it was not fetched yet."""
        return self._read(f"{root}.torrent")

    def write_metainfo(self, root: str, encoded: bytes) -> None:
        """Keep the .torrent of `root`.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        self._write(f"{root}.torrent", encoded)

    def read_have(self, root: str) -> bytes | None:
        """The bitfield of the pieces of `root` that are durable, or None if none is known to be."""
        return self._read(f"{root}.have")

    def write_have(self, root: str, field: bytes) -> None:
        """Keep the bitfield of the pieces of `root` that are durable.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        self._write(f"{root}.have", field)

    def proves(self, root: str, content: Content, field: bytes) -> bool:
        """Whether the pieces that the bitfield `field` names are in the file of `root` as they should be.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.path(root), "Reading"), self.path(root).open("rb") as file:
            named = (n for n in range(content.pieces) if field[n // 8] & (0x80 >> n % 8))
            return all(_holds(file, content, number) for number in named)

    def has_piece(self, content: Content, number: int) -> bool:
        """Whether piece `number` of `content` is in its file as it should be.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.path(content.root), "Reading"), self.path(content.root).open("rb") as file:
            return _holds(file, content, number)

    def put_piece(self, content: Content, number: int, raw: bytes) -> bool:
        """Write `raw` into the file as piece `number` of `content`, if it is that; otherwise nothing, and False.

        It is durable only after a sync.

        Raises:
            HostError: `storage.full`; `storage.failed`, also if the file is gone.
        """
        if not _is_piece(raw, content, number):
            return False
        with _told(self.path(content.root), "Writing"), self.path(content.root).open("r+b") as file:
            file.seek(number * content.piece_length)
            file.write(raw)
        return True

    def forget_have(self, root: str) -> None:
        """Nothing is known of the pieces of `root` any more.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.path(root), "Removing"):
            self.folder.joinpath(f"{root}.have").unlink(missing_ok=True)

    def taken(self, root: str) -> int:
        """Bytes that the files of `root` take on the disk: those that removing them frees.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.path(root), "Measuring"):
            return sum(_blocks(self.folder / name) for name in _names(root))

    def remove(self, root: str) -> None:
        """Remove the files of `root`, the bytes first, and free its room.

        Raises:
            HostError: `storage.failed`.
        """
        with self._lock, _told(self.path(root), "Removing"):
            for name in _names(root):
                self.folder.joinpath(name).unlink(missing_ok=True)
            _sync_folder(self.folder)
            self._sizes.pop(root, None)
            self._incoming.discard(root)

    def _allocated(self, root: str) -> int:
        """Bytes that the file takes on the disk: it may have holes."""
        return _blocks(self.path(root))

    def _read(self, name: str) -> bytes | None:
        with _told(self.folder / name, "Reading"):
            try:
                return self.folder.joinpath(name).read_bytes()
            except FileNotFoundError:
                return None

    def _write(self, name: str, content: bytes) -> None:
        with _told(self.folder / name, "Writing"):
            descriptor, temporary = tempfile.mkstemp(prefix=_UNFINISHED, dir=self.folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(self.folder / name)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            _sync_folder(self.folder)


def _names(root: str) -> tuple[str, str, str]:
    """The files of `root`: the bytes, the list of durable pieces, the .torrent."""
    return root, f"{root}.have", f"{root}.torrent"


def _blocks(path: Path) -> int:
    """Bytes that a file takes on the disk (POSIX counts in blocks of 512); 0 if there is none."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _holds(file: BinaryIO, content: Content, number: int) -> bool:
    """Whether piece `number` of `content` is in `file`."""
    file.seek(number * content.piece_length)
    return _is_piece(file.read(min(content.piece_length, content.size - file.tell())), content, number)


def _is_piece(raw: bytes, content: Content, number: int) -> bool:
    """Whether `raw` is piece `number` of `content`, by its hash tree."""
    expected = content.piece_layer[number * 32 : number * 32 + 32] or bytes.fromhex(content.root)
    return bool(raw) and root_of_piece(raw, content) == expected


@contextmanager
def _told(path: Path, doing: str) -> Iterator[None]:
    """Turns the system's error into ours."""
    try:
        yield
    except OSError as cause:
        key = "storage.full" if cause.errno in {errno.ENOSPC, errno.EDQUOT} else "storage.failed"
        raise error(key, f"{doing} {path} failed", why=cause.strerror or str(cause), path=str(path)) from cause


def _sync_folder(folder: Path) -> None:
    """A rename or removal is on the disk only once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
