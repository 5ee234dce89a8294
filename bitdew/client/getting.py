"""Data come back: each piece verified, put where they are wanted once they are whole; over HTTP here, in ranges.

Owns these calls and their order. The service's word is taken for nothing but a datum's root: what comes is measured by
that.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import stamina

from bitdew.core.content import Content, piece_length_for, root_of_piece
from bitdew.core.data import Kind
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot, checked_name
from bitdew.swarm.metainfo import read_metainfo
from bitdew.tasks import to_the_end
from bitdew.wire import models as m

from .connection import name_part
from .flow import passing, released
from .from_hosts import HostCalls
from .part import PartFile, in_the_way, no_room
from .unpacking import Unpacking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    Progress = Callable[[int, int], None]

RUN: Final = 16 * 2**20
"""Bytes that one request asks for: so many that requests cost nothing, so few that a broken one loses little."""
AT_ONCE: Final = 4
"""Requests under way at a time: one alone waits for each piece to be hashed and written."""
ATTEMPTS: Final = 8
"""Times that a range is asked for while the service does not answer: for about 20 seconds."""
KNOWN: Final = 8
"""Contents whose hashes are remembered, 2 MiB each at most: who reads a datum in many parts is told them once."""
LARGEST_READ: Final = 64 * 2**20
"""Bytes of one `read`, which are all in memory at once."""


@dataclass(frozen=True, slots=True)
class Got:
    """A datum that came back.

    Attributes:
        path: Where it is now.
        data: What it is.
        fetched: Bytes that came for it; the rest was there from an earlier attempt, or is zeros.
    """

    path: Path
    data: m.DataView
    fetched: int


class GetCalls(HostCalls):
    """The part of `BitDew` by which bytes come back."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        super().__init__(folder, url)
        self._contents: dict[ContentRoot, Content] = {}

    async def get(
        self,
        name: str,
        path: Path | None = None,
        *,
        force: bool = False,
        archive: bool = False,
        checking: Progress | None = None,
        fetching: Progress | None = None,
        unpacking: Progress | None = None,
    ) -> Got:
        """Bring the datum `name` to `path`: a file, or a folder, as it was put.

        What the repository does not have comes from the hosts that hold it, or from its publisher, by swarm. What has
        come is kept beside it, in a file that ends in `.part`, until all is there: if it breaks off, the same call goes
        on from there. Zeros are not fetched over HTTPS.

        Args:
            name: The datum's name or uid.
            path: Where it is to be; in the current folder under its name by default.
            force: Whether a file may take a file's place, and a folder a folder's.
            archive: Whether a folder is to come as its archive, which `tar` unpacks.
            checking: Called with the bytes of an earlier attempt that were looked at, and their total.
            fetching: Called with the bytes that came, and how many are to come.
            unpacking: Called with the bytes of the archive that were unpacked, and their total.

        Raises:
            BitDewError: `data.not-found`; `data.nowhere`, if neither the repository nor any host that is there now
                has it; `data.in-the-way`, `swarm.stalled`,
                `disk.file-missing` if there is no such folder, `storage.full` before anything is fetched,
                `storage.locked`, `storage.failed`, `swarm.corrupt`, `input.invalid` for an archive that is none.
        """
        datum = await self._living(name)
        target = await asyncio.to_thread(Path(path or checked_name(datum.name)).absolute)
        unpacks = datum.kind is Kind.FOLDER and not archive
        await asyncio.to_thread(_require_free, target, force=force, folder=unpacks)
        if datum.awaited:
            await self._who_has(datum.name)  # rather told before anything is made
        content = await self._content(datum)
        part = await asyncio.to_thread(PartFile, target.with_name(f"{target.name}.{content.root[:16]}.part"), content)
        try:
            await _look_again(part, checking)
            missing = part.missing()
            room = missing + (content.size if unpacks else 0)
            free = (await asyncio.to_thread(shutil.disk_usage, target.parent)).free
            if free < room:
                raise no_room(target, room, free)
            if datum.awaited and missing:
                await self._fetch_from_hosts(datum.name, part, missing, fetching)
            else:
                await self._fetch(part, missing, fetching)
            if not unpacks:
                await to_the_end(asyncio.to_thread(part.become, target, force=force))
            else:
                await _unpack(Unpacking(part.read, content.size, target, unpacking), force=force)
                await asyncio.to_thread(part.remove)
            return Got(target, datum, missing)
        finally:
            part.close()

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of the datum `name` from `start` up to, not including, `end`: at most 64 MiB of them, verified.

        Of a folder, these are its archive's.

        Raises:
            BitDewError: `data.not-found`, also while its bytes are not in the repository; `input.invalid` for a range
                that the datum does not have, `input.too-large`, `swarm.corrupt`.
        """
        async with self.turns:
            datum = await self._present(name)
            return await self._read(datum, name, start, datum.size if end is None else end)

    # Inside ---------------------------------------------------------------------------------------------------------

    async def _read(self, datum: m.DataView, name: str, start: int, end: int) -> bytes:
        if not 0 <= start <= end <= datum.size:
            why = f"it has {datum.size} bytes"
            raise error("input.invalid", f"{name!r} has no bytes from {start} to {end}", why=why)
        if end - start > LARGEST_READ:
            why = f"{end - start} bytes were asked for, and {LARGEST_READ} are allowed"
            raise error("input.too-large", f"So much of {name!r} can't be read at once", why=why)
        if start == end:
            return b""
        content = await self._content(datum)
        first, stop = start // content.piece_length, -(-end // content.piece_length)
        parts: list[bytes] = []
        async with aclosing(self._pieces(content, first, stop)) as pieces:
            async for number, raw in pieces:
                if await asyncio.to_thread(root_of_piece, raw, content) != _expected(content, number):
                    raise _corrupt(content, number)
                parts.append(raw)
        skipped = first * content.piece_length
        return b"".join(parts)[start - skipped : end - skipped]

    async def _living(self, name: str) -> m.DataView:
        datum = (await self._call("GET", f"/v1/data/{name_part(name)}", m.AnyDatum)).root
        if not datum.alive:
            raise error("data.not-found", f"There is no datum {name!r} any more", why=datum.died_because, name=name)
        return datum

    async def _present(self, name: str) -> m.DataView:
        """The datum, provided that its bytes can be fetched from the repository."""
        datum = await self._living(name)
        if datum.awaited:
            why = "its bytes have not come there: they are still to be sent, or their publisher offers them itself"
            do = f"See where copies are, and wait: bitdew data where {datum.name} --watch"
            raise error("data.not-found", f"The repository does not have {name!r}", why=why, do=do, name=name)
        return datum

    async def _content(self, datum: m.DataView) -> Content:
        """What the datum's bytes have to be, piece by piece."""
        root, length = ContentRoot(datum.root), piece_length_for(datum.size)
        if datum.size <= length:
            return Content(root, datum.size, length, b"")
        if root in self._contents:
            return self._contents[root]
        reply = await self._call("GET", f"/v1/metainfo/{root}", m.MetainfoReply)
        content = (await asyncio.to_thread(read_metainfo, reply.metainfo, expected=root)).content
        if content.size != datum.size:
            why = f"it says {datum.size} bytes of the datum, and {content.size} of its content"
            raise error("service.version", f"The service contradicts itself about {datum.name!r}", why=why)
        if len(self._contents) >= KNOWN:
            del self._contents[next(iter(self._contents))]
        self._contents[root] = content
        return content

    async def _fetch(self, part: PartFile, missing: int, progress: Progress | None) -> None:
        """Bring every missing piece into `part`."""
        runs, done = part.runs(RUN), 0

        def came(length: int) -> None:
            nonlocal done
            done += length
            if progress is not None:
                progress(done, missing)

        async def fetch_runs() -> None:
            for first, end in runs:  # all tasks take from the same
                await self._fetch_run(part, first, end, came)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(fetch_runs())
        except BaseExceptionGroup as faults:
            raise _first(faults) from None

    async def _fetch_run(self, part: PartFile, first: int, end: int, came: Callable[[int], None]) -> None:
        """Bring pieces into `part`, however often it breaks off; `came` is called with the bytes of each."""

        async def go_on() -> None:
            nonlocal first
            async with aclosing(self._pieces(part.content, first, end)) as pieces:
                async for number, raw in pieces:
                    if not await to_the_end(asyncio.to_thread(part.put, number, raw)):
                        raise _corrupt(part.content, number)
                    first = number + 1
                    came(len(raw))

        retrying = stamina.AsyncRetryingCaller(
            attempts=ATTEMPTS, timeout=None, wait_initial=0.2, wait_max=10.0, wait_jitter=0.2, wait_exp_base=2
        )
        await retrying(_passes, go_on)

    async def _pieces(self, content: Content, first: int, end: int) -> AsyncGenerator[tuple[int, bytes]]:
        """The pieces from `first` up to, not including, `end`, as they come."""
        if self._line is None:
            raise RuntimeError("use `async with BitDew.connect() as ...`")
        length, buffer, number = content.piece_length, bytearray(), first
        stop = min(end * length, content.size)
        async with aclosing(self._line.download(f"/v1/content/{content.root}", first * length, stop)) as chunks:
            async for chunk in chunks:
                await released()
                await passing(len(chunk))
                buffer += chunk
                while number < end and len(buffer) >= (wanted := min(length, content.size - number * length)):
                    raw = bytes(memoryview(buffer)[:wanted])
                    del buffer[:wanted]
                    yield number, raw
                    number += 1


async def _look_again(part: PartFile, progress: Progress | None) -> None:
    """Find out what is there from an earlier attempt."""
    size, length, some = part.content.size, part.content.piece_length, False
    for number in range(part.content.pieces):
        some = await to_the_end(asyncio.to_thread(part.look, number)) or some
        if progress is not None and some:
            progress(min((number + 1) * length, size), size)


async def _unpack(unpacking: Unpacking, *, force: bool) -> None:
    task = asyncio.ensure_future(asyncio.to_thread(unpacking.run, force=force))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        unpacking.stopped = True
        await asyncio.wait({task})
        raise


def _require_free(target: Path, *, force: bool, folder: bool) -> None:
    """Refuse a target that what comes could not be put at: better now than after 20 GB."""
    if not target.parent.is_dir():
        do = "Make it first, or choose another path."
        raise error("disk.file-missing", f"There is no folder {target.parent}", do=do, path=str(target.parent))
    if os.path.lexists(target):
        is_folder = target.is_dir() and not target.is_symlink()
        if not force or is_folder != folder:
            raise in_the_way(target)


def _expected(content: Content, number: int) -> bytes:
    return content.piece_layer[32 * number : 32 * number + 32] or bytes.fromhex(content.root)


def _passes(fault: Exception) -> bool:
    """Whether asking again may help."""
    return isinstance(fault, BitDewError) and (fault.kind.fault == "service" or fault.kind.exit_code == 6)


def _corrupt(content: Content, number: int) -> BitDewError:
    why = f"piece {number} of {content.pieces} is wrong"
    do = "Run it again; if it stays so, whoever put it can mend it by putting the same file again."
    message = f"What the service sends of {content.root[:16]}… is not what was published"
    return error("swarm.corrupt", message, why=why, do=do, piece=number, root=content.root)


def _first(faults: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first of several failures that is ours, or else the first."""
    ours, _others = faults.split(BitDewError)
    one: BaseException = ours or faults
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    return one
