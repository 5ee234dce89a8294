"""Who is alive: hosts are heard by their syncs, suspect after one missed period, lost after three.

A host that is drained is no suspect: it is given nothing anyway. It is lost like any other.

Owns the moments of hearing, in memory; what changes is told to whoever listens. A scheduler that restarts gives every
host a whole period to be heard, so that its own absence is never taken for theirs.

Each host whose silence may change something has an alarm, at the earliest moment at which it can. Being heard leaves
the alarm where it is: it is set anew when it goes off. So hosts that sync cost nothing when silence is judged.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from bitdew.core.ids import HostId
from bitdew.core.states import HOST, HostState

GRACE: Final = 0.5
"""Of a period: how late a sync may be before it counts as missed."""
EARLY: Final = 0.001
"""Seconds by which a host is looked at too early rather than too late: a sum of such figures is not exact."""
_JUDGED: Final = frozenset({HostState.ALIVE, HostState.SUSPECT, HostState.JOINING, HostState.DRAINED})
"""What a host can be that may yet be lost."""


@dataclass(frozen=True, slots=True)
class Silence:
    """A host whose state follows from its silence.

    Attributes:
        host: The host.
        old: The state that it had.
        new: The state that it has now.
        seconds: How long it has been silent.
    """

    host: HostId
    old: HostState
    new: HostState
    seconds: float


class Liveness:
    """Judges hosts by when they were last heard, on a steady clock in seconds."""

    def __init__(self, period: float) -> None:
        """`period` is the longest silence, in seconds, that is promised by a living host."""
        self.period = period
        self._heard: dict[HostId, float] = {}
        self._states: dict[HostId, HostState] = {}
        self._drained: set[HostId] = set()
        self._alarms: dict[HostId, float] = {}
        self._queue: list[tuple[float, HostId]] = []
        """The alarms, the next one first; and some that were replaced by others."""

    def load(self, states: Mapping[HostId, HostState], now: float, drained: Collection[HostId] = ()) -> None:
        """Begin with what was stored; everyone counts as heard now. Those of `drained` are so when they return."""
        self._states = dict(states)
        self._drained = set(drained)
        self._heard = dict.fromkeys(states, now)
        self._alarms, self._queue = {}, []
        for host in self._states:
            self._set_alarm(host)

    def heard(self, host: HostId, now: float) -> HostState | None:
        """`host` synced; its new state if that changed."""
        self._heard[host] = now
        old = self._states.get(host, HostState.JOINING)
        if old in {HostState.DRAINED, HostState.BANNED, HostState.ALIVE}:
            return None
        new = HostState.DRAINED if host in self._drained else HostState.ALIVE
        self._states[host] = HOST.check(old, new, of=host)
        self._set_alarm(host)
        return new

    def heard_before(self, host: HostId, moment: float) -> None:
        """Another process heard `host` at `moment` of this clock. What its state is then, that process tells."""
        self._heard[host] = max(self._heard.get(host, moment), moment)

    def learn(self, host: HostId, state: HostState, now: float, *, drained: bool | None = None) -> None:
        """Another process says what `host` is, and whether it is drained when it returns; None if that is not said."""
        if drained is not None:
            self._note_drained(host, drained=drained)
        self._states[host] = state
        self._heard[host] = now
        self._set_alarm(host)

    def ban(self, host: HostId) -> None:
        """Silence and syncs no longer change what `host` is."""
        self._states[host] = HOST.check(self._states.get(host, HostState.JOINING), HostState.BANNED, of=host)

    def drain(self, host: HostId, state: HostState, *, drained: bool) -> None:
        """The operator says that `host` is to be emptied, or no more: it is `state` now."""
        self._note_drained(host, drained=drained)
        self._states[host] = HOST.check(self._states.get(host, HostState.JOINING), state, of=host)
        self._heard.setdefault(host, 0.0)
        self._set_alarm(host)

    def _note_drained(self, host: HostId, *, drained: bool) -> None:
        if drained:
            self._drained.add(host)
        else:
            self._drained.discard(host)

    def judge(self, now: float) -> list[Silence]:
        """The hosts whose silence changed their state since the last judgement."""
        changed, looked_at = [], []
        while self._queue and self._queue[0][0] < now:
            moment, host = heapq.heappop(self._queue)
            if self._alarms.get(host) != moment:
                continue
            del self._alarms[host]
            looked_at.append(host)
            silence, old = now - self._heard[host], self._states[host]
            if (new := self._after(silence, old)) is not old:
                self._states[host] = HOST.check(old, new, of=host)
                changed.append(Silence(host, old, new, silence))
        for host in looked_at:
            self._set_alarm(host)
        return changed

    def _after(self, silence: float, old: HostState) -> HostState:
        """What a host is after so many seconds of silence, if it was `old`."""
        if silence > self.period * (3 + GRACE) and old in _JUDGED:
            return HostState.LOST
        if silence > self.period * (1 + GRACE) and old is HostState.ALIVE:
            return HostState.SUSPECT
        return old

    def _set_alarm(self, host: HostId) -> None:
        """Have a host looked at when its silence may change what it is, if it ever may."""
        if (state := self._states[host]) not in _JUDGED:
            return
        missed = 1 if state is HostState.ALIVE else 3
        moment = self._heard[host] + self.period * (missed + GRACE) - EARLY
        if self._alarms.get(host, moment + 1) > moment:
            self._alarms[host] = moment
            heapq.heappush(self._queue, (moment, host))
