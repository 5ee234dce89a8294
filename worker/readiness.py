"""What must be so before a machine begins: a record that holds, a driver, room, its disk, its owner's leave, its seed.

Owns what is verified, and what is waited for. Nothing of an order is believed that is not proven here.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import error
from bitdew.core.states import MachineState
from bitdew.tasks import first_of
from bitdew.trust.records import read_record

from .link import patiently
from .seed import write_seed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bitdew.core.data import ImageRecord
    from bitdew.hypervisor import Hypervisor

    from .entries import MachineEntry
    from .machine import Premises

_S: Final = MachineState
FRESH: Final = timedelta(minutes=30)
"""How long a seed is good that no machine has begun with: its token lasts twice as long."""


class Readiness:
    """Gets one machine ready to begin."""

    def __init__(
        self,
        entry: MachineEntry,
        premises: Premises,
        halt: asyncio.Event,
        advance: Callable[[MachineState], Awaitable[None]],
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        """Set `halt` ends every waiting; `advance` moves the machine to a state; `changed` has its entry told."""
        self.entry = entry
        self._on = premises
        self._halt = halt
        self._advance = advance
        self._changed = changed

    async def driver(self) -> Hypervisor | None:
        """The driver to run it, when it may begin; None if it was halted before.

        Raises:
            BitDewError: why it never may.
        """
        entry, on = self.entry, self._on
        self._verified()
        driver = self._chosen()
        on.room.claim(entry.uid, entry.order)
        entry.hypervisor = driver.name
        if not await self._have_disk():
            return None
        record = self._verified()  # again: it may have expired while the disk was on its way
        if on.copies.size_of(entry.order.root) != record.size:
            raise error("disk.signature", f"The copy of {record.name} has another size than its record says")
        await self._have_leave()
        return driver

    def _verified(self) -> ImageRecord:
        """The record of the disk, if this machine may be booted from it. Nothing else of an order is believed.

        Raises:
            UserError: `disk.signature`; `certificate.role` if the host refuses the publisher.
        """
        order, on = self.entry.order, self._on
        record = read_record(order.record.to_signed(), ca=on.ca, now=on.clock.now())
        if record.root != order.root or record.uid != order.data:
            why = "it is signed for another datum" if record.uid != order.data else "it is signed for other bytes"
            raise error("disk.signature", f"The image record of {record.name} does not fit the order", why=why)
        on.settings.check_publisher(record.publisher)
        return record

    def _chosen(self) -> Hypervisor:
        """The driver to run it.

        Raises:
            HostError: `hypervisor.missing`.
        """
        on = self._on
        if not on.hypervisors:
            raise error("hypervisor.missing", f"{on.settings.name} has no usable hypervisor")
        order = self.entry.order
        if order.continues is not None and not self.entry.body:
            why = f"machine {order.continues[:8]} is not on this host any more"
            raise error("snapshot.not-found", f"The snapshot {order.snapshot} is gone", why=why)
        if self.entry.body and self.entry.hypervisor not in on.hypervisors:
            raise error("hypervisor.missing", f"{self.entry.hypervisor} is not usable here any more")
        able = [
            driver
            for driver in on.hypervisors.values()
            if (driver.capabilities.seed or not order.seeded)
            and (driver.capabilities.network or (order.network == "none" and not order.ports))
        ]
        if not able:
            names = ", ".join(on.hypervisors)
            raise error(
                "hypervisor.missing", f"{names} on {on.settings.name} can't give machines a seed, a network or ports"
            )
        return next((driver for driver in able if driver.name == self.entry.hypervisor), able[0])

    async def _have_disk(self) -> bool:
        """Return True when the disk is held and stays for this machine, False if it was halted before."""
        copies, entry = self._on.copies, self.entry
        halted = asyncio.ensure_future(self._halt.wait())
        try:
            while not halted.done():
                moved = asyncio.ensure_future(copies.next_move())
                try:
                    if await copies.borrow(entry.order.root, entry.uid) is not None:
                        return True
                    await self._advance(_S.WAITING)
                    await asyncio.wait({halted, moved}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
                    await asyncio.gather(moved, return_exceptions=True)
            return False
        finally:
            halted.cancel()
            await asyncio.gather(halted, return_exceptions=True)

    async def have_seed(self, path: Path, *, anew: bool = False) -> None:
        """Return when what the machine is told lies at `path`, or when it was halted before.

        What lies there already is kept while its token is good, unless it is to be asked for `anew`. A service that is
        away is waited for.

        Raises:
            BitDewError: what the service answers; `storage.failed`.
        """
        entry, on = self.entry, self._on
        if not entry.order.seeded or (not anew and await asyncio.to_thread(_is_fresh, path, on.clock.now())):
            return
        asking = asyncio.ensure_future(patiently(lambda: on.ask_seed(entry.uid)))
        halted = asyncio.ensure_future(self._halt.wait())
        try:
            await asyncio.wait({asking, halted}, return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                await asyncio.to_thread(write_seed, path, entry.body or entry.uid, on.url, asking.result())
        finally:
            for task in (asking, halted):
                task.cancel()
            await asyncio.gather(asking, halted, return_exceptions=True)

    async def _have_leave(self) -> None:
        """Return when machines may run here, or when it was halted before."""
        leave, entry = self._on.leave, self.entry
        while leave.refusal is not None and not self._halt.is_set():
            if entry.reason == leave.refusal:
                await first_of(leave.moved(), self._halt.wait())
                continue
            refusal = leave.refusal
            await self._advance(_S.WAITING)
            entry.reason = refusal
            await self._changed()
        if entry.reason is not None:
            entry.reason = None
            await self._changed()


def _is_fresh(seed: Path, now: datetime) -> bool:
    """Whether there is a seed whose token is still good. Blocks."""
    try:
        written = datetime.fromtimestamp(seed.stat().st_mtime, UTC)
    except OSError:
        return False
    return abs(now - written) < FRESH
