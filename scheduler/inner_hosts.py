"""Machines that are hosts themselves: shown as part of their machines, and shut out when those have ended.

Owns the end of an identity that was made for a machine. Whatever the worker inside had, its key included, may be in an
image that somebody keeps: from the machine's end on it is worth nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import structlog

from bitdew.core.errors import BitDewError
from bitdew.core.ids import HostId, Uid
from bitdew.core.states import MACHINE, HostState
from bitdew.tasks import to_the_end

from ..catalog.identity_store import IdentityStore
from ..catalog.leadership import Leadership
from ..catalog.registry import Registry
from .known import Known

log = structlog.get_logger(__name__)

ENDED: Final = "ended machines"
"""The topic of machines that have ended."""
LONGEST_NAP: Final = 3600.0
AGAIN: Final = 5.0
"""Seconds before what could not be done is tried again."""


class InnerHosts:
    """The hosts that are machines of this grid."""

    def __init__(self, known: Known, store: IdentityStore, registry: Registry, leadership: Leadership) -> None:
        self._known = known
        self._store = store
        self._registry = registry
        self._leadership = leadership

    async def of(self, machines: Collection[Uid]) -> dict[Uid, HostId]:
        """For each of these machines that joined and has not ended, the host that it is.

        One that went back to before it had joined is another one from then on: the one that came, or came back, last.
        """
        return self._last_of_each(await self._store.inner_hosts(machines) if machines else {})

    def _last_of_each(self, found: Mapping[str, str]) -> dict[Uid, HostId]:
        in_order = sorted(found.items(), key=lambda one: (self._came(HostId(one[0])), one[0]))
        return {Uid(machine): HostId(host) for host, machine in in_order}

    def _came(self, host: HostId) -> tuple[bool, float]:
        """The higher, the likelier it is the one that is there now."""
        record = self._known.hosts.get(host)
        if record is None:
            return False, 0.0
        return record.state is not HostState.LOST, record.state_since.timestamp()

    async def gone(self) -> set[HostId]:
        """The hosts that are there no more: that were machines which have ended, or which are other hosts by now.

        A machine that went back to before it had joined leaves the host that it was behind, which is lost. It is not
        shut out: a later snapshot of the machine may still bring it back.
        """
        found = await self._store.inner_hosts()
        last = self._last_of_each(found)
        left = {HostId(host) for host, machine in found.items() if last[Uid(machine)] != host}
        return {HostId(host) for host in await self._store.inner_hosts(over=True)} | set(filter(self._is_lost, left))

    def _is_lost(self, host: HostId) -> bool:
        record = self._known.hosts.get(host)
        return record is not None and record.state is HostState.LOST

    async def hand_over(self, old: Uid, new: Uid) -> None:
        """The machine `new` goes on from `old`, and so does the host inside."""
        await self._store.hand_over(old, new)

    async def run(self) -> None:
        """Shut out what was made for machines when they have ended, whenever this process leads; until cancelled."""
        while True:
            await self._leadership.gained()
            seen, nap = self._known.changes.version(ENDED), LONGEST_NAP
            try:
                await to_the_end(self.step())
            except Exception:
                log.exception("identities of ended machines could not be revoked; it is tried again")
                nap = AGAIN
            await self._known.changes.wait(ENDED, seen, nap)

    async def step(self) -> None:
        """Revoke what was made for machines that have ended and from which none can go on."""
        hosts, tokens = await self._store.inner_hosts(), await self._store.machines_with_tokens()
        asked = {Uid(machine) for machine in {*hosts.values(), *tokens}}
        if not asked:
            return
        known = {m.uid: m for m in await self._known.store.machines(uids=asked)}
        over = {
            uid for uid in asked if (m := known.get(uid)) is None or (m.state in MACHINE.ends() and not m.snapshots)
        }
        gone = [host for host, machine in hosts.items() if machine in over]
        for host in gone:
            try:
                await self._registry.revoke(host)
            except BitDewError as fault:
                if fault.key != "host.not-found":  # it never got its certificate
                    raise
            log.info("a machine has ended, and its identity is revoked", host=host, machine=hosts[host])
        if over:
            await self._store.end_inner(over, gone)
