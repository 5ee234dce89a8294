"""Ranges of data: from the repository over HTTPS, or from the hosts where it has them not, or not as they should be.

Owns when which of the two is asked. The service's word is taken for nothing but a datum's root: whatever comes is
measured by that.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from bitdew.core.blocks import root_of
from bitdew.core.content import Content, piece_length_for, root_of_piece
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot
from bitdew.swarm.metainfo import read_metainfo
from bitdew.wire import models as m
from bitdew.wire.cutting import in_pieces

from .at_hosts import HostReads
from .connection import name_part
from .flow import passing, released

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

KNOWN: Final = 8
"""Contents whose hashes are remembered, 2 MiB each at most: who reads a datum in many parts is told them once."""
LARGEST_READ: Final = 64 * 2**20
"""Bytes of one `read`, which are all in memory at once."""
AVOID_SECONDS: Final = 30.0
"""How long the repository is not asked again for a content that it could not give: the next range comes from hosts."""
_NOT_ITS_COPY: Final = frozenset(
    {"certificate.expired", "certificate.foreign", "certificate.revoked", "certificate.role", "service.not-bitdew"}
)
"""What is wrong with the caller or the line rather than with the repository's copy."""


class RangeCalls(HostReads):
    """The part of `BitDew` by which ranges are read."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        super().__init__(folder, url)
        self._contents: dict[ContentRoot, Content] = {}
        self._readers, self._kept_open, self._closing = {}, {}, set()
        self._avoided: dict[ContentRoot, tuple[float, BitDewError]] = {}

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of the datum `name` from `start` up to, not including, `end`: at most 64 MiB of them, verified.

        What the repository does not have, or not as it should be, comes from the hosts that hold it, or from its
        publisher: the pieces that the range touches, and where ranges are read in order, those that follow. Of a
        folder, the bytes are its archive's.

        Raises:
            BitDewError: `data.not-found`; `data.nowhere`, if the repository does not have it, and nobody else who has
                it is there; `input.invalid` for a range that the datum does not have, `input.too-large`,
                `swarm.corrupt`, `swarm.stalled`.
        """
        async with self.turns:
            datum = await self._living(name)
            return await self._read(datum, name, start, datum.size if end is None else end)

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
        async with aclosing(self._verified(datum, content, first, stop)) as pieces:
            async for _number, raw in pieces:
                parts.append(raw)
        skipped = first * content.piece_length
        return b"".join(parts)[start - skipped : end - skipped]

    async def _living(self, name: str) -> m.DataView:
        datum = (await self._call("GET", f"/v1/data/{name_part(name)}", m.AnyDatum)).root
        if not datum.alive:
            raise error("data.not-found", f"There is no datum {name!r} any more", why=datum.died_because, name=name)
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

    # Where pieces come from -----------------------------------------------------------------------------------------

    async def _verified(
        self, datum: m.DataView, content: Content, first: int, stop: int
    ) -> AsyncGenerator[tuple[int, bytes]]:
        """The pieces from `first` up to, not including, `stop`, in order, verified, from wherever they can be had."""
        fault = self._not_there(datum)
        if fault is None:
            try:
                async with aclosing(self._pieces(content, first, stop)) as pieces:
                    async for number, raw in pieces:
                        if await asyncio.to_thread(root_of_piece, raw, content) != root_of(content, number):
                            raise corrupt(content, number)
                        yield number, raw
                        first = number + 1
            except BitDewError as cause:
                if not leads_to_hosts(cause):
                    raise
                fault = cause
            else:
                return
            await self._turn_from(datum, first, fault)
        try:
            async with aclosing(self._pieces_of_hosts(datum, content, first, stop)) as pieces:
                async for number, raw in pieces:
                    yield number, raw
        except BitDewError as cause:
            self._avoided.pop(content.root, None)  # it is the better one again
            raise both(fault, cause, datum) from cause

    def _pieces(self, content: Content, first: int, end: int) -> AsyncGenerator[tuple[int, bytes]]:
        """The pieces from `first` up to, not including, `end`, as they come from the repository, not verified."""
        return in_pieces(content, range(first, end), partial(self._chunks, content))

    async def _chunks(self, content: Content, start: int, stop: int) -> AsyncGenerator[bytes]:
        if self._line is None:
            raise RuntimeError("use `async with BitDew.connect() as ...`")
        async with aclosing(self._line.download(f"/v1/content/{content.root}", start, stop)) as chunks:
            async for chunk in chunks:
                await released()
                await passing(len(chunk))
                yield chunk

    def _not_there(self, datum: m.DataView) -> BitDewError | None:
        """Why the repository need not be asked for a datum's bytes; None if it is to be."""
        if datum.awaited:
            why = "its bytes have not come there: they are still to be sent, or their publisher offers them itself"
            return error("data.not-found", f"The repository does not have {datum.name!r}", why=why, name=datum.name)
        if datum.damaged:
            why = "" if datum.damage is None else datum.damage.why
            return error("storage.rotten", f"The repository's copy of {datum.name!r} is bad", why=why or "it was read")
        until, fault = self._avoided.get(ContentRoot(datum.root), (0.0, None))
        if fault is not None and asyncio.get_running_loop().time() < until:
            return fault
        self._avoided.pop(ContentRoot(datum.root), None)
        return None

    async def _turn_from(self, datum: m.DataView, piece: int, fault: BitDewError) -> None:
        """The repository could not give a piece: ask it for nothing of that content for a while."""
        if len(self._avoided) >= KNOWN:
            del self._avoided[next(iter(self._avoided))]
        self._avoided[ContentRoot(datum.root)] = asyncio.get_running_loop().time() + AVOID_SECONDS, fault
        await self._tell_of(datum, piece, fault)

    async def _tell_of(self, datum: m.DataView, piece: int, fault: BitDewError) -> None:
        """Have the repository look at its copy, where it may be bad; whether it can be told changes nothing."""
        if fault.key != "service.unreachable":
            with suppress(BitDewError):
                path, body = f"/v1/data/{name_part(datum.uid)}/doubt", m.DoubtRequest(piece=piece)
                await self._call("POST", path, m.DoubtReply, body=body)


def leads_to_hosts(fault: BitDewError) -> bool:
    """Whether what the repository could not give may be had from hosts."""
    return fault.key not in _NOT_ITS_COPY


def corrupt(content: Content, number: int) -> BitDewError:
    """The error for a piece of the repository's that is wrong."""
    why = f"piece {number} of {content.pieces} is wrong"
    do = "Run it again; if it stays so, whoever put it can mend it by putting the same file again."
    message = f"What the service sends of {content.root[:16]}… is not what was published"
    return error("swarm.corrupt", message, why=why, do=do, piece=number, root=content.root)


def both(first: BitDewError, second: BitDewError, datum: m.DataView) -> BitDewError:
    """What to tell where the repository failed with `first`, and then hosts with `second`.

    Where nobody else has it, the repository's failure is what there is to mend; one that had nothing failed in nothing.
    """
    if first.key == "data.not-found":
        return second
    if second.key == "data.nowhere" and first.key != "storage.rotten":
        why = f"{first.why}; {second.why}" if first.why else second.why
        return error(first.key, first.message, why=why, do=first.do, **first.fields)
    if second.key == "service.unreachable":
        return first if first.kind.exit_code == 6 else second
    because = f"{second.why}; the repository: {first}" if second.why else f"the repository: {first}"
    return error(second.key, second.message, why=because, do=second.do, **{**second.fields, "name": datum.name})
