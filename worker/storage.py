"""The folder of copies: one file for each content, what is needed to go on fetching it, and how much room there is.

Owns `<home>/copies`: `<root>` (the bytes), `<root>.torrent` (how they are fetched and verified), `<root>.have` (which
pieces are durable), `<root>.sketch` and `<root>.blocks` (what the blocks are, to compare it with others). It must not
decide what is held, and it removes nothing but these files, on request: what it does not know stays.

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
from typing import TYPE_CHECKING, Final, Literal

from bitdew import holes
from bitdew.core.errors import error
from bitdew.core.units import format_size

from .entries import HeldCopy
from .eviction import Leftover
from .pieces import forget_cached, holds, is_piece

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from bitdew.core.content import Content

MARGIN: Final = 16 * 2**20
"""Bytes of the file system that are left to everybody else."""

_OURS: Final = re.compile(r"(?P<root>[0-9a-f]{64})(?:\.(?:torrent|have|sketch|blocks))?")
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
        self._beside = 0

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
            counted = self._sizes.get(root, 0)
            used = sum(self._sizes.values()) - counted + self._beside
            # What counts in full already stays let in: a quota that was lowered concerns what is new.
            if size > counted and used + size > self.quota:
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

    def lend(self, quota: int) -> None:
        """Hold `quota` bytes of copies at most from now on. What was let in stays, even if it is more."""
        with self._lock:
            self.quota = quota

    def stand_beside(self, size: int) -> None:
        """Machines take `size` bytes of the quota beside the copies from now on."""
        with self._lock:
            self._beside = size

    def left(self) -> int:
        """Bytes of the quota that are free; less than 0 if more is taken than is lent."""
        with self._lock:
            return self.quota - sum(self._sizes.values()) - self._beside

    def keep_room(self, root: str, size: int) -> None:
        """An earlier start let `root` in, of `size` bytes: it stays let in, whatever the quota is now."""
        with self._lock:
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
        """Bytes that copies and machines' disks take, and bytes that the file system could take.

        Copies on their way count at their full size.

        Raises:
            HostError: `storage.failed`.
        """
        with self._lock, _told(self.folder, "Measuring"):
            return sum(self._sizes.values()) + self._beside, max(0, shutil.disk_usage(self.folder).free - MARGIN)

    def counted(self) -> set[str]:
        """The contents that count: something of them is here, or coming."""
        with self._lock:
            return set(self._sizes)

    def leftovers(self, roots: Iterable[str]) -> list[Leftover]:
        """What is here of `roots`; those of which nothing is are left out.

        Raises:
            HostError: `storage.failed`.
        """
        found = []
        for root in roots:
            with _told(self.path(root), "Measuring"):
                size = sum(_blocks(self.folder / name) for name in _names(root))
                if size and (status := _status(self.path(root))) is not None:
                    found.append(Leftover(status.st_mtime_ns, root, size))
        return found

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

    def write_nothing(self, root: str) -> None:
        """Make the file of `root`, which has no bytes. Raises HostError `storage.full`, `storage.failed`."""
        self._write(root, b"")

    def read_have(self, root: str) -> bytes | None:
        """The bitfield of the pieces of `root` that are durable, or None if none is known to be."""
        return self._read(f"{root}.have")

    def write_have(self, root: str, field: bytes) -> None:
        """Keep the bitfield of the pieces of `root` that are durable.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        self._write(f"{root}.have", field)

    def read_about_blocks(self, root: str, kind: Literal["sketch", "blocks"]) -> bytes | None:
        """The sketch of `root`, or the hashes of all its blocks; None if they are not known here."""
        return self._read(f"{root}.{kind}")

    def write_about_blocks(self, root: str, kind: Literal["sketch", "blocks"], raw: bytes) -> None:
        """Keep the sketch of `root`, or the hashes of all its blocks.

        Raises:
            HostError: `storage.full`, `storage.failed`.
        """
        self._write(f"{root}.{kind}", raw)

    def others(self, root: str, smallest: int) -> list[str]:
        """The contents beside `root` of which there may be `smallest` bytes or more here.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.folder, "Reading"):
            paths = [self.folder / match["root"] for p in self.folder.iterdir() if (match := _OURS.fullmatch(p.name))]
            return sorted({path.name for path in paths if path.name != root and _blocks(path) >= smallest})

    def proves(self, root: str, content: Content, field: bytes) -> bool:
        """Whether the pieces that the bitfield `field` names are in the file of `root` as they should be.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.path(root), "Reading"), self.path(root).open("rb") as file:
            named = (n for n in range(content.pieces) if field[n // 8] & (0x80 >> n % 8))
            return all(holds(file, content, number) for number in named)

    def has_piece(self, content: Content, number: int) -> bool:
        """Whether piece `number` of `content` is in its file as it should be.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.path(content.root), "Reading"), self.path(content.root).open("rb") as file:
            return holds(file, content, number)

    def reads_well(self, content: Content, number: int) -> bool:
        """As `has_piece`, from the disk itself rather than from the memory of what was read or written lately.

        Raises:
            HostError: `storage.failed`.
        """
        with _told(self.path(content.root), "Reading"), self.path(content.root).open("rb") as file:
            forget_cached(file, number * content.piece_length, content.piece_length)
            good = holds(file, content, number)
            forget_cached(file, number * content.piece_length, content.piece_length)
            return good

    def put_piece(self, content: Content, number: int, raw: bytes) -> bool:
        """Write `raw` into the file as piece `number` of `content`, if it is that; otherwise nothing, and False.

        It is durable only after a sync.

        Raises:
            HostError: `storage.full`; `storage.failed`, also if the file is gone.
        """
        if not is_piece(raw, content, number):
            return False
        with _told(self.path(content.root), "Writing"), self.path(content.root).open("r+b") as file:
            holes.put(file.fileno(), raw, number * content.piece_length)
        return True

    def put_blocks(self, root: str, start: int, raw: bytes) -> None:
        """Write `raw`, which was verified, into the file of `root` at the byte `start`. It is durable after a sync.

        Raises:
            HostError: `storage.full`; `storage.failed`, also if the file is gone.
        """
        with _told(self.path(root), "Writing"), self.path(root).open("r+b") as file:
            holes.put(file.fileno(), raw, start)

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


def _names(root: str) -> tuple[str, ...]:
    """The files of `root`: the bytes, the list of durable pieces, the .torrent, and what is known of the blocks."""
    return root, f"{root}.have", f"{root}.torrent", f"{root}.sketch", f"{root}.blocks"


def _status(path: Path) -> os.stat_result | None:
    """What the system knows of a file; None if there is none."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _blocks(path: Path) -> int:
    """Bytes that a file takes on the disk (POSIX counts in blocks of 512); 0 if there is none."""
    status = _status(path)
    return 0 if status is None else status.st_blocks * 512


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
