"""Who is alive: hosts are heard by their syncs, suspect after one missed period, lost after three.

Owns the moments of hearing, in memory; what changes is told to whoever listens. A scheduler that restarts gives every
host a whole period to be heard, so that its own absence is never taken for theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bitdew.core.ids import HostId
from bitdew.core.states import HOST, HostState

GRACE: Final = 0.5
"""Of a period: how late a sync may be before it counts as missed."""


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

    def load(self, states: Mapping[HostId, HostState], now: float) -> None:
        """Begin with what was stored; everyone counts as heard now."""
        self._states = dict(states)
        self._heard = dict.fromkeys(states, now)

    def heard(self, host: HostId, now: float) -> HostState | None:
        """`host` synced; its new state if that changed."""
        self._heard[host] = now
        old = self._states.get(host, HostState.JOINING)
        if old in {HostState.DRAINED, HostState.BANNED, HostState.ALIVE}:
            return None
        self._states[host] = HOST.check(old, HostState.ALIVE, of=host)
        return HostState.ALIVE

    def heard_before(self, host: HostId, moment: float) -> None:
        """Another process heard `host` at `moment` of this clock. What its state is then, that process tells."""
        self._heard[host] = max(self._heard.get(host, moment), moment)

    def learn(self, host: HostId, state: HostState, now: float) -> None:
        """Another process says what `host` is."""
        self._states[host] = state
        self._heard[host] = now

    def ban(self, host: HostId) -> None:
        """Silence and syncs no longer change what `host` is."""
        self._states[host] = HOST.check(self._states.get(host, HostState.JOINING), HostState.BANNED, of=host)

    def judge(self, now: float) -> list[Silence]:
        """The hosts whose silence changed their state since the last judgement."""
        changed = []
        for host, heard in self._heard.items():
            silence = now - heard
            old = self._states[host]
            new = old
            if silence > self.period * (3 + GRACE) and old in {HostState.ALIVE, HostState.SUSPECT, HostState.JOINING}:
                new = HostState.LOST
            elif silence > self.period * (1 + GRACE) and old is HostState.ALIVE:
                new = HostState.SUSPECT
            if new is not old:
                self._states[host] = HOST.check(old, new, of=host)
                changed.append(Silence(host, old, new, silence))
        return changed
