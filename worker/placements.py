"""The data on this host, as ordered: place and drop are carried out here, and told about.

Owns the entry of each datum: its state, figures and history of orders. It must not fetch by itself; a copy does, which
several data may share. It drops only what an order names.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from bitdew.core.errors import BitDewError
from bitdew.core.host import Endpoint
from bitdew.core.orders import OrderKind
from bitdew.core.states import INTENDED, PLACEMENT, PlacementState
from bitdew.core.units import format_size
from bitdew.wire import limits
from bitdew.wire.models import ErrorView, PlacementReport

from .entries import PlacementEntry
from .events import EventKind
from .figures import Figures

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from bitdew.core.clock import Clock
    from bitdew.wire.models import Order

    from .copies import Copies
    from .events import Announcer
    from .fetching import Copy
    from .outbox import Outbox
    from .surroundings import Surroundings, Witness

log = structlog.get_logger(__name__)

_S: Final = PlacementState
_NO_ROOT: Final = "0" * 64
"""The root in a report on a datum that this host knows nothing of."""


class Placements:
    """All data on this host, and what the service wants of them."""

    def __init__(
        self, around: Surroundings, copies: Copies, outbox: Outbox, announcer: Announcer, witness: Witness
    ) -> None:
        self.entries: dict[str, PlacementEntry] = {}
        self._journal = around.journal
        self._storage = around.storage
        self._clock: Clock = around.clock
        self._copies = copies
        self._outbox = outbox
        self._announcer = announcer
        self._witness = witness
        self._orders: dict[str, Order] = {}
        self._dropping: set[str] = set()
        self._earlier: dict[str, Figures] = {}
        self._warned: dict[str, str] = {}
        self._tasks: asyncio.TaskGroup | None = None
        around.keeper = self

    def recall(self, entries: Iterable[PlacementEntry]) -> None:
        """Know what the journal says is here, so that whoever asks is told the same before `resume` as after it."""
        for entry in entries:
            self.entries[entry.uid] = entry
            self._earlier[entry.uid] = Figures(entry.from_repository, entry.from_peers, entry.corrupt, entry.reused)

    async def resume(self, orders: Iterable[Order], tasks: asyncio.TaskGroup) -> None:
        """Go on where the worker was with what was recalled. `tasks` runs what takes time."""
        self._tasks = tasks
        tasks.create_task(self._copies.parking.run(), name="parking")
        tasks.create_task(self._copies.turns.run(), name="turns")
        for entry in sorted(self.entries.values(), key=_turn_of):
            try:
                await self._resume(entry, tasks)
            except BitDewError as fault:
                await self._fail(entry, fault)
        for entry in self.entries.values():
            self._witness.changed(entry)
        for order in orders:
            known = self.entries.get(order.subject)
            if known is None and order.kind is OrderKind.DROP:
                continue  # carried out and confirmed
            if known is None or known.generation < order.generation:
                await self.apply(order)

    @property
    def needed(self) -> set[str]:
        """The contents that orders want here, or want gone: what became of them is not the end of it."""
        return {entry.order.root for entry in self.entries.values() if entry.state not in {_S.FAILED, _S.GONE}}

    async def _resume(self, entry: PlacementEntry, tasks: asyncio.TaskGroup) -> None:
        if entry.state is _S.GONE:
            return
        await asyncio.to_thread(self._storage.notice, entry.order.root)
        if entry.state is _S.DROPPING:
            self._begin_drop(entry)
        elif entry.state is not _S.FAILED:
            if entry.state is _S.HELD and not await self._copies.looks_whole(entry.order.root):
                entry.state = _S.FETCHING  # before the service is told that it is held
            if entry.state in {_S.FETCHING, _S.VERIFYING}:
                await asyncio.to_thread(self._storage.keep_room, entry.order.root, entry.order.size)
            await self._copies.want(entry.uid, entry.order, tasks)

    async def _fail(self, entry: PlacementEntry, fault: BitDewError) -> None:
        """The order can't even be begun. That concerns one datum, and must not end the worker."""
        entry.state, entry.reason = _S.FAILED, ErrorView.of(fault)
        await self._journal.save_placement(entry)
        self._tell(entry)
        self._outbox.mark_placement(entry.uid, urgent=True)

    async def apply(self, order: Order) -> None:
        """Carry out a place or drop order that the journal has accepted."""
        self._orders[order.subject] = order
        if order.subject in self._dropping:
            return  # when that is done, the latest order is looked at again
        if order.kind is OrderKind.DROP:
            await self._apply_drop(order)
        else:
            await self._apply_place(order)

    async def _apply_place(self, order: Order) -> None:
        wish = order.place
        if wish is None or self._tasks is None:
            log.error("an order to place says not what", order=order.uid)
            return
        entry = self.entries.get(order.subject)
        if entry is not None and entry.order.root != wish.root and entry.state is not _S.GONE:
            log.error("an order names other bytes for a datum that is here", order=order.uid, subject=order.subject)
            return
        if entry is None or entry.state in {_S.FAILED, _S.GONE}:
            entry = PlacementEntry(order.subject, order.generation, wish, _S.ASSIGNED, self._clock.now())
            self.entries[order.subject] = entry
            self._earlier[order.subject] = Figures()
            self._warned.pop(order.subject, None)
        else:
            entry.generation = order.generation
            entry.order = wish.model_copy(update={"peers": _joined(wish.peers, entry.order.peers)})
        await self._journal.save_placement(entry)
        self._witness.changed(entry)
        self._outbox.mark_placement(entry.uid, urgent=True)
        try:
            copy = await self._copies.want(entry.uid, entry.order, self._tasks)
        except BitDewError as fault:
            await self._fail(entry, fault)
            return
        if copy.state in {_S.FETCHING, _S.VERIFYING, _S.HELD}:  # for another datum with the same bytes
            await self._take(entry, copy, moved=True)

    async def _apply_drop(self, order: Order) -> None:
        entry = self.entries.get(order.subject)
        if entry is None:
            self._outbox.mark_placement(order.subject, urgent=True)
            return
        entry.generation = order.generation
        if entry.state is not _S.GONE:
            entry.state, entry.reason = _S.DROPPING, None
            self._begin_drop(entry)
        await self._journal.save_placement(entry)
        self._outbox.mark_placement(entry.uid, urgent=True)

    def _begin_drop(self, entry: PlacementEntry) -> None:
        if self._tasks is not None and entry.uid not in self._dropping:
            self._dropping.add(entry.uid)
            self._tasks.create_task(self._drop(entry), name=f"drop {entry.uid[:8]}")

    async def _drop(self, entry: PlacementEntry) -> None:
        async def removing(taken: int) -> None:
            # Kept before the files go: a worker that is killed between the two finds nothing left to measure.
            entry.freed = max(entry.freed, taken)
            await self._journal.save_placement(entry)

        try:
            await self._witness.leaving(entry)
            if not await self._copies.release(entry.uid, entry.order.root, removing):
                entry.freed = 0
            entry.state, entry.reason, entry.done = _S.GONE, None, 0
        except BitDewError as fault:
            entry.state, entry.reason = _S.FAILED, ErrorView.of(fault)
        except Exception as fault:
            log.exception("defect", subject=entry.uid, key="internal")
            entry.state = _S.FAILED
            entry.reason = ErrorView(key="internal", message="Dropping it failed", why=type(fault).__name__)
        self._dropping.discard(entry.uid)
        await self._journal.save_placement(entry)
        self._tell(entry)
        self._outbox.mark_placement(entry.uid, urgent=True)
        later = self._orders.get(entry.uid)
        if later is not None and later.generation > entry.generation:
            await self.apply(later)

    async def take_attribute(self, uid: str, name: str) -> None:
        """The attribute of the datum `uid` is called `name` now."""
        entry = self.entries.get(uid)
        if entry is not None and entry.order.attribute != name:
            entry.order = entry.order.model_copy(update={"attribute": name})
            await self._journal.save_placement(entry)
            self._witness.changed(entry)

    # What a copy tells

    async def copy_changed(self, copy: Copy, *, moved: bool) -> None:
        """Keep what is known of the copy now; `moved` if its state or reason changed, not only figures."""
        for uid in sorted(copy.wanted):
            entry = self.entries.get(uid)
            if entry is not None and uid not in self._dropping:
                await self._take(entry, copy, moved=moved)
        if moved:
            self._copies.stir()

    def copy_progressed(self, copy: Copy) -> None:
        """Bytes arrived."""
        for uid in copy.wanted:
            entry = self.entries.get(uid)
            if entry is not None and uid not in self._dropping:
                self._take_figures(entry, copy)
                self._outbox.mark_placement(uid, urgent=False)
                self._announcer.tell(
                    EventKind.PROGRESS, uid, f"{entry.order.name} is arriving", done=copy.done, size=copy.size
                )

    def call(self, root: str, peer: str | None) -> None:
        """Another host, which listens at `peer`, has begun to fetch `root` by swarm."""
        self._copies.parking.call(root, None if peer is None else Endpoint.parse(peer))

    def copies_wait(self, roots: Collection[str]) -> None:
        """These contents still wait: the service is told so again, lest it plans others in their stead."""
        for entry in self.entries.values():
            if entry.order.root in roots and entry.state is _S.ASSIGNED:
                self._outbox.mark_placement(entry.uid, urgent=False)

    async def copy_evicted(self, root: str) -> None:
        """Nothing of a content that failed is here any more: it made room."""
        for entry in list(self.entries.values()):
            if entry.order.root == root and entry.state is _S.FAILED:
                entry.done = 0
                await self._journal.save_placement(entry)
                self._outbox.mark_placement(entry.uid, urgent=False)

    async def _take(self, entry: PlacementEntry, copy: Copy, *, moved: bool) -> None:
        self._take_figures(entry, copy)
        if entry.state is _S.FAILED and copy.state is not _S.HELD:
            moved = False  # it is fetched again for another datum: this one was not ordered anew
        news = entry.state is not copy.state or _gist(copy.reason) not in {"", _gist(entry.reason)}
        if moved:
            entry.state = PLACEMENT.check(entry.state, copy.state, of=entry.uid)
            entry.reason = copy.reason
            if entry.state is _S.HELD and entry.seconds is None:
                entry.seconds = max(0.0, (self._clock.now() - entry.started).total_seconds())
            self._witness.changed(entry)
        peers = [str(peer) for peer in sorted(copy.peers)]
        entry.order = entry.order.model_copy(update={"peers": _joined(peers, entry.order.peers)})
        await self._journal.save_placement(entry)
        if moved:
            self._outbox.mark_placement(entry.uid, urgent=True)
            if news:
                self._tell(entry)

    def _take_figures(self, entry: PlacementEntry, copy: Copy) -> None:
        entry.done = copy.done
        if copy.first == entry.uid:
            figures = self._earlier.get(entry.uid, Figures()) + copy.figures
            entry.from_repository, entry.from_peers = figures.from_repository, figures.from_peers
            entry.corrupt, entry.reused = figures.corrupt, figures.reused

    def _tell(self, entry: PlacementEntry) -> None:
        of = f"{entry.order.name} ({format_size(entry.order.size)})"
        why = f": {entry.reason.message}" if entry.reason else ""
        self._announcer.tell(
            EventKind.PLACEMENT,
            entry.uid,
            f"{of} is {entry.state}{why}",
            state=str(entry.state),
            name=entry.order.name,
            size=entry.order.size,
            seconds=entry.seconds,
            from_repository=entry.from_repository,
            from_peers=entry.from_peers,
            reused=entry.reused,
            freed=entry.freed,
        )

    # What the service is told

    def report(self, uid: str) -> PlacementReport | None:
        """What there is to say of the datum `uid` now; None if there is nothing.

        What went wrong on the way to a copy is told once: the service looks into each such report. To wait for a turn
        is not wrong.
        """
        entry = self.entries.get(uid)
        if entry is None:
            order = self._orders.get(uid)
            if order is None or order.kind is not OrderKind.DROP:
                return None
            return PlacementReport(uid=uid, root=_NO_ROOT, state=_S.GONE, generation=order.generation)
        reason = entry.reason
        told = reason is not None and self._warned.get(uid) == _gist(reason)
        if told and reason is not None and entry.state in INTENDED and reason.key != "copy.waiting":
            reason = None
        return PlacementReport(
            uid=uid,
            root=entry.order.root,
            state=entry.state,
            generation=entry.generation,
            done=entry.done,
            size=entry.order.size,
            seconds=entry.seconds,
            from_repository=entry.from_repository,
            from_peers=entry.from_peers,
            corrupt=entry.corrupt,
            reused=entry.reused,
            freed=entry.freed if entry.state is _S.GONE else 0,
            reason=reason,
            seeks=self._copies.seeks(entry.order.root),
        )

    async def confirmed(self, report: PlacementReport) -> None:
        """The service has taken `report`: what is gone need not be told again."""
        if report.reason is not None:
            self._warned[report.uid] = _gist(report.reason)
        entry = self.entries.get(report.uid)
        if report.state is _S.GONE and entry is not None and entry.state is _S.GONE:
            del self.entries[report.uid]
            await self._journal.forget_placement(report.uid, entry.generation)


def _turn_of(entry: PlacementEntry) -> tuple[bool, bool, float]:
    """When an entry's turn is at a restart: of what is held the newest first, then what was on its way as it came."""
    began = entry.started.timestamp()
    held = entry.state is _S.HELD
    return not held, entry.state is _S.ASSIGNED, -began if held else began


def _gist(reason: ErrorView | None) -> str:
    """What makes a reason another one than before: of a copy that rotted also how many of its pieces did."""
    if reason is None:
        return ""
    return reason.message if reason.key == "storage.rotten" else reason.key


def _joined(first: Iterable[str], second: Iterable[str]) -> list[str]:
    """All peers once, the first ones first, as many as an order may have."""
    return list(dict.fromkeys([*first, *second]))[: limits.PEERS]
