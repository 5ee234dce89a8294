"""Everybody on this host who wants to be told of copies: plug-ins that are installed, and the bridges of its owner.

Owns what is held, as they are told, and their lives. It steers nothing, but that a copy which is to go waits, for a
bounded time, until they know. Whoever fails, hangs or is away costs the others nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import structlog

from bitdew.core.errors import BitDewError
from bitdew.core.states import PlacementState

from ..bridges.making import bridges_of
from ..events import EventKind
from .contract import Replica
from .finding import installed
from .listener import Listener
from .naming import Naming
from .selection import Selection
from .teller import Teller

if TYPE_CHECKING:
    from ..entries import PlacementEntry
    from ..events import Announcer
    from ..placements import Placements
    from ..settings import WorkerSettings
    from ..surroundings import Surroundings
    from .contract import Plugin

log = structlog.get_logger(__name__)

LEAVING_SECONDS: Final = 20.0
"""How long a copy that is to go waits at most for everybody to be told."""


@dataclass(slots=True, eq=False)
class Member:
    """A listener, who tells it, and what it is to know."""

    listener: Listener
    teller: Teller
    truth: dict[str, Replica]
    task: asyncio.Task[None] | None = None
    dismissed: bool = False


class Audience:
    """All who are told. Every copy's change is to be said here; `run` it as a task.

    Attributes:
        members: Who is told now, by kind and name.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        around: Surroundings,
        announcer: Announcer,
        known: Mapping[str, Mapping[str, Replica]],
        plugins: Mapping[str, Callable[[], Plugin]] | None = None,
    ) -> None:
        """Nobody is told anything yet.

        Args:
            settings: What the host's owner says of plug-ins and bridges, and the host's labels.
            around: Where the copies are, the journal that keeps what each of them knows, and the clock.
            announcer: Hears of troubles.
            known: What each knew when the worker ended.
            plugins: What makes each plug-in; those that are installed by default.
        """
        self.members: dict[str, Member] = {}
        self._ending: list[Member] = []
        self._settings = settings
        self._around = around
        self._announcer = announcer
        self._known = {name: dict(replicas) for name, replicas in known.items()}
        self._found: Mapping[str, Callable[[], Any]] | None = plugins
        self._held: dict[str, Replica] = {}
        self._gathered = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None

    # What the copies tell -----------------------------------------------------------------------------------------

    def changed(self, entry: PlacementEntry) -> None:
        """A datum's state or order changed, or is known from an earlier start."""
        before = self._held.pop(entry.uid, None)
        if entry.state is PlacementState.HELD:
            self._held[entry.uid] = Replica(
                uid=entry.uid,
                name=entry.order.name,
                root=entry.order.root,
                size=entry.order.size,
                path=self._around.storage.path(entry.order.root),
                attribute=entry.order.attribute,
                since=entry.started + timedelta(seconds=entry.seconds or 0.0),
            )
        if self._held.get(entry.uid) != before:
            for member in self.members.values():
                self._update(member, entry.uid)

    def _update(self, member: Member, uid: str) -> None:
        """Have `member` know what holds of one datum. Of many data only what changed is looked at."""
        replica = self._held.get(uid)
        if replica is not None and member.listener.selection.takes(replica, self._settings.labels):
            member.truth[uid] = replica
        else:
            member.truth.pop(uid, None)
        member.teller.stir()

    async def leaving(self, entry: PlacementEntry) -> None:
        """Return when everybody has been told that `entry`'s copy goes, or their time is over."""
        self.changed(entry)
        try:
            async with asyncio.timeout(LEAVING_SECONDS):
                await self._gathered.wait()
                waiting = [member.teller.withdrawn(entry.uid) for member in self.members.values()]
                await asyncio.gather(*waiting)
        except TimeoutError:
            log.warning("a copy goes, and not everybody could be told in time", key="plugin.failed", uid=entry.uid)

    @property
    def chooses_by_attribute(self) -> bool:
        """Whether anybody is told by the names of attributes."""
        return any(member.listener.selection.attributes for member in self.members.values())

    # Who is told --------------------------------------------------------------------------------------------------

    def lend(self, settings: WorkerSettings) -> None:
        """Go by `settings` from now on."""
        self._settings = settings
        if self._tasks is not None:
            self._gather(self._tasks)

    async def run(self, placements: Placements) -> None:
        """Tell everybody of what is in `placements`, until cancelled."""
        if self._found is None:
            try:
                self._found = await asyncio.to_thread(installed)
            except Exception as fault:  # what others installed may be damaged in any way
                log.exception("installed plug-ins could not be listed", key="plugin.failed", why=type(fault).__name__)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._gather(tasks)
            self._gathered.set()
            naming = Naming(self._around.link, placements, self, self._around.clock)
            tasks.create_task(naming.run(), name="names of attributes")
            await asyncio.Event().wait()

    async def close(self) -> None:
        """Tell everybody that the worker ends; for after `run`."""
        self._tasks = None
        await asyncio.gather(
            *(member.teller.close() for member in self.members.values()), *map(self._end, list(self._ending))
        )

    def _gather(self, tasks: asyncio.TaskGroup) -> None:
        """Have those told whom the settings ask for, and no others."""
        wanted = {listener.key: listener for listener in listeners_of(self._settings, self._found or {})}
        for key, member in list(self.members.items()):
            if wanted.get(key) == member.listener:
                for uid in self._held:
                    self._update(member, uid)  # the labels may have changed
                continue
            del self.members[key]
            if key in wanted:
                self._known[key] = member.teller.known
            member.dismissed = key not in wanted
            self._ending.append(member)
            tasks.create_task(self._end(member), name=f"end {key}")
        for key, listener in wanted.items():
            if key not in self.members:
                made = self.members[key] = self._member(listener)
                made.task = tasks.create_task(made.teller.run(), name=key)

    def _member(self, listener: Listener) -> Member:
        labels = self._settings.labels
        truth = {uid: replica for uid, replica in self._held.items() if listener.selection.takes(replica, labels)}
        teller = Teller(
            listener.key,
            listener.make,
            truth,
            self._known.pop(listener.key, {}),
            journal=self._around.journal,
            clock=self._around.clock,
            on_trouble=self._tell_trouble,
        )
        return Member(listener, teller, truth)

    async def _end(self, member: Member) -> None:
        """End one who is told nothing more. Cut off by the end of the worker, it is done again by that."""
        if member.task is not None:
            member.task.cancel()
            await asyncio.wait({member.task})
        if member.dismissed:
            await member.teller.dismiss()
        await member.teller.close()
        self._ending.remove(member)

    def _tell_trouble(self, name: str, fault: BitDewError | None) -> None:
        if fault is None:
            self._announcer.tell(EventKind.TROUBLE, name, f"{name} is told of copies again")
            return
        text = f"{name} can't be told of copies: {fault}; the worker goes on, and tells it later"
        self._announcer.tell(EventKind.TROUBLE, name, text, key=fault.key)


def listeners_of(settings: WorkerSettings, found: Mapping[str, Callable[[], Any]]) -> Iterator[Listener]:
    """Whom `settings` want to be told, of the plug-ins that were `found` and of the bridges."""
    for name, make in found.items():
        wish = settings.plugins.get(name)
        if wish is None:
            yield Listener("plug-in", name, None, Selection(), make)
        elif wish.on:
            yield Listener("plug-in", name, None, wish.only, make)
    yield from bridges_of(settings)
