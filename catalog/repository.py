"""The repository: the service's own storage, and the first seeder of what is in it.

Owns the folder with files by content; how bytes come into it stands in `uploads`. The same bytes are stored once,
whatever their names. It decides nothing about who should have a copy. A file that no datum refers to is reported, never
deleted by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from bitdew.clock import SystemClock
from bitdew.core.clock import Clock
from bitdew.core.content import ROOT_OF_NOTHING, Content, ContentHasher
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, new_uid
from bitdew.swarm.metainfo import Metainfo, build_metainfo, read_metainfo
from bitdew.swarm.seeder.offer import Offer
from bitdew.swarm.seeder.seeder import Seeder

from .blocks import BlockFiles
from .upload_file import sync_folder
from .uploads import Upload, Uploads, received

log = structlog.get_logger(__name__)
AT_ONCE: Final = 8
"""Small files that are made durable at a time."""


class Repository:
    """Receives, keeps and seeds files."""

    def __init__(
        self, folder: Path, swarm: Seeder, clock: Clock | None = None, uploads: Path = Path("uploads")
    ) -> None:
        """Where several services share `folder`, each has a folder for uploads of its own in it: `uploads`."""
        self._folder = folder
        self._files = folder / "files"
        self.uploads = Uploads(folder / uploads, clock or SystemClock())
        self._swarm = swarm
        self._seeds: dict[ContentRoot, Offer] = {}
        self._has_nothing = False  # the content of no bytes, which is held like others
        self._sent: Counter[ContentRoot] = Counter()
        self.blocks = BlockFiles(self._files)

    async def open(self, living: Mapping[tuple[ContentRoot, int], bool]) -> list[ContentRoot]:
        """Seed the files of living data, but those not known to be good; the contents that have no whole file.

        `living` has the contents and their sizes, each with whether its file was good when it was last looked at.
        """
        await asyncio.to_thread(lambda: self._files.mkdir(parents=True, exist_ok=True))
        await self.uploads.open()
        damaged = []
        known = set()
        for (root, size), good in living.items():
            known.add(root)
            if not good:
                damaged.append(root)
                continue
            found = await asyncio.to_thread(_size_of, self.path(root))
            if found == size and (metainfo := await self.stored_metainfo(root)) is not None:
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

    def path(self, root: ContentRoot) -> Path:
        """Where the bytes of some content are, or would be."""
        return self._files / root

    def is_there(self) -> bool:
        """Whether the folder of the files is; where it is not, no file is gone, but all are out of reach. Blocks."""
        return self._files.is_dir()

    def give(self, upload: Upload, root: ContentRoot) -> Content:
        """Make an upload of which nothing came the content `root`, which is here: the sender has read the same.

        Raises:
            UserError: `data.not-found`, if it is not here; `input.invalid`, if something came.
        """
        here = self._seeds.get(root)
        if here is None or here.metainfo.content.size != upload.size:
            raise error("data.not-found", f"The repository has no content {root[:64]!r} any more", root=root[:64])
        if not upload.untouched:
            raise error("input.invalid", f"Upload {upload.uid} has bytes of its own", do="Complete it with these.")
        upload.content, upload.held = here.metainfo.content, True
        return upload.content

    async def adopt(self, upload: Upload) -> Metainfo:
        """Make an upload's bytes a file of the repository, durably. Bytes that are there already are not kept twice.

        Raises:
            UserError: `input.invalid`, if they have not come; `data.not-found`, if they did not have to, and went.
            HostError: `storage.failed`.
        """
        content = received(upload)
        if upload.held:
            await self.file_of(content.root)
            metainfo = await self.stored_metainfo(content.root)
            if metainfo is None:
                raise error("data.not-found", f"The repository has no content {content.root} any more")
        else:
            metainfo = build_metainfo(content)
            await asyncio.to_thread(self._store, upload, metainfo)
        await self.uploads.adopted(upload)
        return metainfo

    def _store(self, upload: Upload, metainfo: Metainfo) -> None:
        target = self.path(metainfo.content.root)
        try:
            _write(upload.files.path.with_suffix(".torrent"), target.with_suffix(".torrent"), metainfo.encoded)
            # A replacement mends a damaged copy; a seeder that has the old one open is started anew afterwards.
            upload.files.path.replace(target)
            sync_folder(self._files)
        except OSError as fault:
            raise error("storage.failed", f"{upload.name!r} can't be stored", why=str(fault)) from fault

    async def keep_whole(self, contents: Sequence[tuple[Metainfo, bytes]]) -> None:
        """Make files of contents that are small and all here, durably.

        Raises:
            OSError: what the disk says.
        """
        await asyncio.to_thread(self._write_whole, contents)

    def _write_whole(self, contents: Sequence[tuple[Metainfo, bytes]]) -> None:
        def write(one: tuple[Metainfo, bytes]) -> None:
            (metainfo, raw), partial = one, self.uploads.folder / new_uid()
            target = self.path(metainfo.content.root)
            _write(partial, target.with_suffix(".torrent"), metainfo.encoded)
            _write(partial, target, raw)

        # A disk makes several files durable in the time of one.
        with ThreadPoolExecutor(min(AT_ONCE, len(contents))) as threads:
            for _ in threads.map(write, contents):
                pass
        sync_folder(self._files)

    async def keep_metainfo(self, metainfo: Metainfo) -> None:
        """Keep what a content is, durably, without its bytes: somebody else offers those.

        Raises:
            HostError: `storage.failed`.
        """
        if await self.stored_metainfo(metainfo.content.root) is None:
            await asyncio.to_thread(self._store_metainfo, metainfo)

    def _store_metainfo(self, metainfo: Metainfo) -> None:
        torrent = self.path(metainfo.content.root).with_suffix(".torrent")
        try:
            _write(torrent.with_suffix(f".{new_uid()}"), torrent, metainfo.encoded)
            sync_folder(self._files)
        except OSError as fault:
            raise error("storage.failed", f"{torrent.name} can't be stored", why=str(fault)) from fault

    async def seed(self, metainfo: Metainfo) -> None:
        """Seed a file that was adopted; anew if it was seeded before, since its bytes may have been replaced."""
        await self.withdraw(metainfo.content.root)
        await self._seed(metainfo)
        self.blocks.want(metainfo.content)

    async def _seed(self, metainfo: Metainfo) -> None:
        root = metainfo.content.root
        if root == ROOT_OF_NOTHING:
            self._has_nothing = True  # there is no swarm of no bytes
        elif root not in self._seeds:
            self._seeds[root] = await self._swarm.add(metainfo, self.path(root))

    async def seed_stored(self, root: ContentRoot, size: int) -> bool:
        """Seed a file that another process put into the shared folder; whether it is there."""
        if self.holds(root, size):
            return True
        found = await asyncio.to_thread(_size_of, self.path(root))
        metainfo = await self.stored_metainfo(root) if found == size else None
        if metainfo is not None:
            await self._seed(metainfo)
        return metainfo is not None

    async def withdraw(self, root: ContentRoot) -> None:
        """Stop seeding; the file stays."""
        self._has_nothing = self._has_nothing and root != ROOT_OF_NOTHING
        transfer = self._seeds.pop(root, None)
        if transfer is not None:
            self._sent[root] += transfer.uploaded
            await self._swarm.remove(transfer)

    async def delete(self, root: ContentRoot) -> None:
        """Stop seeding and free the bytes: the last datum with this content was removed."""
        await self.withdraw(root)
        await self.blocks.remove(root)
        for path in (self.path(root), self.path(root).with_suffix(".torrent")):
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def stamp(self, root: ContentRoot) -> tuple[int, int]:
        """What tells one file of some content from the one that replaces it; zeros if there is none."""
        return await asyncio.to_thread(_stamp_of, self.path(root))

    async def is_whole(self, root: ContentRoot) -> bool:
        """Read the whole file and compare it with its identity."""
        try:
            return await asyncio.to_thread(_root_of, self.path(root)) == root
        except (OSError, BitDewError):
            return False

    def seeded_content(self, root: ContentRoot) -> Content | None:
        """What is known of a content that is seeded; None if it is not, or has no bytes."""
        seed = self._seeds.get(root)
        return None if seed is None else seed.metainfo.content

    def seeded_contents(self) -> Iterator[Content]:
        """All contents that are seeded and have bytes."""
        return (seed.metainfo.content for seed in self._seeds.values())

    @property
    def busy(self) -> bool:
        """Whether bytes are coming in."""
        return any(self.uploads.upload(uid).parts for uid in self.uploads.under_way)

    def holds(self, root: ContentRoot, size: int) -> bool:
        """Whether this content is here, whole as far as anyone knows."""
        if root == ROOT_OF_NOTHING:
            return self._has_nothing and size == 0
        seed = self._seeds.get(root)
        return seed is not None and seed.metainfo.content.size == size

    def of_size(self, size: int, most: int) -> list[Content]:
        """Contents of this very size that are here, whole as far as anyone knows: `most` of them at most."""
        found = (seed.metainfo.content for seed in self._seeds.values() if seed.metainfo.content.size == size)
        return list(itertools.islice(found, most))

    async def stored(self, roots: set[ContentRoot]) -> set[ContentRoot]:
        """Those of these contents that have a file, whole or not."""
        return roots & await asyncio.to_thread(_files_in, self._files)

    async def still_there(self, contents: set[tuple[ContentRoot, int]]) -> set[tuple[ContentRoot, int]]:
        """Those of these contents whose files are in the folder."""
        return await asyncio.to_thread(lambda: {one for one in contents if _size_of(self.path(one[0])) == one[1]})

    def seeded(self) -> set[ContentRoot]:
        """The contents that are seeded."""
        return {*self._seeds, *([ROOT_OF_NOTHING] if self._has_nothing else [])}

    async def file_of(self, root: ContentRoot) -> Path:
        """The whole file of some content, to be read and not changed.

        Raises:
            UserError: `data.not-found`, where its bytes have not come yet, or went.
            HostError: `storage.failed`, where they are not what they should be.
        """
        seed, path = self._seeds.get(root), self.path(root)
        found = await asyncio.to_thread(_size_of, path)
        if found == (seed.metainfo.content.size if seed else 0) and self.holds(root, found):
            return path
        if seed is None and found < 0:
            why = "its bytes have not come yet, or were removed"
            raise error("data.not-found", f"The repository has no content {root[:64]!r}", why=why, root=root[:64])
        raise error(
            "storage.failed",
            f"The repository's own copy of {root[:16]}… is damaged",
            why="it is not what was published",
            do="Nothing, if a host holds it: it is mended from there. Otherwise whoever published it can mend it: add "
            "the same file again, under the same name.",
            root=root[:64],
        )

    async def metainfo(self, root: ContentRoot) -> bytes:
        """The .torrent of some content.

        Raises:
            UserError: `data.not-found`.
        """
        return (await self._known(root)).encoded

    async def content(self, root: ContentRoot) -> Content:
        """What is known of some content: its size and its pieces.

        Raises:
            UserError: `data.not-found`.
        """
        return (await self._known(root)).content

    async def _known(self, root: ContentRoot) -> Metainfo:
        stored = await self.stored_metainfo(root)
        if stored is None:
            raise error("data.not-found", f"The repository has no content {root[:64]!r}", root=root[:64])
        return stored

    async def stored_metainfo(self, root: ContentRoot) -> Metainfo | None:
        """What is known of some content, whose bytes may be here or not; None if nothing is."""
        try:
            encoded = await asyncio.to_thread(self.path(root).with_suffix(".torrent").read_bytes)
            return read_metainfo(encoded, expected=root)
        except (OSError, BitDewError):
            return None

    def egress(self, root: ContentRoot) -> int:
        """Payload bytes sent of some content since the service started, to swarms and over HTTP."""
        transfer = self._seeds.get(root)
        return self._sent[root] + (transfer.uploaded if transfer else 0)

    @property
    def sent(self) -> int:
        """Payload bytes sent of everything since the service started: it only grows."""
        return sum(self._sent.values()) + sum(offer.uploaded for offer in self._seeds.values())

    @property
    def peers(self) -> int:
        """Hosts that are connected to its swarms."""
        return self._swarm.peers

    async def free(self) -> int:
        """Bytes that the file system of its folder has left for it.

        Raises:
            HostError: `storage.failed`.
        """
        try:
            return (await asyncio.to_thread(shutil.disk_usage, self._folder)).free
        except OSError as fault:
            raise error("storage.failed", f"{self._folder} can't be asked for its room", why=str(fault)) from fault

    def count_sent(self, root: ContentRoot, size: int) -> None:
        """So many bytes of some content were sent over HTTP."""
        self._sent[root] += size


def _write(partial: Path, target: Path, raw: bytes) -> None:
    """Make `raw` the file `target`, at once and whole; the name is durable once its folder is."""
    try:
        with partial.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _files_in(folder: Path) -> set[ContentRoot]:
    return {ContentRoot(path.name) for path in folder.iterdir() if not path.suffix}


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
