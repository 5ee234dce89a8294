"""Help over the service's HTTPS for a copy whose swarm can't go on.

Owns when help is asked for, and which pieces. It must not replace the swarm: it takes what no peer has, and each piece
goes into the swarm at once, so that what one host fetched here all others get from it. The service lets few hosts at a
time take help; whoever is refused waits, and most likely gets the pieces from those few meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.core.errors import BitDewError, error
from bitdew.wire.cutting import in_pieces

from .link import is_passing
from .pieces import is_piece
from .turns import Lane

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Mapping

    from bitdew.core.content import Content
    from bitdew.core.host import Endpoint
    from bitdew.swarm.transfer import Transfer

    from .surroundings import Surroundings

log = structlog.get_logger(__name__)

NOBODY_SECONDS: Final = 8.0
"""Silence of the swarm after which pieces are asked for that no connected peer has."""
STUCK_SECONDS: Final = 60.0
"""The same for pieces that peers have and do not send: in a large swarm each host waits for its turn for a while."""
LOOK_SECONDS: Final = 1.0
"""How often the swarm is looked at."""
REFUSED_SECONDS: Final = 30.0
"""Pause after a refusal that is not for a moment only."""
PART: Final = 4 * 2**20
"""Bytes that are asked for at a time at most: then it is looked again who has what."""
PARTS: Final = 32
"""Into so many parts a content is divided at least: two hosts that take help then seldom take the same."""
TAKEN_SECONDS: Final = 5.0
"""How long a piece may take to be verified and written before the next is asked for anyway."""


def wanted(missing: Mapping[int, int], silent: float, *, helping: bool, seeded: bool) -> set[int]:
    """The pieces to ask the service for.

    Args:
        missing: The pieces that are not there, each with how many connected peers have it.
        silent: Seconds since the swarm delivered anything.
        helping: Whether the last look led to help: it goes on until peers have everything.
        seeded: Whether the repository is among the peers. It has everything, and shows each host a part of it only.
    """
    if silent >= STUCK_SECONDS:
        return set(missing)
    if seeded:
        return set()
    if helping or silent >= NOBODY_SECONDS:
        return {number for number, peers in missing.items() if not peers}
    return set()


def part_of(pieces: Collection[int], content: Content, chance: random.Random) -> range:
    """Neighbouring ones of `pieces` from a random one on: what to ask for next, one piece at least.

    At random, so that two hosts that take help at the same time take different pieces.
    """
    first = chance.choice(sorted(pieces))
    most = first + max(1, min(PART, content.size // PARTS) // content.piece_length)
    end = first + 1
    while end < most and end in pieces:
        end += 1
    return range(first, end)


class Help:
    """Looks after one transfer until cancelled.

    Attributes:
        received: Payload bytes that came this way.
        fault: What is wrong with the service's bytes, for it to be told; None as far as is known.
    """

    def __init__(
        self, transfer: Transfer, around: Surroundings, repository: Callable[[], Endpoint], chance: random.Random
    ) -> None:
        """`repository` says where the service's own seeder listens."""
        self.received = 0
        self.fault: BitDewError | None = None
        self._transfer = transfer
        self._around = around
        self._repository = repository
        self._chance = chance
        self._delivered = -1
        self._heard = around.clock.monotonic()

    async def run(self) -> None:
        """Help whenever that is due; return when no piece is missing, or the transfer can't go on."""
        transfer, helping = self._transfer, False
        while transfer.progress.state not in {"finished", "seeding"} and not transfer.gone:
            pause = LOOK_SECONDS
            if transfer.fetching and (helping or self._silence() >= NOBODY_SECONDS):
                try:
                    helping = await self._help(helping=helping)
                except BitDewError as fault:
                    helping, pause = False, self._pause_after(fault)
            if not helping:
                await self._around.clock.sleep(pause)

    def _silence(self) -> float:
        """Seconds since the swarm delivered anything, or this machine was at work on what is there."""
        now, progress = self._around.clock.monotonic(), self._transfer.progress
        if progress.downloaded != self._delivered or progress.state != "fetching":
            self._delivered, self._heard = progress.downloaded, now
        return now - self._heard

    async def _help(self, *, helping: bool) -> bool:
        """Fetch a part of what is to be asked for; False if there is nothing."""
        content = self._transfer.metainfo.content
        seeded = self._transfer.is_connected_to(self._repository())
        numbers = wanted(await self._transfer.missing(), self._silence(), helping=helping, seeded=seeded)
        if not numbers:
            return False
        if not helping:
            log.info("the swarm has nothing to give; help is asked for", root=content.root, pieces=len(numbers))
        part = part_of(numbers, content, self._chance)
        around = self._around
        async with around.turns.take(content.root, Lane.HELP), around.bandwidth.coming(content.root):
            await self._fetch(content, part)
        await self._settled(part)
        return True

    async def _fetch(self, content: Content, part: range) -> None:
        async with aclosing(in_pieces(content, part, partial(self._chunks, content))) as pieces:
            async for number, piece in pieces:
                await self._give(content, number, piece)

    async def _chunks(self, content: Content, start: int, stop: int) -> AsyncGenerator[bytes]:
        around = self._around
        async with aclosing(around.link.download(f"/v1/help/{content.root}", start, stop)) as chunks:
            async for chunk in chunks:
                self.received += len(chunk)
                await around.bandwidth.take(len(chunk), content.root)
                yield chunk

    async def _give(self, content: Content, number: int, piece: bytes) -> None:
        if not await asyncio.to_thread(is_piece, piece, content, number):
            self.fault = error(
                "swarm.corrupt",
                f"What the service sends of {content.root[:16]}… is not what was published",
                why=f"piece {number} of {content.pieces} is wrong",
                piece=number,
                root=content.root,
            )
            raise self.fault
        self._transfer.give(number, piece)

    async def _settled(self, part: range) -> None:
        """Return when the pieces of `part` are there, or it takes too long."""
        clock = self._around.clock
        until = clock.monotonic() + TAKEN_SECONDS
        while any(number in part for number in await self._transfer.missing()) and clock.monotonic() < until:
            await clock.sleep(LOOK_SECONDS / 10)

    def _pause_after(self, fault: BitDewError) -> float:
        """How long to wait after `fault`, with some chance, so that those who wait do not all ask at once again."""
        log.info("no help by HTTPS", root=self._transfer.metainfo.content.root, key=fault.key, why=str(fault))
        told = fault.fields.get("retry_after")
        if fault.key == "help.busy" and isinstance(told, int | float):
            seconds = min(max(float(told), LOOK_SECONDS), REFUSED_SECONDS)
        else:
            seconds = NOBODY_SECONDS if is_passing(fault) else REFUSED_SECONDS
        return seconds * self._chance.uniform(0.5, 1.5)
