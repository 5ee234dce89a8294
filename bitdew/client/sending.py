"""Sending bytes to the repository: read once, identified while they are sent, gone on with where it broke off.

Owns the parts in which they go, how many are under way, and how long a service that is away is waited for. What is
there already and what is zeros is not sent. The service says what the bytes are, and so does this side: they agree, or
nothing comes of it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from pydantic import BaseModel

from bitdew.core.errors import BitDewError, error
from bitdew.wire import models as m

from .flow import is_held, parts, passing, released

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from bitdew.core.content import Content

    from .reading import Piece, PieceStream, Reader

    Progress = Callable[[int, int], None]

R = TypeVar("R", bound=BaseModel)
CHUNK: Final = 256 * 1024
"""Bytes that are handed to the line at once."""
PART: Final = 16 * 2**20
"""Bytes of one part, if pieces are not larger: no more is lost of each that is under way if the service's machine dies.
A broken line costs less: of a part that breaks off, the service keeps the pieces that came."""
LANES: Final = 3
"""Parts that are sent at once: while one waits for the service to make it durable, the line is not idle."""
PATIENCE: Final = 120.0
"""Seconds without a byte after which a service that is away is waited for no more."""
PAUSE: Final = 0.5
"""Seconds before the first attempt to go on; each one after it waits twice as long, up to `LONGEST_PAUSE`."""
LONGEST_PAUSE: Final = 10.0
COMPLETE_SECONDS: Final = 600.0
"""Seconds that the service may take to look over what came: it may have a terabyte of holes to look at."""


class Ask(Protocol):
    """Calls the service."""

    async def __call__(
        self,
        method: str,
        path: str,
        reply: type[R],
        *,
        body: BaseModel | AsyncIterator[bytes] | None = None,
        query: dict[str, str] | None = None,
        seconds: float | None = ...,
    ) -> R:
        """As `Transport.call`."""


class Sending:
    """One source on its way into one upload."""

    def __init__(self, ask: Ask, reader: Reader, upload: str, progress: Progress | None, patience: float) -> None:
        """`progress` is called with the bytes that are through, sent or not, and their total."""
        self._ask = ask
        self._reader = reader
        self._path = f"/v1/uploads/{upload}"
        self._progress = progress or (lambda _done, _total: None)
        self._patience = patience
        self._there = bytearray(reader.tree.pieces)
        self._done = 0
        self._moved = asyncio.get_running_loop().time()

    async def run(self) -> Content:
        """Send what is missing, and complete the upload; what the bytes are.

        Raises:
            BitDewError: `disk.changed`, what the source and the service say; `service.unreachable`, if the service
                stays away: what was sent stays there for a while.
        """
        pause = PAUSE
        while True:
            before = self._moved
            try:
                while await self._learn():
                    await self._send_missing()
                return await self._complete()
            except BitDewError as fault:
                if fault.key != "service.unreachable":
                    raise
                now = asyncio.get_running_loop().time()
                if now - self._moved + pause > self._patience:
                    raise _given_up(fault) from fault
                pause = PAUSE if self._moved != before else min(2 * pause, LONGEST_PAUSE)
                await asyncio.sleep(pause)

    async def _learn(self) -> bool:
        """Ask what is there; whether anything is to be read or sent."""
        tree = self._reader.tree
        there, self._there = (await self._ask("GET", self._path, m.UploadView)).there, bytearray(tree.pieces)
        for start, end in there:
            first, behind = start // tree.piece_length, -(-end // tree.piece_length)
            self._there[first:behind] = b"\1" * (behind - first)
        left = sum(tree.length(number) for number in range(tree.pieces) if self._is_open(number))
        self._done = tree.size - left
        self._progress(self._done, tree.size)
        return left > 0

    def _is_open(self, number: int) -> bool:
        """Whether piece `number` has to be read or sent."""
        return not self._reader.tree.has(number) or self._is_missing(number)

    def _is_missing(self, number: int) -> bool:
        """Whether piece `number` has to be sent, as far as is known."""
        return not self._there[number] and not self._reader.is_zeros(number)

    async def _send_missing(self) -> None:
        regions = self._regions()
        lanes = [asyncio.create_task(self._lane(regions), name=f"sending {lane}") for lane in range(LANES)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    def _regions(self) -> Iterator[tuple[int, int]]:
        """What is open, in stretches of no more pieces than a part may have."""
        tree = self._reader.tree
        most, number = max(1, PART // tree.piece_length), 0
        while number < tree.pieces:
            if not self._is_open(number):
                number += 1
                continue
            end = number + 1
            while end < min(tree.pieces, number + most) and self._is_open(end):
                end += 1
            yield number, end
            number = end

    async def _lane(self, regions: Iterator[tuple[int, int]]) -> None:
        for first, end in regions:
            async with aclosing(self._reader.pieces(first, end, self._is_missing)) as pieces:
                await self._send_region(pieces)

    async def _send_region(self, pieces: PieceStream) -> None:
        """Send what has to be of some pieces: each stretch without a gap is a part."""
        ahead = await pieces.next()
        while ahead is not None:
            if ahead.raw is None:
                self.through(ahead.number)
                ahead = await pieces.next()
                continue
            await released()
            run = _Run(ahead, pieces, self)
            offset = {"offset": str(ahead.number * self._reader.tree.piece_length)}
            # No limit on the whole: a part over a slow line takes minutes.
            try:
                await self._ask("PUT", self._path, m.PartDone, body=run.chunks(), query=offset, seconds=None)
            except BitDewError:
                if run.fault is not None:
                    raise run.fault from None
                raise
            ahead = run.ahead

    def through(self, number: int) -> None:
        """Piece `number` was sent, or need not be."""
        self._moved = asyncio.get_running_loop().time()
        self._done += self._reader.tree.length(number)
        self._progress(self._done, self._reader.tree.size)

    async def _complete(self) -> Content:
        content = await self._reader.content()
        request = m.CompleteRequest(root=content.root)
        path = f"{self._path}/complete"
        done = await self._ask("POST", path, m.UploadDone, body=request, seconds=COMPLETE_SECONDS)
        if (done.root, done.size) != (content.root, content.size):
            why = f"received was the root {done.root[:16]}…, sent {content.root[:16]}…"
            raise error("disk.changed", f"{self._reader.source.label} did not arrive as it was read", why=why)
        return content


class _Run:
    """A stretch of pieces that are sent as one part.

    Attributes:
        ahead: The piece that was read behind the stretch, if there is one.
        fault: Why reading ended, if it failed: the sender sees only that the body broke off.
    """

    def __init__(self, first: Piece, pieces: PieceStream, sending: Sending) -> None:
        self.ahead: Piece | None = first
        self.fault: BitDewError | None = None
        self._pieces = pieces
        self._sending = sending

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes of the stretch."""
        piece = self.ahead
        try:
            while piece is not None and piece.raw is not None:
                for chunk in sliced(piece.raw):
                    for part in parts(chunk):
                        await passing(len(part))
                        yield part
                self._sending.through(piece.number)
                behind = piece.number + 1
                piece = self.ahead = await self._pieces.next()
                # A part that has to stand still ends: a service that hears nothing for a minute gives an upload up.
                if piece is not None and (piece.number != behind or is_held()):
                    return
        except BitDewError as fault:
            self.fault = fault
            raise


def sliced(raw: bytes) -> Iterator[bytes]:
    """`raw` in chunks: encrypting one takes no longer than the event loop may be held up."""
    for offset in range(0, len(raw), CHUNK):
        yield raw[offset : offset + CHUNK]


def _given_up(fault: BitDewError) -> BitDewError:
    do = "Start the service, or mend the line, and give the same command again: it goes on where it stopped."
    return error(fault.key, fault.message, why=fault.why, do=do, **fault.fields)
