"""Uploads: bytes on their way in, part by part, in any order, over many connections and starts of the service.

Owns the folder of uploads under way and the room that they are promised. A part that breaks off leaves the whole pieces
that came; the sender asks what is there and goes on. Whoever never comes back is forgotten after a time. What the bytes
are is computed here, piece by piece as they come, and never taken from the sender. It decides nothing about names.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from bitdew.core.clock import Clock
from bitdew.core.content import Content, ContentTree
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import Uid, new_uid
from bitdew.core.units import format_size
from bitdew.tasks import to_the_end
from bitdew.wire import limits

from .receiving import Claims, Part
from .upload_file import About, UploadFile

log = structlog.get_logger(__name__)
RESERVE: Final = 64 * 2**20
"""Bytes of the file system that uploads leave free, for the database and logs."""
FORGET: Final = 3600.0
"""Seconds after which an upload that nobody goes on with no longer holds its room."""


@dataclass(slots=True, eq=False)
class Upload:
    """Bytes on their way in.

    Attributes:
        uid: Its identity.
        about: Whose it is, and of what.
        files: Where it is kept.
        tree: The pieces that have come, and are there to stay.
        content: What the bytes are, once they are complete.
        held: Whether the repository had these bytes already, so that none had to come.
        parts: How many are being received.
        claims: The pieces that are being written.
        completing: Held by whoever completes it.
        touched: When somebody last went on with it, on the steady clock.
    """

    uid: Uid
    about: About
    files: UploadFile
    tree: ContentTree
    content: Content | None = None
    held: bool = False
    parts: int = 0
    claims: Claims = field(default_factory=Claims)
    completing: asyncio.Lock = field(default_factory=asyncio.Lock)
    touched: float = 0.0

    @property
    def name(self) -> str:
        """The name of the datum that it is to be."""
        return self.about.name

    @property
    def size(self) -> int:
        """Bytes of it all."""
        return self.about.size

    @property
    def lacking(self) -> int:
        """Bytes that the disk still has to take."""
        return max(0, self.size - self.about.empty - self.tree.known * self.tree.piece_length)

    @property
    def untouched(self) -> bool:
        """Whether nothing of it has come, or is coming."""
        return self.content is None and not self.parts and not self.tree.known

    def there(self) -> list[tuple[int, int]]:
        """The ranges of bytes that have come and stay: each the first byte, and the one behind the last."""
        found, at, length = [], 0, self.tree.piece_length
        for first, end in self.tree.gaps():
            if first * length > at:
                found.append((at, first * length))
            at = min(end * length, self.size)
        if at < self.size:
            found.append((at, self.size))
        return found


class Uploads:
    """The uploads of one service. `folder` is where their bytes are while they come."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self._clock = clock
        self._uploads: dict[Uid, Upload] = {}
        self._beginning = asyncio.Lock()

    async def open(self) -> None:
        """Take up what an earlier process was receiving, where its sender can find it again."""
        self._uploads = await asyncio.to_thread(self._load)
        await self._forget_stale()

    def _load(self) -> dict[Uid, Upload]:
        self.folder.mkdir(parents=True, exist_ok=True)
        found: dict[Uid, Upload] = {}
        now, steady = self._clock.now().timestamp(), self._clock.monotonic()
        for path in sorted(self.folder.glob("*.upload")):
            files = UploadFile(path.with_suffix(""), lasting=True)
            loaded = files.load()
            if loaded is not None and loaded[0].fingerprint:
                uid, age = Uid(files.path.name), max(0.0, now - files.touched())
                found[uid] = Upload(uid, *(loaded[0], files, loaded[1]), touched=steady - age)
        for path in self.folder.iterdir():
            if Uid(path.stem) not in found and path.is_file():
                path.unlink()
        return found

    @property
    def under_way(self) -> tuple[Uid, ...]:
        """The uploads that can be gone on with."""
        return tuple(self._uploads)

    def promised(self, owner: str, *, but: str) -> int:
        """Bytes of this sender's uploads that go on, as they are to be, but of the one called `but`."""
        its = (one for one in self._uploads.values() if one.about.owner == owner and not self._is_stale(one))
        return sum(one.size for one in its if one.name != but)

    async def begin(self, about: About) -> Upload:
        """Make room for an upload; or find the one that the same sender began for the same bytes.

        Raises:
            UserError: `input.invalid`, if the sender has too many under way.
            HostError: `storage.full`, before a byte is sent; `storage.failed`.
        """
        async with self._beginning:
            await self._forget_stale()
            return self._known(about) or await self._begun(about)

    def _known(self, about: About) -> Upload | None:
        if about.fingerprint:
            for known in self._uploads.values():
                one = known.about
                if (one.owner, one.name, one.size, one.fingerprint) == _key(about):
                    known.touched = self._clock.monotonic()
                    return known
        return None

    async def _begun(self, about: About) -> Upload:
        if sum(known.about.owner == about.owner for known in self._uploads.values()) >= limits.UPLOADS:
            why, do = f"{limits.UPLOADS} of the same sender are under way", "Let some of them come to their end first."
            raise error("input.invalid", f"The upload of {about.name!r} can't begin", why=why, do=do)
        if (free := await self.room()) < about.size - about.empty:
            raise no_room(about.name, about.size - about.empty, free)
        uid = new_uid()
        upload = Upload(
            uid, about, UploadFile(self.folder / uid, lasting=bool(about.fingerprint)), ContentTree(about.size)
        )
        upload.touched = self._clock.monotonic()
        self._uploads[uid] = upload
        try:
            await to_the_end(asyncio.to_thread(upload.files.create, about))
        except BaseException as fault:
            await self.abandon(uid)
            if isinstance(fault, OSError):
                raise told(fault, upload.name, upload.lacking) from fault
            raise
        return upload

    async def room(self) -> int:
        """Bytes that can still come, beside the reserve and what is promised to uploads under way."""
        usage = await asyncio.to_thread(shutil.disk_usage, self.folder)
        return max(0, usage.free - RESERVE - sum(upload.lacking for upload in self._uploads.values()))

    async def _forget_stale(self) -> None:
        for stale in [upload.uid for upload in self._uploads.values() if self._is_stale(upload)]:
            await self.abandon(stale)

    def _is_stale(self, upload: Upload) -> bool:
        return not upload.parts and self._clock.monotonic() - upload.touched > FORGET

    def upload(self, uid: str, owner: str | None = None) -> Upload:
        """The upload under way, of `owner` if one is named.

        Raises:
            UserError: `upload.not-found`.
        """
        upload = self._uploads.get(Uid(uid))
        if upload is None or (owner is not None and upload.about.owner != owner):
            raise error("upload.not-found", f"There is no upload {uid[:40]!r}")
        return upload

    async def receive(self, uid: str, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Take in one part, which begins at `offset`; how many bytes are there now and stay, of the whole upload.

        Several parts may come at once. Whole pieces that came stay, also where the part breaks off.

        Raises:
            UserError: `upload.not-found`; `input.invalid` for a part that begins or ends within a piece, or is too
                large; `disk.changed` if it goes beyond the end.
            HostError: `storage.full`, `storage.failed`.
        """
        upload = self._receiving(uid)
        _require_edge(upload, offset, "begins", upload.size - 1)
        taken = await self._take(upload, offset, chunks, limits.PART)
        if offset + taken != upload.size:
            _require_edge(upload, offset + taken, "ends", upload.size)
        return min(upload.size, upload.tree.known * upload.tree.piece_length)

    async def receive_all(self, uid: str, chunks: AsyncIterator[bytes]) -> Content:
        """Take in all bytes in one part, from the first on; pieces that are there already are passed over.

        In every case of failure the upload is forgotten, unless the line broke off and its sender can find it again.

        Raises:
            UserError: `upload.not-found`, `disk.changed` if they are not as many as announced.
            HostError: `storage.full`, `storage.failed`.
        """
        upload = self._receiving(uid)
        if upload.parts:
            raise error("input.invalid", f"Upload {uid} is being sent already", do="Let that come to its end first.")
        try:
            _require_all(upload, await self._take(upload, 0, chunks, upload.size))
            return await self.complete(uid)
        except BaseException as fault:
            if not upload.about.fingerprint or not isinstance(fault, ConnectionError | asyncio.CancelledError):
                await to_the_end(self.abandon(uid))
            raise

    async def _take(self, upload: Upload, offset: int, chunks: AsyncIterator[bytes], most: int) -> int:
        upload.parts += 1
        try:
            part = Part(upload.files, upload.tree, upload.claims, offset, most)
            return await part.receive(chunks, upload.name)
        except OSError as fault:
            if isinstance(fault, ConnectionError):
                raise
            raise told(fault, upload.name, upload.lacking) from fault
        finally:
            upload.parts -= 1
            upload.touched = self._clock.monotonic()
            if upload.uid in self._uploads:
                await asyncio.to_thread(self._touch, upload)

    def _touch(self, upload: Upload) -> None:
        try:
            upload.files.touch(self._clock.now())
        except OSError as fault:
            log.info("an upload's time could not be kept", upload=upload.uid, why=str(fault))

    async def complete(self, uid: str, root: str | None = None) -> Content:
        """All has come: what did not is zeros. What the bytes are; it may be asked again.

        Raises:
            UserError: `upload.not-found`; `disk.changed` if it is not `root`, what the sender read. Then the upload is
                forgotten. HostError: `storage.full`, `storage.failed`.
        """
        upload = self.upload(uid)
        async with upload.completing:
            if upload.content is None:
                upload.parts += 1  # nobody takes it for forgotten meanwhile
                try:
                    upload.content = await self._completed(upload)
                except OSError as fault:
                    raise told(fault, upload.name, upload.lacking) from fault
                finally:
                    upload.parts -= 1
        content = upload.content
        if root is not None and content.root != root:
            await to_the_end(self.abandon(uid))
            why = f"received was the root {content.root[:16]}…, sent {root[:16]}…"
            raise error("disk.changed", f"{upload.name!r} did not arrive as it was read", why=why)
        return content

    async def _completed(self, upload: Upload) -> Content:
        await upload.claims.close()
        gaps = upload.tree.gaps()
        if gaps:
            await asyncio.to_thread(upload.files.fill, upload.tree, gaps)
            for first, end in gaps:
                upload.tree.put_zeros(first, end)
        return await asyncio.to_thread(upload.tree.content)

    async def abandon(self, uid: str) -> None:
        """Forget an upload and free its bytes."""
        upload = self._uploads.pop(Uid(uid), None)
        if upload is not None:
            upload.claims.refuse()
            await asyncio.to_thread(upload.files.remove)

    async def adopted(self, upload: Upload) -> None:
        """The bytes of an upload went elsewhere, or are not needed: only what was kept about them is removed."""
        self._uploads.pop(upload.uid, None)
        await asyncio.to_thread(upload.files.remove)

    def _receiving(self, uid: str) -> Upload:
        upload = self.upload(uid)
        if upload.content is not None:
            raise error("input.invalid", f"Upload {uid} has its bytes already", do="Start another upload.")
        if upload.parts >= limits.PARTS:
            raise error("input.invalid", f"Upload {uid} is sent in too many parts at once", do="Send fewer at once.")
        return upload


def received(upload: Upload) -> Content:
    """What an upload's bytes are.

    Raises:
        UserError: `input.invalid`, if they have not come.
    """
    if upload.content is None:
        raise error("input.invalid", f"Upload {upload.uid} has no bytes yet", do="Send them first.")
    return upload.content


def _key(about: About) -> tuple[str, str, int, str]:
    return about.owner, about.name, about.size, about.fingerprint


def _require_edge(upload: Upload, offset: int, does: str, most: int) -> None:
    if offset % upload.tree.piece_length or not 0 <= offset <= most:
        why = f"its pieces have {upload.tree.piece_length} bytes, and all of it {upload.size}"
        raise error("input.invalid", f"No part of {upload.name!r} {does} at {offset}", why=why)


def _require_all(upload: Upload, taken: int) -> None:
    if taken != upload.size:
        why = f"{upload.size} announced, {taken} came"
        raise error("disk.changed", f"The bytes of {upload.name!r} are not as many as announced", why=why)


def told(fault: OSError, name: str, needed: int) -> BitDewError:
    """What the disk says of bytes that are to be stored, `needed` more of them."""
    if fault.errno in {28, 122}:  # ENOSPC, EDQUOT
        return no_room(name, needed, 0)
    return error("storage.failed", f"The bytes of {name!r} can't be stored", why=str(fault))


def no_room(name: str, size: int, free: int) -> BitDewError:
    """The error for bytes that the repository has no room for."""
    return error(
        "storage.full",
        f"The repository has no room for {name!r}",
        why=f"{format_size(size)} needed, {format_size(free)} free beside the reserve",
        do="Free some space on the service's machine, or start it with --home on a larger disk. Nothing was added.",
        needed=size,
        free=free,
    )
