"""What all machines of a host have together: their number, processors, memory, and the bytes that their disks grow by.

Jobs have their memory and processors of the same room: what they have no machine gets, nor the other way round.

Owns the sum of what is claimed, and the refusal of what would go beyond what the volunteer lends. Caps are hard: who is
refused has made nothing yet. It must not start or end anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.units import format_size

if TYPE_CHECKING:
    from pathlib import Path

    from bitdew.wire.models import LaunchOrder

    from .settings import WorkerSettings
    from .storage import Storage

SMALLEST_DISK: Final = 16 * 2**20
"""Bytes of the quota that a machine finds free when it begins: it writes something in any case."""
_BLOCK: Final = 512


@dataclass(frozen=True, slots=True)
class Claim:
    """What one machine has.

    Attributes:
        memory: Bytes.
        cpus: Processors.
    """

    memory: int
    cpus: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What machines have together.

    Attributes:
        machines: How many they are.
        memory: Bytes.
        cpus: Processors.
        disk: Bytes that their folders take.
        jobs: What jobs have beside them.
    """

    machines: int
    memory: int
    cpus: int
    disk: int
    jobs: Claim = Claim(0, 0)


class Room:
    """What is lent to machines, and what of it is taken.

    Attributes:
        settings: What the volunteer lends, as it is now.
        jobs: Tells what jobs have now.
    """

    def __init__(self, settings: WorkerSettings, storage: Storage) -> None:
        """`storage` has the copies that share the quota with machines."""
        self.settings = settings
        self.jobs: Callable[[], Claim] = lambda: Claim(0, 0)
        self._storage = storage
        self._claims: dict[str, Claim] = {}
        self._sizes: dict[str, int] = {}

    def claim(self, uid: str, order: LaunchOrder) -> None:
        """Give the machine `uid` what `order` asks for; again changes nothing.

        Raises:
            HostError: `host.full`: with it something would be more than is lent.
        """
        claim, taken = Claim(order.memory, order.cpus), self._taken(but=uid)
        why = refusal(self.settings, taken, claim) or self._no_disk(uid)
        if why:
            raise error("host.full", f"{self.settings.name} does not lend enough for this machine", why=why)
        self._claims[uid] = claim

    def refuses_job(self, asked: Claim) -> str:
        """Why a job more, which asks for this, is beyond what is lent, or ""."""
        taken = self._taken()
        if asked.memory > (left := self.settings.memory - taken.memory - taken.jobs.memory):
            return f"it asks for {format_size(asked.memory)}, and {format_size(max(0, left))} of memory are left"
        if asked.cpus > (spare := self.settings.cpus - taken.cpus - taken.jobs.cpus):
            return f"it asks for {asked.cpus} CPUs, and {max(0, spare)} are left"
        return ""

    def keep(self, uid: str, order: LaunchOrder) -> None:
        """The machine `uid` was let in before: it has what it has, whatever is lent now."""
        self._claims[uid] = Claim(order.memory, order.cpus)

    def release(self, uid: str) -> None:
        """The machine `uid` has ended."""
        self._claims.pop(uid, None)

    def taken(self) -> Taken:
        """What machines have now."""
        return self._taken()

    def grew(self, uid: str, now: int) -> BitDewError | None:
        """The machine `uid` takes `now` bytes of the disk: why it must not go on, if it grew beyond the quota."""
        before = self._sizes.get(uid, 0)
        if now:
            self._sizes[uid] = now
        else:
            self._sizes.pop(uid, None)
        self._storage.stand_beside(sum(self._sizes.values()))
        left = self._storage.left()
        if now <= before or left >= 0:
            return None
        why = f"its disk grew to {format_size(now)}, and the quota is exceeded by {format_size(-left)}"
        do = "Have it write less, or lend more: the worker's --quota."
        return error("storage.full", "The machine was stopped: it wrote more than the host lends", why=why, do=do)

    def left(self) -> int:
        """Bytes of the quota that nothing takes."""
        return self._storage.left()

    def disk_of(self, uid: str) -> int:
        """Bytes that the machine `uid` took of the disk when it was looked at last."""
        return self._sizes.get(uid, 0)

    def _no_disk(self, uid: str) -> str:
        left = self._storage.left()
        if uid in self._sizes or left >= SMALLEST_DISK:
            return ""
        return (
            f"{format_size(max(0, left))} of the quota are left for its disk, and {format_size(SMALLEST_DISK)} needed"
        )

    def _taken(self, but: str = "") -> Taken:
        claims = [claim for uid, claim in self._claims.items() if uid != but]
        memory, cpus = sum(c.memory for c in claims), sum(c.cpus for c in claims)
        return Taken(len(claims), memory, cpus, sum(self._sizes.values()), self.jobs())


def refusal(settings: WorkerSettings, taken: Taken, claim: Claim) -> str:
    """Why one machine more, with `claim`, is beyond what `settings` lend, or ""."""
    if settings.machines and taken.machines >= settings.machines:
        return f"it runs {taken.machines} machine(s), and {settings.machines} are lent"
    if claim.memory > (left := settings.memory - taken.memory - taken.jobs.memory):
        return f"it asks for {format_size(claim.memory)}, and {format_size(max(0, left))} of memory are left"
    if claim.cpus > settings.cpus:
        return f"it asks for {claim.cpus} CPUs, and one machine may have {settings.cpus}"
    if claim.cpus > (unworked := settings.cpus - taken.jobs.cpus):
        return f"it asks for {claim.cpus} CPUs, and jobs leave {max(0, unworked)} of {settings.cpus}"
    if settings.all_cpus and claim.cpus > (spare := settings.all_cpus - taken.cpus - taken.jobs.cpus):
        return f"it asks for {claim.cpus} CPUs, and {max(0, spare)} of all machines' {settings.all_cpus} are left"
    return ""


def folder_size(folder: Path) -> int:
    """Bytes that the files right in `folder` take on the disk; 0 if there is none. Follows no link. Blocks."""
    total = 0
    try:
        with os.scandir(folder) as found:
            for entry in found:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # removed meanwhile
                total += getattr(status, "st_blocks", -(-status.st_size // _BLOCK)) * _BLOCK
    except OSError:
        return 0
    return total
