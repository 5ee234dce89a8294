"""The repository: the service's own storage, and the first seeder of what is in it.

Owns the folder with uploads under way and files by content. The same bytes are stored once, whatever their names. It
decides nothing about who should have a copy. A file that no datum refers to is reported, never deleted by itself.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from bitdew.clock import SystemClock
from bitdew.core.clock import Clock
from bitdew.core.content import Content, ContentHasher
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, Uid, new_uid
from bitdew.core.units import format_size
from bitdew.swarm.metainfo import Metainfo, build_metainfo, read_metainfo
from bitdew.swarm.session import Swarm
from bitdew.swarm.transfer import Transfer

log = structlog.get_logger(__name__)
RESERVE: Final = 64 * 2**20
"""Bytes of the file system that uploads leave free, for the database and logs."""


SILENCE: Final = 60.0
"""Seconds within which the next bytes of an upload have to come."""
FORGET: Final = 3600.0
"""Seconds after which an upload that nobody goes on with no longer holds its room."""


@dataclass(slots=True)
class Upload:
    """Bytes on their way in."""

    uid: Uid
    name: str
    size: int
    path: Path
    content: Content | None = None
    receiving: bool = False
    received: int = 0
    touched: float = 0.0


class Repository:
    """Receives, keeps and seeds files."""

    def __init__(self, folder: Path, swarm: Swarm, clock: Clock | None = None, uploads: Path = Path("uploads")) -> None:
        """Where several services share `folder`, each has a folder for uploads of its own in it: `uploads`."""
        self._clock: Clock = clock or SystemClock()
        self._folder = folder
        self._files = folder / "files"
        self._uploading = folder / uploads
        self._swarm = swarm
        self._uploads: dict[Uid, Upload] = {}
        self._seeds: dict[ContentRoot, Transfer] = {}
        self._sent: Counter[ContentRoot] = Counter()

    async def open(self, living: Mapping[tuple[ContentRoot, int], bool]) -> list[ContentRoot]:
        """Seed the files of living data, but those not known to be good; the contents that have no whole file.

        `living` has the contents and their sizes, each with whether its file was good when it was last looked at.
        """
        await asyncio.to_thread(self._prepare_folders)
        damaged = []
        known = set()
        for (root, size), good in living.items():
            known.add(root)
            if not good:
                damaged.append(root)
                continue
            found = await asyncio.to_thread(_size_of, self._path(root))
            if found == size and (metainfo := await self._stored_metainfo(root)) is not None:
                await self._seed(metainfo)
            else:
                damaged.append(root)
        strays = await asyncio.to_thread(_files_in, self._files) - known
        if strays:
            log.warning("files of no known datum are kept", folder=str(self._files), files=sorted(strays))
        return damaged

    async def require_folder(self) -> None:
        """Refuse to go on without a folder that has been a repository before.

        Raises:
            HostError: `storage.failed`.
        """
        if not await asyncio.to_thread(self._files.is_dir):
            why = f"there is no {self._files}, and the database knows of bytes in it"
            do = (
                f"Mount it, or give --repository the folder that the services share. If it is lost, make {self._files}."
            )
            raise error("storage.failed", f"{self._folder} is not the repository", why=why, do=do)

    def _prepare_folders(self) -> None:
        self._files.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._uploading, ignore_errors=True)  # an upload does not outlive the process that receives it
        self._uploading.mkdir(parents=True)

    def _path(self, root: ContentRoot) -> Path:
        return self._files / root

    async def begin(self, name: str, size: int) -> Upload:
        """Make room for an upload.

        Raises:
            UserError: `disk.empty`; HostError: `storage.full`, before a byte is sent.
        """
        if size < 1:
            raise error("disk.empty", f"The file for {name!r} is empty", name=name)
        now = self._clock.monotonic()
        for stale in [u.uid for u in self._uploads.values() if not u.receiving and now - u.touched > FORGET]:
            await self.abandon(stale)
        usage = await asyncio.to_thread(shutil.disk_usage, self._folder)
        promised = sum(upload.size - upload.received for upload in self._uploads.values())
        free = usage.free - RESERVE - promised
        if free < size:
            raise _full(name, size, max(free, 0))
        uid = new_uid()
        upload = self._uploads[uid] = Upload(uid, name, size, self._uploading / uid, touched=now)
        return upload

    async def receive(self, uid: str, chunks: AsyncIterator[bytes]) -> Content:
        """Store the bytes of an upload and identify them, in one pass.

        Raises:
            UserError: `upload.not-found`, `disk.changed` if they are not as many as announced.
            HostError: `storage.full`, `storage.failed`. In every case of failure the upload is forgotten.
        """
        upload = self.upload(uid)
        if upload.receiving or upload.content is not None:
            raise error("input.invalid", f"Upload {uid} has its bytes already", do="Start another upload.")
        upload.receiving = True
        hasher = ContentHasher(upload.size)
        try:
            with await asyncio.to_thread(upload.path.open, "wb") as file:

                def take(chunk: bytes) -> None:
                    file.write(chunk)
                    hasher.update(chunk)

                def sync() -> None:
                    file.flush()
                    os.fsync(file.fileno())

                async for chunk in _in_time(chunks, upload):
                    _check_room(upload, hasher.seen + len(chunk))
                    await asyncio.to_thread(take, chunk)
                    upload.received = hasher.seen
                await asyncio.to_thread(sync)
            upload.content = hasher.finish()
            upload.receiving, upload.touched = False, self._clock.monotonic()
        except OSError as fault:
            await self.abandon(uid)
            if isinstance(fault, ConnectionError):
                raise
            if fault.errno == 28:  # ENOSPC
                raise _full(upload.name, upload.size, 0) from fault
            raise error("storage.failed", f"The bytes of {upload.name!r} can't be stored", why=str(fault)) from fault
        except BaseException:
            await self.abandon(uid)
            raise
        return upload.content

    def upload(self, uid: str) -> Upload:
        """The upload under way.

        Raises:
            UserError: `upload.not-found`.
        """
        upload = self._uploads.get(Uid(uid))
        if upload is None:
            raise error("upload.not-found", f"There is no upload {uid[:40]!r}")
        return upload

    async def abandon(self, uid: str) -> None:
        """Forget an upload and free its bytes."""
        upload = self._uploads.pop(Uid(uid), None)
        if upload is not None:
            await asyncio.to_thread(upload.path.unlink, missing_ok=True)

    async def adopt(self, upload: Upload) -> Metainfo:
        """Make an upload's bytes a file of the repository, durably. Bytes that are there already are not kept twice."""
        if upload.content is None:
            raise error("input.invalid", f"Upload {upload.uid} has no bytes yet", do="Send them first.")
        metainfo = build_metainfo(upload.content)
        await asyncio.to_thread(self._store, upload, metainfo)
        del self._uploads[upload.uid]
        return metainfo

    def _store(self, upload: Upload, metainfo: Metainfo) -> None:
        target = self._path(metainfo.content.root)
        torrent = target.with_suffix(".torrent")
        try:
            partial = self._uploading / f"{upload.uid}.torrent"
            with partial.open("wb") as file:
                file.write(metainfo.encoded)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(torrent)
            # A replacement mends a damaged copy; a seeder that has the old one open is started anew afterwards.
            upload.path.replace(target)
            folder = os.open(self._files, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as fault:
            raise error("storage.failed", f"{upload.name!r} can't be stored", why=str(fault)) from fault

    async def seed(self, metainfo: Metainfo) -> None:
        """Seed a file that was adopted; anew if it was seeded before, since its bytes may have been replaced."""
        await self.withdraw(metainfo.content.root)
        await self._seed(metainfo)

    async def _seed(self, metainfo: Metainfo) -> None:
        root = metainfo.content.root
        if root not in self._seeds:
            self._seeds[root] = await self._swarm.add(metainfo, self._path(root), complete=True)

    async def seed_stored(self, root: ContentRoot, size: int) -> bool:
        """Seed a file that another process put into the shared folder; whether it is there."""
        if self.holds(root, size):
            return True
        found = await asyncio.to_thread(_size_of, self._path(root))
        metainfo = await self._stored_metainfo(root) if found == size else None
        if metainfo is not None:
            await self._seed(metainfo)
        return metainfo is not None

    async def withdraw(self, root: ContentRoot) -> None:
        """Stop seeding; the file stays."""
        transfer = self._seeds.pop(root, None)
        if transfer is not None:
            await self._swarm.remove(transfer)

    async def delete(self, root: ContentRoot) -> None:
        """Stop seeding and free the bytes: the last datum with this content was removed."""
        await self.withdraw(root)
        for path in (self._path(root), self._path(root).with_suffix(".torrent")):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def stamp(self, root: ContentRoot) -> tuple[int, int]:
        """What tells one file of some content from the one that replaces it; zeros if there is none."""
        return await asyncio.to_thread(_stamp_of, self._path(root))

    async def is_whole(self, root: ContentRoot) -> bool:
        """Read the whole file and compare it with its identity."""
        try:
            return await asyncio.to_thread(_root_of, self._path(root)) == root
        except (OSError, BitDewError):
            return False

    def holds(self, root: ContentRoot, size: int) -> bool:
        """Whether this content is here, whole as far as anyone knows."""
        seed = self._seeds.get(root)
        return seed is not None and seed.metainfo.content.size == size

    async def stored(self, roots: set[ContentRoot]) -> set[ContentRoot]:
        """Those of these contents that have a file, whole or not."""
        return roots & await asyncio.to_thread(_files_in, self._files)

    async def still_there(self, contents: set[tuple[ContentRoot, int]]) -> set[tuple[ContentRoot, int]]:
        """Those of these contents whose files are in the folder."""
        return await asyncio.to_thread(lambda: {one for one in contents if _size_of(self._path(one[0])) == one[1]})

    def seeded(self) -> set[ContentRoot]:
        """The contents that are seeded."""
        return set(self._seeds)

    async def file_of(self, root: ContentRoot) -> Path:
        """The whole file of some content, to be read and not changed.

        Raises:
            UserError: `data.not-found`, where its bytes have not come yet, or went.
            HostError: `storage.failed`, where they are not what they should be.
        """
        seed, path = self._seeds.get(root), self._path(root)
        found = await asyncio.to_thread(_size_of, path)
        if seed is not None and found == seed.metainfo.content.size:
            return path
        if seed is None and found < 0:
            why = "its bytes have not come yet, or were removed"
            raise error("data.not-found", f"The repository has no content {root[:64]!r}", why=why, root=root[:64])
        raise error(
            "storage.failed",
            f"The repository's own copy of {root[:16]}… is damaged",
            why="it is not what was published",
            do="Whoever published it can mend it: add the same file again, under the same name.",
            root=root[:64],
        )

    async def metainfo(self, root: ContentRoot) -> bytes:
        """The .torrent of some content.

        Raises:
            UserError: `data.not-found`.
        """
        stored = await self._stored_metainfo(root)
        if stored is None:
            raise error("data.not-found", f"The repository has no content {root[:64]!r}", root=root[:64])
        return stored.encoded

    async def _stored_metainfo(self, root: ContentRoot) -> Metainfo | None:
        try:
            encoded = await asyncio.to_thread(self._path(root).with_suffix(".torrent").read_bytes)
            return read_metainfo(encoded, expected=root)
        except (OSError, BitDewError):
            return None

    def egress(self, root: ContentRoot) -> int:
        """Payload bytes sent of some content since the service started, to swarms and over HTTP."""
        transfer = self._seeds.get(root)
        return self._sent[root] + (transfer.progress.uploaded if transfer else 0)

    def count_sent(self, root: ContentRoot, size: int) -> None:
        """So many bytes of some content were sent over HTTP."""
        self._sent[root] += size


def _files_in(folder: Path) -> set[ContentRoot]:
    return {ContentRoot(path.name) for path in folder.iterdir() if not path.suffix}


async def _in_time(chunks: AsyncIterator[bytes], upload: Upload) -> AsyncIterator[bytes]:
    """The chunks, as long as each comes within `SILENCE` seconds of the one before."""
    while True:
        try:
            async with asyncio.timeout(SILENCE):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            why = f"nothing came for {SILENCE:g} s"
            raise error("upload.not-found", f"The upload of {upload.name!r} was given up", why=why) from None
        yield chunk


def _check_room(upload: Upload, bytes_so_far: int) -> None:
    if bytes_so_far > upload.size:
        raise error("disk.changed", f"More bytes came for {upload.name!r} than announced")


def _stamp_of(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def _size_of(path: Path) -> int:
    """Bytes of a file; -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _root_of(path: Path) -> ContentRoot:
    hasher = ContentHasher(path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(4 * 2**20):
            hasher.update(chunk)
    return hasher.finish().root


def _full(name: str, size: int, free: int) -> BitDewError:
    return error(
        "storage.full",
        f"The repository has no room for {name!r}",
        why=f"{format_size(size)} needed, {format_size(free)} free beside the reserve",
        do="Free some space on the service's machine, or start it with --home on a larger disk. Nothing was added.",
        needed=size,
        free=free,
    )
