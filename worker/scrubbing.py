"""Reading back what is held: a little at a time, over days, so that rot is found before the bytes are needed.

Owns when which piece is read, and the low priority of that. It must not mend: a copy that is found bad is withdrawn,
and the copy itself does the rest. The pace follows from what is held: every byte is read once in so many days. Nothing
is read while a copy is on its way or a machine is starting, except where a peer got wrong pieces from this host: that
copy is read whole and at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError, error
from bitdew.humble import humble_thread

from .entries import Scrub

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from bitdew.core.content import Content

    from .copies import Copies
    from .fetching import Copy
    from .storage import Storage
    from .surroundings import Surroundings

_T = TypeVar("_T")
log = structlog.get_logger(__name__)

DAY: Final = 86400.0
MOST_RATE: Final = 8 * 2**20
"""Bytes per second that are read back at most, however much is held."""
BUSY_SECONDS: Final = 5.0
"""How long the next piece waits where this host has something better to do."""
LOOK_SECONDS: Final = 300.0
"""How often at least it is looked at what is held now."""
SAVE_SECONDS: Final = 30.0
"""How much reading a restart may cost."""
SUSPECT_SECONDS: Final = 600.0
"""A copy that was read whole is not read again on suspicion within this time: peers can't keep the disk busy."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The next piece to be read back.

    Attributes:
        root: Of which copy.
        piece: Its number.
        pause: Seconds since the last piece was read that have to pass before.
    """

    root: str
    piece: int
    pause: float


def next_turn(held: Mapping[str, Content], known: Mapping[str, Scrub], period: float) -> Turn | None:
    """Which piece of what is `held` is read back next; None if nothing is held.

    A copy that was begun is finished first, then comes the one that nobody read back for the longest time. The pause is
    such that all bytes are read once in `period` seconds, and at most `MOST_RATE` in a second.
    """
    if not held:
        return None
    nothing = Scrub()

    def order(root: str) -> tuple[bool, float, str]:
        scrub = known.get(root, nothing)
        return scrub.piece == 0, scrub.whole, root

    root = min(held, key=order)
    content, scrub = held[root], known.get(root, nothing)
    piece = scrub.piece if scrub.piece < content.pieces else 0
    length = min(content.piece_length, content.size - piece * content.piece_length)
    total = sum(one.size for one in held.values())
    return Turn(root, piece, max(period * length / total, length / MOST_RATE))


async def good_pieces(storage: Storage, content: Content) -> list[bool]:
    """Which pieces of `content` are in its file as they should be: all of it is read, a piece at a time.

    Raises:
        HostError: `storage.failed`, if the disk can't be read.
    """
    if await asyncio.to_thread(storage.look, content.root) is None:
        return [False] * content.pieces
    return [await asyncio.to_thread(storage.has_piece, content, number) for number in range(content.pieces)]


def rotten(content: Content, bad: Collection[int], because: BitDewError | None = None) -> BitDewError:
    """The fault of a copy whose pieces `bad` are not what they were.

    `because` is what led to reading all of it; without that the rest of it is still to be read.
    """
    numbers = sorted(bad)
    prefix = "" if because is None or not because.why or "pieces" in because.fields else f"{because.why}; "
    shown = ", ".join(map(str, numbers[:20])) + (", …" if len(numbers) > 20 else "")
    return error(
        "storage.rotten",
        f"{len(numbers)} of {content.pieces} pieces of {content.root[:16]}… changed on the disk",
        why=f"{prefix}not what was verified: piece {shown}",
        do="Nothing: it was withdrawn, and what changed is fetched again. If it happens again, check the disk."
        if because is not None
        else "Nothing: it was withdrawn, and is read whole now.",
        pieces=numbers[:100],
        bad=len(numbers),
        root=str(content.root),
    )


class Scrubber:
    """Reads back the copies of one host."""

    def __init__(
        self, around: Surroundings, copies: Copies, known: dict[str, Scrub], *, days: float, is_busy: Callable[[], bool]
    ) -> None:
        """`known` is how far earlier starts came; `days` is within how many days all is read, 0 for never."""
        self._around = around
        self._copies = copies
        self._known = known
        self._period = days * DAY
        self._is_busy = is_busy
        self._suspected: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._last = max((scrub.read for scrub in known.values()), default=0.0)
        self._saved = around.clock.monotonic()
        self._thread = humble_thread("scrubbing")

    def suspect(self, root: str) -> None:
        """A peer got wrong pieces of `root` from this host: read the copy whole, before anything else."""
        self._suspected[root] = None
        self._woken.set()

    async def run(self) -> None:
        """Read back, until cancelled."""
        try:
            while True:
                self._woken.clear()
                while self._suspected:
                    root = next(iter(self._suspected))
                    del self._suspected[root]
                    await self._read_suspected(root)
                await wait_at_most(self._around.clock, await self._step(), self._change())
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _step(self) -> float:
        """Read a piece if one is due; how many seconds there is nothing to do then."""
        held = self._held()
        turn = next_turn(held, self._known, self._period) if self._period else None
        if turn is None:
            return LOOK_SECONDS
        left = self._last + turn.pause - self._now()
        if left > 0:
            return min(left, LOOK_SECONDS)
        if self._is_busy():
            return BUSY_SECONDS
        await self._read(turn)
        return 0

    async def _change(self) -> None:
        """Return on a suspicion, and where nothing is held, when that may have changed."""
        if self._held():
            await self._woken.wait()
            return
        waits = {asyncio.ensure_future(self._woken.wait()), asyncio.ensure_future(self._copies.next_move())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def _held(self) -> dict[str, Content]:
        """What is held; nothing at all has no piece to be read."""
        held = {root: copy.content for root, copy in self._copies.held().items()}
        return {root: content for root, content in held.items() if content is not None and content.pieces}

    async def _full(self, root: str) -> Content | None:
        """What the pieces of a held copy are; None if it is none any more."""
        copy = self._copies.held().get(root)
        try:
            content = None if copy is None else await copy.full_content()
        except BitDewError as fault:
            log.warning("what a copy should be can't be read", root=root, key=fault.key, why=str(fault))
            return None
        return content if content is not None and content.pieces else None

    def _now(self) -> float:
        return self._around.clock.now().timestamp()

    async def _read(self, turn: Turn) -> None:
        scrub = self._known.get(turn.root, Scrub())
        content = await self._full(turn.root)
        if content is None:
            self._last = self._now()
        elif await self._is_good(content, turn.piece):
            piece = turn.piece + 1
            now = self._last = self._now()
            scrub = Scrub(piece, scrub.whole, now) if piece < content.pieces else Scrub(0, now, now)
            await self._keep(turn.root, scrub)
        else:
            self._last = self._now()
            self._withdraw(content, turn.piece)
            await self._keep(turn.root, Scrub(0, self._last, self._last))  # whoever mends it reads it whole

    async def _read_suspected(self, root: str) -> None:
        """Read all of a copy, until a piece is found bad."""
        content = await self._full(root)
        if content is None or self._now() - self._known.get(root, Scrub()).whole < SUSPECT_SECONDS:
            return
        log.info("a peer got wrong pieces from here; the copy is read", root=root)
        for piece in range(content.pieces):
            if not await self._is_good(content, piece):
                self._withdraw(content, piece)
                break
            if root not in self._held():
                return
        now = self._now()
        await self._keep(root, Scrub(0, now, now))

    async def _keep(self, root: str, scrub: Scrub) -> None:
        self._known[root] = scrub
        now = self._around.clock.monotonic()
        if scrub.piece == 0 or now - self._saved >= SAVE_SECONDS:
            self._saved = now
            await self._around.journal.save_scrub(root, scrub)
            held = self._copies.held()
            for gone in [known for known in self._known if known not in held and known != root]:
                del self._known[gone]
                await self._around.journal.forget_scrub(gone)

    async def _is_good(self, content: Content, number: int) -> bool:
        """Whether a piece is what it should be, or went with its whole file, which others see."""
        storage = self._around.storage
        try:
            return await self._run(lambda: storage.reads_well(content, number))
        except BitDewError as fault:
            copy = self._copies.held().get(content.root)
            if copy is not None:
                copy.withdraw(fault)
            return True

    async def _run(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _withdraw(self, content: Content, number: int) -> None:
        copy: Copy | None = self._copies.held().get(content.root)
        if copy is not None:  # else it went while it was read
            copy.withdraw(rotten(content, [number]))
