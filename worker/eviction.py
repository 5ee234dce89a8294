"""Room for what is ordered: leftovers that nothing needs make way for it, the oldest first.

Owns the choice, and that nothing else ever goes. A leftover is what is there of a content that no order and no machine
needs: of an attempt that failed, or of a drop that did. It stays as long as there is room, since the next attempt may
go on from it. What this host does not know, and what an order or a machine needs, is never touched.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from bitdew.core.errors import BitDewError
from bitdew.core.units import format_size

from .events import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from .copies import Copies
    from .events import Announcer
    from .surroundings import Surroundings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Leftover:
    """What is there of a content that nothing needs.

    Attributes:
        since: When it was written to last, in nanoseconds since the epoch.
        root: Of which content.
        size: Bytes that removing it frees.
    """

    since: int
    root: str
    size: int


def choose(leftovers: Iterable[Leftover], short: int, *, partly: bool = False) -> list[Leftover]:
    """Which of `leftovers` go to free `short` bytes: the oldest ones, and no more of them than that takes.

    If all of them are not enough none goes, unless it is of use `partly`.
    """
    chosen, freed = list[Leftover](), 0
    for leftover in sorted(leftovers):
        if freed >= short:
            break
        chosen.append(leftover)
        freed += leftover.size
    return chosen if freed >= short or partly else []


class Eviction:
    """Makes room on one host."""

    def __init__(
        self, around: Surroundings, copies: Copies, announcer: Announcer, needed: Callable[[], Collection[str]]
    ) -> None:
        """`needed` tells which contents orders and machines need now, whatever became of them so far."""
        self._needed = needed
        self._around = around
        self._copies = copies
        self._announcer = announcer
        around.room = self

    async def admit(self, root: str, size: int) -> None:
        """Keep room for all `size` bytes of `root`; leftovers go if that takes it.

        Raises:
            HostError: `storage.full`, with the figures; `storage.failed`.
        """
        storage = self._around.storage
        while True:
            try:
                await asyncio.to_thread(storage.admit, root, size)
            except BitDewError as fault:
                if fault.key != "storage.full" or not await self._free(_missing(fault), but=root):
                    raise
            else:
                return

    async def shrink(self) -> int:
        """Have leftovers go while more is held than the quota allows; how many bytes are over it still.

        What orders and machines need stays, and the volunteer is told.

        Raises:
            HostError: `storage.failed`.
        """
        storage = self._around.storage
        used, _free = await asyncio.to_thread(storage.figures)
        if used > storage.quota:
            await self._free(used - storage.quota, partly=True)
            used, _free = await asyncio.to_thread(storage.figures)
        over = max(0, used - storage.quota)
        if over:
            text = f"{format_size(over)} more are held than the quota of {format_size(storage.quota)}: orders need them"
            self._announcer.tell(EventKind.TROUBLE, str(storage.folder), text, key="storage.full", over=over)
        return over

    async def _free(self, short: int, *, but: str = "", partly: bool = False) -> int:
        """Remove leftovers for `short` bytes; how many went."""
        unneeded = self._copies.unneeded() - {but, *self._needed()}
        leftovers = await asyncio.to_thread(self._around.storage.leftovers, unneeded)
        gone = 0
        for leftover in choose(leftovers, short, partly=partly):
            if await self._copies.evict(leftover.root):
                gone += 1
                text = f"{format_size(leftover.size)} of an attempt that ended made room: {leftover.root[:16]}…"
                self._announcer.tell(EventKind.EVICTED, leftover.root, text, freed=leftover.size)
        return gone


def _missing(fault: BitDewError) -> int:
    """How many bytes the storage said there are too few."""
    told = fault.fields
    if "quota" in told:
        return int(told["used"]) + int(told["size"]) - int(told["quota"])
    return int(told["wanted"]) - int(told["free"])
