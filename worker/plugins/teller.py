"""Tells one plug-in what it does not know yet: what is held, and what is about to go.

Owns what this plug-in was told and has taken. The truth is what is held now; whatever differs from it is told, until
the plug-in takes it. So nothing is missed over failures and restarts, and nobody has to keep a list of events that
grows. What a plug-in was told is kept in the journal, but for those who are told everything each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import structlog

from bitdew.clock import wait_at_most
from bitdew.core.errors import BitDewError, error
from bitdew.wire.model import ErrorView

from .contract import Plugin, Replica
from .finding import Loaded, load
from .thread import PluginThread

if TYPE_CHECKING:
    from bitdew.core.clock import Clock

    from ..journal import Journal

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
"""The pause after a failure doubles from the first to the longest. A change is told at once all the same."""
LOAD_SECONDS: Final = 30.0
ENDING_SECONDS: Final = 2.0
REMARK: Final = 1000
"""Characters of a plug-in's remark."""
MOST_FAILURES: Final = 3
"""Calls that may fail before the rest waits: who fails one thing fails the others too."""


@dataclass(frozen=True, slots=True)
class Told:
    """How it goes with one plug-in.

    Attributes:
        state: starting, told (it knows everything), telling, failing (it is told again later) or broken (it could not
            be loaded).
        known: Copies that it has taken.
        waiting: Copies that it is to be told of, or that are to be withdrawn.
        last: When it took something last, UTC.
        reason: What went wrong last, as long as that is not over.
    """

    state: str
    known: int
    waiting: int
    last: datetime | None
    reason: ErrorView | None


class Teller:
    """Tells one plug-in. `run` it as a task; `close` it at the end.

    Attributes:
        name: What the plug-in is called on this host.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Any],
        truth: Mapping[str, Replica],
        known: Mapping[str, Replica],
        *,
        journal: Journal,
        clock: Clock,
        on_trouble: Callable[[str, BitDewError | None], None],
    ) -> None:
        """Nothing is loaded yet.

        Args:
            name: What it is called.
            make: Makes the plug-in, on the plug-in's own thread.
            truth: What it should know, by the data's uids, as it is at each moment; whoever changes it calls `stir`.
            known: What it knew when the worker ended, as the journal says.
            journal: Keeps what it knows.
            clock: The worker's.
            on_trouble: Told when it begins to fail, with the reason, and when it works again, with None.
        """
        self.name = name
        self._make = make
        self._truth = truth
        self._known = dict(known)
        self._journal = journal
        self._clock = clock
        self._on_trouble = on_trouble
        self._thread = PluginThread(name)
        self._plugin: Loaded | None = None
        self._remark = ""
        self._changed = asyncio.Event()
        self._attempted = asyncio.Event()
        self._attempts: dict[str, int] = {}  # by uid: how often withdrawing it was tried
        self._failures: dict[str, int] = {}
        self._offered: dict[str, Replica] = {}  # told to be held and not taken for sure: it may go by them all the same
        self._begun = False  # the last `started` was taken
        self._broken = False
        self._told_at = 0.0
        self._last: datetime | None = None
        self._reason: ErrorView | None = None

    # What others see ----------------------------------------------------------------------------------------------

    def stir(self) -> None:
        """The truth changed."""
        self._changed.set()

    @property
    def told(self) -> Told:
        """How it goes."""
        waiting = len(self._open())
        if self._broken:
            state = "broken"
        elif self._reason is not None:
            state = "failing"
        elif self._last is None and not self._begun:
            state = "starting"
        else:
            state = "telling" if waiting else "told"
        return Told(state, len(self._known), waiting, self._last, self._reason)

    @property
    def known(self) -> dict[str, Replica]:
        """What the plug-in has taken."""
        return dict(self._known)

    @property
    def remark(self) -> str:
        """What the plug-in has its owner told."""
        return self._remark

    async def withdrawn(self, uid: str) -> None:
        """Return when the plug-in has been told that `uid` goes, or when that was tried and failed.

        The truth must have lost `uid` before.
        """
        self.stir()
        before = self._attempts.setdefault(uid, 0)
        try:
            while not self._broken and self._may_know(uid) and self._attempts.get(uid, 0) == before:
                await self._attempted.wait()
        finally:
            self._attempts.pop(uid, None)

    def _may_know(self, uid: str) -> bool:
        """Whether the plug-in may take `uid` for held. Before `started` was taken nobody knows what it goes by."""
        return uid in self._known or uid in self._offered or not self._begun

    def _open(self) -> set[str]:
        truth = self._truth
        return {uid for uid in {*truth, *self._known} if truth.get(uid) != self._known.get(uid)} | (
            self._offered.keys() - truth.keys()
        )

    # Its life -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Load the plug-in and tell it, until cancelled. No failure is raised."""
        try:
            await self._run()
        except Exception as fault:
            log.exception("defect", plugin=self.name, key="internal")
            self._broken = True
            self._note(error("internal", f"Telling {self.name} failed", why=type(fault).__name__))
            self._tried()

    async def _run(self) -> None:
        try:
            self._plugin = await self._thread.call(load, self.name, self._make, seconds=LOAD_SECONDS)
        except BitDewError as fault:
            self._broken = True
            self._note(fault)
            self._tried()
            return
        pause = 0.0
        while True:
            self._changed.clear()
            wrong = await self._round(self._plugin)
            self._note(wrong)
            wait: float | None
            if wrong is None:
                pause, wait = 0.0, self._until_again(self._plugin)
            else:
                pause = wait = min(max(FIRST_PAUSE_SECONDS, 2 * pause), LONGEST_PAUSE_SECONDS)
            if wait is None:
                await self._changed.wait()
            else:
                await wait_at_most(self._clock, wait, self._changed.wait())

    async def dismiss(self) -> None:
        """Withdraw everything from a plug-in that is to be told nothing more; one attempt. For after `run`."""
        if self._plugin is not None and not self._thread.busy and (self._known or self._offered or not self._begun):
            fault = await self._call(self._plugin, lambda to: to.started([]))
            if fault is not None:
                log.warning("what one was told could not be withdrawn", plugin=self.name, key=fault.key, why=str(fault))
        await self._journal.forget_teller(self.name)

    async def close(self) -> None:
        """Tell the plug-in that the worker ends, and end its thread. For after `run`."""
        self._broken = True
        self._tried()
        if self._plugin is not None and not self._thread.busy:
            try:
                await self._thread.call(_ended, self._plugin.plugin, seconds=min(ENDING_SECONDS, self._plugin.seconds))
            except BitDewError as fault:
                log.warning("a plug-in did not end in order", plugin=self.name, key=fault.key, why=str(fault))
        if not await self._thread.close():
            log.warning("a plug-in's thread does not end, and is left behind", plugin=self.name, key="plugin.failed")

    # Telling ------------------------------------------------------------------------------------------------------

    def _until_again(self, plugin: Loaded) -> float | None:
        """Seconds until everything is due again; None for never."""
        again = plugin.again
        return max(0.0, self._told_at + again - self._clock.monotonic()) if again > 0 else None

    async def _round(self, plugin: Loaded) -> BitDewError | None:
        """Tell everything that is open; what went wrong last, if something did."""
        if not self._begun or (plugin.whole and self._open()) or self._until_again(plugin) == 0:
            fault = await self._tell_all(plugin)
            if fault is not None or plugin.whole:
                return fault
        last = None
        failed = 0
        for uid in self._in_order():
            if self._attempts and self._changed.is_set():
                break  # a copy waits to go: the next round, which begins at once, tells that first
            fault = await self._tell_one(plugin, uid)
            if fault is None:
                self._failures.pop(uid, None)
                continue
            self._failures[uid] = self._failures.get(uid, 0) + 1
            last, failed = fault, failed + 1
            if failed >= MOST_FAILURES or self._thread.busy:
                break
        return last

    def _in_order(self) -> list[str]:
        """What is open: what waits to go first; then what failed before last, so that it keeps nobody waiting."""
        truth = self._truth
        return sorted(
            self._open(), key=lambda uid: (uid not in self._attempts, self._failures.get(uid, 0), uid in truth, uid)
        )

    async def _tell_all(self, plugin: Loaded) -> BitDewError | None:
        truth = dict(self._truth)
        leaving = set(self._attempts)
        self._begun = self._begun and not plugin.whole  # if this fails, it may know the old list or the new one
        fault = await self._call(plugin, lambda to: to.started(list(truth.values())))
        if fault is None:
            self._begun, self._told_at = True, self._clock.monotonic()
            if plugin.whole:
                self._known = truth
        self._tried(*leaving)
        return fault

    async def _tell_one(self, plugin: Loaded, uid: str) -> BitDewError | None:
        """Tell what is open of one datum: first that the old copy goes, then that the new one is there."""
        old, now = self._offered.get(uid) or self._known.get(uid), self._truth.get(uid)
        if old is not None and (now is None or not _is_same(old, now)):
            fault = await self._call(plugin, lambda to: to.dropping(old))
            if fault is None:
                self._offered.pop(uid, None)
                if self._known.pop(uid, None) is not None:
                    await self._journal.forget_told(self.name, uid)
            self._tried(uid)
            if fault is not None:
                return fault
            now = self._truth.get(uid)
        if now is None or now == self._known.get(uid):
            return None
        self._offered[uid] = now
        fault = await self._call(plugin, lambda to: to.held(now))
        if fault is None:
            await self._journal.save_told(self.name, now)  # first: what it is said to have taken is kept
            self._known[uid] = now
            self._offered.pop(uid, None)
        return fault

    async def _call(self, plugin: Loaded, tell: Callable[[Plugin], Any]) -> BitDewError | None:
        try:
            await self._thread.call(tell, plugin.plugin, seconds=plugin.seconds)
            self._remark = await self._thread.call(_remark, plugin.plugin, seconds=plugin.seconds)
        except BitDewError as fault:
            return fault
        self._last = self._clock.now()
        return None

    def _tried(self, *uids: str) -> None:
        """Wake whoever waits for these to be withdrawn."""
        for uid in uids:
            if uid in self._attempts:
                self._attempts[uid] += 1
        attempted, self._attempted = self._attempted, asyncio.Event()
        attempted.set()

    def _note(self, fault: BitDewError | None) -> None:
        if (fault is None) != (self._reason is None):
            self._on_trouble(self.name, fault)
        self._reason = None if fault is None else ErrorView.of(fault)


def _is_same(one: Replica, other: Replica) -> bool:
    """Whether these are one copy, whatever else is said of it."""
    return (one.root, one.path, one.since) == (other.root, other.path, other.since)


def _remark(plugin: Plugin) -> str:
    return str(plugin.remark)[:REMARK]


def _ended(plugin: Plugin) -> Any:
    return plugin.ended()
