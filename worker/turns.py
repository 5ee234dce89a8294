"""Which of the data that are wanted here come now, and which wait for their turn.

A host may be told to hold thousands of data at once. Were all of them fetched together, each would have its torrent,
its connections, its open file and its memory, and all would end late. So a few come at a time, in lanes by what a fetch
costs: over HTTPS it has pieces in memory, a small one by swarm is waiting most of the time, and a large one by swarm
fills the link by itself. Small data never wait for large ones, nor the other way round.

Owns whose turn it is. What a machine or a job here waits for comes first, then the higher priority, then who came
first. Who makes no progress does not count, so that others go on beside it; if too many make none, whoever has been
silent for longest gives its turn to those who wait, and waits again, behind them. It fetches nothing by itself.
"""

from __future__ import annotations

import asyncio
import heapq
from contextlib import asynccontextmanager
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING, Final

from .way import Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from .surroundings import Surroundings

LARGE: Final = 64 * 2**20
"""Bytes from which on a content is a large one."""
STALL_SECONDS: Final = 10.0
"""Silence after which a fetch does not count any more."""
LOOK_SECONDS: Final = 1.0
"""How often it is looked who is silent, as long as somebody waits."""
RENEWAL_SECONDS: Final = 40.0
"""How often the service is told of those that still wait, as long as others make progress: a third of a lease."""


class Lane(StrEnum):
    """What a fetch costs while it goes on."""

    HTTP = "http"
    SMALL = "small"
    LARGE = "large"
    HELP = "help"
    """A part of a content that its swarm can't get, over HTTPS."""


MOST: Final = {Lane.HTTP: 8, Lane.SMALL: 32, Lane.LARGE: 4, Lane.HELP: 8}
"""Fetches in each lane that make progress, at most; as many may be silent beside them, and as many urgent ones.

One by HTTP has up to three pieces in memory, 12 MiB at most, and so has help.
"""


def lane_for(way: Way, size: int) -> Lane:
    """The lane of a content of `size` bytes that comes by `way`."""
    if way is Way.HTTP:
        return Lane.HTTP
    return Lane.SMALL if size < LARGE else Lane.LARGE


class Turn:
    """The leave to fetch one content.

    Attributes:
        root: The content.
        over: Set when the turn goes to others: whoever has it leaves what it does, and asks again.
    """

    def __init__(self, turns: Turns, root: str, priority: int, number: int) -> None:
        self.root = root
        self.over = asyncio.Event()
        self.urgent = False
        self.granted: asyncio.Future[None] | None = None
        self.heard = 0.0
        self.silent = False
        self.settled = False
        self._turns = turns
        self._priority = priority
        self._number = number

    @property
    def is_over(self) -> bool:
        """Whether whoever waited for it was cancelled in this moment."""
        return self.granted is not None and self.granted.done()

    @property
    def rank(self) -> tuple[bool, int, int]:
        """Its place among those who wait: the lowest comes first."""
        return not self.urgent, -self._priority, self._number

    def moved(self) -> None:
        """It made progress."""
        self.heard = self._turns.hear()
        self.silent = False

    def settle(self) -> None:
        """Everything is here: the turn is not taken away any more."""
        self.settled = True
        self.moved()


class _Line:
    """One lane: who is in it, and who waits to be."""

    def __init__(self, most: int) -> None:
        self.running: dict[Turn, None] = {}
        self.waiting: dict[str, Turn] = {}
        self._most = most
        self._heap: list[tuple[tuple[bool, int, int], Turn]] = []

    def push(self, turn: Turn) -> None:
        """`turn` waits, or has another rank now."""
        self.waiting[turn.root] = turn
        heapq.heappush(self._heap, (turn.rank, turn))

    def has_room(self, *, urgent: bool) -> bool:
        """Whether one more may begin."""
        return sum(not t.silent and t.urgent == urgent for t in self.running) < self._most

    def next(self) -> Turn | None:
        """Whose turn it is, if there is room; it runs from now on."""
        while self._heap:
            rank, turn = self._heap[0]
            if self.waiting.get(turn.root) is turn and rank == turn.rank and not turn.is_over:
                if not self.has_room(urgent=turn.urgent):
                    return None
                heapq.heappop(self._heap)
                del self.waiting[turn.root]
                self.running[turn] = None
                return turn
            heapq.heappop(self._heap)  # it waits no more, or at another place
        return None

    def look(self, now: float) -> None:
        """Note who is silent; where those are too many, and others wait, one after the other loses its turn."""
        for turn in self.running:
            turn.silent = not turn.settled and now - turn.heard >= STALL_SECONDS
        silent = sorted((t for t in self.running if t.silent and not t.over.is_set()), key=lambda t: t.heard)
        for turn in silent[: max(0, min(len(silent) - self._most, len(self.waiting)))]:
            turn.over.set()


class Turns:
    """Of one host."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._lines = {lane: _Line(most) for lane, most in MOST.items()}
        self._urgent: set[str] = set()
        self._numbers = count()
        self._somebody_waits = asyncio.Event()
        self._progress = False

    @property
    def waiting(self) -> set[str]:
        """The contents that wait for their turn now."""
        return {root for line in self._lines.values() for root in line.waiting}

    def running(self, lane: Lane) -> int:
        """How many have their turn in `lane`."""
        return len(self._lines[lane].running)

    @asynccontextmanager
    async def take(
        self, root: str, lane: Lane, *, priority: int = 0, wait: Callable[[int], Awaitable[None]] | None = None
    ) -> AsyncIterator[Turn]:
        """Have a turn in `lane` for `root`, as long as the context lasts.

        `wait` is called first if it has to be waited for, with how many others have theirs.
        """
        line, turn = self._lines[lane], Turn(self, root, priority, next(self._numbers))
        turn.urgent = root in self._urgent
        if not line.waiting and line.has_room(urgent=turn.urgent):
            line.running[turn] = None
        else:
            await self._wait(line, turn, wait)
        turn.moved()
        try:
            yield turn
        finally:
            line.running.pop(turn, None)
            self._grant(line)

    async def _wait(self, line: _Line, turn: Turn, wait: Callable[[int], Awaitable[None]] | None) -> None:
        turn.granted = asyncio.get_running_loop().create_future()
        line.push(turn)
        self._somebody_waits.set()
        try:
            self._grant(line)
            if wait is not None and not turn.granted.done():
                await wait(len(line.running))
            await turn.granted
        except BaseException:
            line.waiting.pop(turn.root, None)
            line.running.pop(turn, None)
            self._grant(line)
            raise

    def hurry(self, roots: Iterable[str]) -> None:
        """A machine or a job waits for these contents: they come first."""
        for root in set(roots) - self._urgent:
            self._urgent.add(root)
            for line in self._lines.values():
                turn = line.waiting.get(root)
                if turn is not None:
                    turn.urgent = True
                    line.push(turn)
                    self._grant(line)

    def forget(self, root: str) -> None:
        """`root` is held, or wanted no more."""
        self._urgent.discard(root)

    def hear(self) -> float:
        """Somebody made progress: the time now."""
        self._progress = True
        return self._around.clock.monotonic()

    async def run(self) -> None:
        """See who is silent, until cancelled. Where nobody waits that costs no time at all."""
        renewed = self._around.clock.monotonic()
        while True:
            await self._somebody_waits.wait()
            await self._around.clock.sleep(LOOK_SECONDS)
            now = self._around.clock.monotonic()
            for line in self._lines.values():
                if not self._around.bandwidth.stopped:  # nobody can make progress then
                    line.look(now)
                self._grant(line)
            waiting = self.waiting
            if not waiting:
                self._somebody_waits.clear()
            if self._progress and now - renewed >= RENEWAL_SECONDS:
                renewed, self._progress = now, False
                self._around.keeper.copies_wait(waiting)

    @staticmethod
    def _grant(line: _Line) -> None:
        while (turn := line.next()) is not None:
            assert turn.granted is not None  # noqa: S101 (it waited)
            turn.granted.set_result(None)
