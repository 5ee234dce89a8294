"""Pieces of one content, asked of those who have it: what is wanted now first, then what a reader in order wants next.

Owns whom is dialled, which piece is asked of whom, and what is kept in memory. A piece is given when its hash is right,
and not before; who sent a wrong one is not asked again. Everything ends with `close`: no connection and no task stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Self

from bitdew.core.blocks import is_zeros, length_of_piece, root_of
from bitdew.core.content import root_of_piece
from bitdew.core.errors import BitDewError, error

from ..seeder.wire import READER
from .sources import Sources

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from bitdew.core.host import Endpoint
    from bitdew.swarm.metainfo import Metainfo

    from .source import Source

KEPT: Final = 32 * 2**20
"""Bytes of pieces that are kept in memory, the latest used."""
AHEAD: Final = 12 * 2**20
"""Bytes that are fetched ahead of one who reads in order: less than is kept, or they would go before they are read."""
LOOK_SECONDS: Final = 0.25
"""How often it is looked whether somebody is slow, while something is wanted."""
SILENT_SECONDS: Final = 3.0
"""What a peer has not sent when nothing came from it for so long, another is asked for,"""
SLOW_SECONDS: Final = 2.0
"""and what takes it so long to send, another is asked for too, if one is idle."""
SILENCE_SECONDS: Final = 30.0
"""How long nothing may come of what is waited for."""


class PieceReader:
    """Reads one content. Made and closed in one event loop.

    Attributes:
        received: Payload bytes that came, those thrown away included.
    """

    def __init__(
        self, metainfo: Metainfo, context: ssl.SSLContext, who: Callable[[], Awaitable[list[Endpoint]]]
    ) -> None:
        """Nobody is dialled yet.

        Args:
            metainfo: What is read.
            context: What peers are shown, and held against.
            who: Tells who has it now. It is asked again from time to time.
        """
        self.received = 0
        self._content = metainfo.content
        self._now = asyncio.get_running_loop().time
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._wanted: dict[int, asyncio.Future[bytes]] = {}
        self._waiting: dict[int, int] = {}  # how many wait for a piece
        self._ahead = range(0)
        self._behind = -1  # the piece after the last range that was read
        self._verifying: dict[int, asyncio.Task[None]] = {}
        self._heard = 0.0
        self._stirred = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sources = Sources(
            metainfo, context, READER + secrets.token_bytes(12), who, came=self._came, stirred=self._stirred.set
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up on everybody, and let go of everything. Who still waits for a piece is told."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._sources.close()
        verifying = list(self._verifying.values())
        for task in verifying:
            task.cancel()
        await asyncio.gather(*verifying, return_exceptions=True)
        why = "the connection was closed"
        self._fail(error("swarm.failed", f"{self._content.root[:16]}… is read no more", why=why))
        self._kept.clear()

    async def pieces(self, first: int, stop: int) -> AsyncGenerator[tuple[int, bytes]]:
        """The pieces from `first` up to, not including, `stop`, in order, verified. Several may read at a time.

        Raises:
            BitDewError: `swarm.stalled`, `swarm.corrupt`; what `who` raises, where nobody is connected.
        """
        for number in range(first, stop):
            self._waiting[number] = self._waiting.get(number, 0) + 1
        try:
            self._look_ahead(first, stop)
            coming = {number: self._want(number) for number in range(first, stop)}
            for number in range(first, stop):
                yield number, await asyncio.shield(coming.pop(number))
        finally:
            for number in range(first, stop):
                self._waiting[number] -= 1
                if not self._waiting[number]:
                    del self._waiting[number]
                    self._forsake(number)

    # What is wanted

    def _look_ahead(self, first: int, stop: int) -> None:
        """One who goes on where it stopped will want what follows; for one who does not, that is in the way."""
        in_order = first <= self._behind <= stop and self._behind > 0
        self._behind = stop
        longest = max(1, AHEAD // self._content.piece_length) if in_order else 0
        self._ahead = range(stop, min(self._content.pieces, stop + longest))
        for source in self._sources.ready:
            for number in [n for n in source.asked if n not in self._waiting and n not in self._ahead]:
                source.take_back(number)

    def _want(self, number: int) -> asyncio.Future[bytes]:
        """A piece, as soon as it is there."""
        if number in self._wanted:
            return self._wanted[number]
        coming: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if number in self._kept:
            self._kept.move_to_end(number)
            coming.set_result(self._kept[number])
        elif is_zeros(self._content, number):
            coming.set_result(bytes(length_of_piece(self._content, number)))
        else:
            if not self._waited_for():
                self._heard = self._now()
            self._wanted[number] = coming
            if self._task is None:
                self._task = asyncio.create_task(self._run(), name="piece reader")
            self._stirred.set()
        return coming

    def _waited_for(self) -> list[int]:
        """The pieces that somebody waits for, and that have not come."""
        return sorted(number for number in self._wanted if number not in self._verifying)

    def _forsake(self, number: int) -> None:
        """Nobody waits for a piece any more."""
        wanted = self._wanted.pop(number, None)
        if wanted is not None:
            wanted.cancel()
            if number not in self._ahead:
                self._sources.take_back(number)

    def _keep(self, number: int, raw: bytes) -> None:
        if number not in self._kept:
            self._kept_bytes += len(raw)
        self._kept[number] = raw
        while self._kept_bytes > KEPT and len(self._kept) > 1:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    # What comes

    def _came(self, source: Source, number: int, raw: bytes) -> None:
        self.received += len(raw)
        self._heard = self._now()
        self._stirred.set()
        if number not in self._kept and number not in self._verifying:
            self._verifying[number] = asyncio.create_task(self._verify(source, number, raw), name="verifies a piece")

    async def _verify(self, source: Source, number: int, raw: bytes) -> None:
        try:
            good = await asyncio.to_thread(root_of_piece, raw, self._content) == root_of(self._content, number)
        finally:
            del self._verifying[number]
        self._stirred.set()
        if not good:
            self._sources.ban(source, number)
            return
        for other in self._sources.asked_for(number):
            other.take_back(number)
        self._keep(number, raw)
        wanted = self._wanted.pop(number, None)
        if wanted is not None and not wanted.done():
            wanted.set_result(raw)

    # Who is asked

    async def _run(self) -> None:
        """Dial, ask, and look who is slow, as long as anything may be wanted."""
        while True:
            self._stirred.clear()
            waited = self._waited_for()
            idle = not waited and not self._missing_ahead()
            if not idle:
                self._sources.look(needed=bool(waited))
                self._ask(waited)
            if waited and (fault := self._fault()) is not None:
                self._fail(fault)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if idle else LOOK_SECONDS):
                    await self._stirred.wait()

    def _missing_ahead(self) -> list[int]:
        return [n for n in self._ahead if n not in self._kept and n not in self._verifying and n not in self._wanted]

    def _ask(self, waited: list[int]) -> None:
        """Ask for what is waited for, then for what will be."""
        now = self._now()
        for source in self._sources.ready:
            if source.asked and now - source.heard >= SILENT_SECONDS:
                # What only one can give, it is waited for.
                elsewhere = [n for n in source.asked if self._sources.can_have(n, besides=source)]
                for number in elsewhere:
                    source.take_back(number)
                if elsewhere:
                    source.rest(SILENT_SECONDS)
        for number in waited:
            asked = self._sources.asked_for(number)
            slow = len(asked) == 1 and now - asked[0].asked[number].since >= SLOW_SECONDS
            if not asked or slow:
                self._sources.ask(number, idle=slow)
        for number in self._missing_ahead():
            if is_zeros(self._content, number):
                continue
            if not self._sources.asked_for(number) and not self._sources.ask(number, idle=False):
                break

    def _fault(self) -> BitDewError | None:
        """Why what is waited for can't come, if it can't."""
        fault = self._sources.fault
        if fault is None and self._now() - self._heard >= SILENCE_SECONDS:
            why = f"nothing came in {SILENCE_SECONDS:g} s; {self._sources.told()}"
            do = "Try again; if it stays so, see where copies are: bitdew data where NAME"
            fault = error("swarm.stalled", f"{self._content.root[:16]}… does not arrive from hosts", why=why, do=do)
        return fault

    def _fail(self, fault: BitDewError) -> None:
        for number, wanted in list(self._wanted.items()):
            del self._wanted[number]
            self._sources.take_back(number)
            wanted.set_exception(fault)
            wanted.exception()  # whoever reads in order may never come to this one
        self._heard = self._now()
        self._sources.begin_anew()
