"""What is to be planned, and when: data that changed, data that wait for an instant, data that wait for a host.

Owns the order in which the planner is asked. Pure: it knows no clock and no store, and decides nothing about copies.

Four lists, and a datum may stand in several: *changed* data are planned next, those of higher priority first; *waking*
data when their instant comes; data whose repairs were *held back*, as many as may be begun then; *open* data, which
miss something that a host could give, when a host that may give it joins, changes or gets room. That is a sweep: it
goes through the open data of the attributes that the host matches, in the order in which their deficits are served, a
part at a time, so that a grid full of wishes never stops the others.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sortedcontainers import SortedDict

from bitdew.core.ids import Uid

SWEEP_SHARE: Final = 4
"""Of a batch, a quarter at least is left to sweeps: data that change all the time must not starve those that wait."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What the agenda remembers of a datum that waits for a host.

    Attributes:
        attribute: Its attribute.
        priority: Of the attribute: the higher is served first.
        created: When the datum was added: the older is served first.
    """

    attribute: Uid
    priority: int
    created: datetime


def _place(standing: Standing) -> tuple[Uid, datetime]:
    return standing.attribute, standing.created


class Agenda:
    """The planner's list of what to look at."""

    def __init__(self) -> None:
        self._changed: dict[Uid, None] = {}
        self._wakes: dict[Uid, datetime] = {}
        self._instants: list[tuple[datetime, Uid]] = []
        self._open: dict[Uid, Standing] = {}
        self._priorities: dict[Uid, int] = {}
        """Of the data whose priority is not 0."""
        self._held_back: SortedDict = SortedDict()
        """Data whose repairs wait for their turn, in the order of service: (-priority, created, uid) → uid."""
        self._turns: dict[Uid, tuple[int, datetime, Uid]] = {}
        self._queues: dict[Uid, SortedDict] = {}
        """For each attribute its open data, in the order of service: (created, uid) → uid."""
        self._sweeps: dict[Uid, tuple[datetime, Uid] | None] = {}
        """For each attribute that is swept, the key of the datum that was looked at last."""
        self._again: set[Uid] = set()

    # What happens -------------------------------------------------------------------------------------------------

    def look_at(self, data: Iterable[Uid]) -> None:
        """Something changed about these data."""
        self._changed.update(dict.fromkeys(data))

    def offer(self, attributes: Iterable[Uid]) -> None:
        """A host that data of these attributes could use joined, changed or got room."""
        for attribute in attributes:
            if attribute not in self._queues:
                continue
            if attribute in self._sweeps:
                self._again.add(attribute)  # what it passed already is looked at once more when it is through
            else:
                self._sweeps[attribute] = None

    def settle(
        self, uid: Uid, wake_at: datetime | None, standing: Standing, *, is_open: bool = False, held_back: bool = False
    ) -> None:
        """A datum was planned.

        Args:
            uid: The datum.
            wake_at: When to look again though nothing happens.
            standing: How it stands among the others.
            is_open: Whether a host that joins, changes or gets room could change the plan.
            held_back: Whether repairs were held back that could be begun otherwise.
        """
        self._forget_wake(uid)
        if wake_at is not None:
            self.look_later(uid, wake_at)
        self._priorities.pop(uid, None)
        if standing.priority:
            self._priorities[uid] = standing.priority
        self._leave_turn(uid)
        if held_back:
            self._turns[uid] = turn = (-standing.priority, standing.created, uid)
            self._held_back[turn] = uid
        known = self._open.get(uid)
        if is_open:  # enters its new place before it leaves the old one: a sweep of its attribute goes on meanwhile
            self._open[uid] = standing
            self._queues.setdefault(standing.attribute, SortedDict())[standing.created, uid] = uid
        if known is not None and not (is_open and _place(known) == _place(standing)):
            self._leave_queue(uid, known)
            if not is_open:
                del self._open[uid]

    def look_later(self, uid: Uid, at: datetime) -> None:
        """Look at a datum at this instant, whatever it waits for besides."""
        self._wakes[uid] = at
        heapq.heappush(self._instants, (at, uid))

    def _leave_turn(self, uid: Uid) -> None:
        if (turn := self._turns.pop(uid, None)) is not None:
            del self._held_back[turn]

    def forget(self, uid: Uid) -> None:
        """The datum is gone for good."""
        self._changed.pop(uid, None)
        self._priorities.pop(uid, None)
        self._leave_turn(uid)
        self._forget_wake(uid)
        if (known := self._open.pop(uid, None)) is not None:
            self._leave_queue(uid, known)

    def _forget_wake(self, uid: Uid) -> None:
        self._wakes.pop(uid, None)
        if len(self._instants) > 2 * len(self._wakes) + 1000:  # mostly instants that were replaced by others
            self._instants = [(at, waiting) for waiting, at in self._wakes.items()]
            heapq.heapify(self._instants)

    def _leave_queue(self, uid: Uid, known: Standing) -> None:
        queue = self._queues[known.attribute]
        queue.pop((known.created, uid), None)
        if not queue:
            del self._queues[known.attribute]
            self._sweeps.pop(known.attribute, None)
            self._again.discard(known.attribute)

    # What to do ---------------------------------------------------------------------------------------------------

    def take(self, most: int, now: datetime, repairs: int = 0) -> list[Uid]:
        """The data to plan together now, at most `most` of them, if as many as `repairs` may be begun.

        They are off the agenda until they are settled.
        """
        while self._instants and self._instants[0][0] <= now:
            at, uid = heapq.heappop(self._instants)
            if self._wakes.get(uid) == at:
                del self._wakes[uid]
                self._changed[uid] = None
        room_for_sweeps = most // SWEEP_SHARE if self._sweeps else 0
        # A datum may need several; one that needs none any more leaves its turn to the next.
        chosen = dict.fromkeys(itertools.islice(self._held_back.values(), min(2 * repairs, most - room_for_sweeps)))
        for uid in chosen:
            self._leave_turn(uid)
        chosen |= dict.fromkeys(self._next_changed(most - room_for_sweeps - len(chosen)))
        chosen |= dict.fromkeys(self._next_swept(most - len(chosen)))
        return list(chosen)

    def _next_changed(self, most: int) -> list[Uid]:
        if len(self._changed) <= most:
            taken = list(self._changed)
        else:
            rank = self._priorities
            taken = heapq.nsmallest(most, self._changed, key=lambda uid: -rank.get(uid, 0)) if rank else []
            taken = taken or list(itertools.islice(self._changed, most))
        for uid in taken:
            del self._changed[uid]
        return taken

    def _next_swept(self, most: int) -> Iterator[Uid]:
        for attribute in sorted(self._sweeps, key=lambda uid: (-self._priority(uid), uid)):
            if most <= 0:
                return
            queue, last = self._queues[attribute], self._sweeps[attribute]
            following = queue.irange(minimum=last, inclusive=(False, True)) if last else iter(queue)
            keys = list(itertools.islice(following, most))
            most -= len(keys)
            if most > 0 or not keys:
                self._end_sweep(attribute)
            else:
                self._sweeps[attribute] = keys[-1]
            yield from (queue[key] for key in keys)

    def _end_sweep(self, attribute: Uid) -> None:
        del self._sweeps[attribute]
        if attribute in self._again:
            self._again.discard(attribute)
            self._sweeps[attribute] = None

    def _priority(self, attribute: Uid) -> int:
        return self._open[self._queues[attribute].peekitem(0)[1]].priority

    # What it knows ------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether there is something to plan for now."""
        return bool(self._changed or self._sweeps)

    @property
    def wake_at(self) -> datetime | None:
        """The next instant at which there is, or None."""
        while self._instants and self._wakes.get(self._instants[0][1]) != self._instants[0][0]:
            heapq.heappop(self._instants)
        return self._instants[0][0] if self._instants else None

    @property
    def open_attributes(self) -> Collection[Uid]:
        """The attributes of which some datum waits for a host."""
        return self._queues.keys()

    def is_open(self, uid: Uid) -> bool:
        """Whether the datum waits for a host."""
        return uid in self._open

    def watches(self, uid: Uid) -> bool:
        """Whether the datum waits for anything."""
        return uid in self._open or uid in self._wakes or uid in self._turns

    @property
    def held_back(self) -> int:
        """How many data wait for their turn to be repaired."""
        return len(self._turns)

    def open_data(self) -> Iterator[Uid]:
        """The data that wait for a host, in the order in which their deficits are served."""
        return iter(sorted(self._open, key=lambda uid: (-self._open[uid].priority, self._open[uid].created, uid)))

    def __len__(self) -> int:
        """How many data wait for a host."""
        return len(self._open)
