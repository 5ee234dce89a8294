"""What people do to a simulated grid: they define attributes, add, change and remove data, and run machines.

Owns the way of each wish into the catalog's rooms, by one operator who may do everything. Nothing of what follows from
it is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from bitdew.core.content import piece_length_for
from bitdew.core.data import Data, ImageRecord, SignedRecord
from bitdew.core.draining import Drain
from bitdew.core.errors import error
from bitdew.core.ids import ContentRoot, HostId, Uid, new_uid
from bitdew.core.restarting import Restart
from bitdew.trust.roles import Role, Subject
from bitdew.wire.models import DatumRequest

from ...catalog.data_store import Disk
from ..records import DeploymentRecord
from .grid import SimulatedGrid

OPERATOR: Final = Subject(Role.OPERATOR, "0" * 32, "1", "operator")
Choice = str | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Added:
    """A datum as it was added."""

    uid: Uid
    name: str
    root: ContentRoot
    size: int


class People:
    """The grid's users, all of them one operator."""

    def __init__(self, grid: SimulatedGrid) -> None:
        self._grid = grid
        self.data: dict[Uid, Added] = {}

    # Attributes ---------------------------------------------------------------------------------------------------

    async def define(self, name: str, wishes: Mapping[str, Any]) -> Uid:
        """Give wishes a name, or other wishes to a name.

        Raises:
            UserError: `attribute.…`.
        """
        record = await self._grid.service.attributes.keep(name, wishes, OPERATOR)
        await self._grid.settle()
        return record.uid

    async def choose(self, uid: Uid, choice: Choice) -> None:
        """Give a datum another attribute.

        Raises:
            UserError: `attribute.…`, `data.not-found`.
        """
        record = await self._grid.service.data.choose(uid, choice, OPERATOR)
        self._grid.audit.regrouped(uid, record.uid)
        await self._grid.settle()

    # Data ---------------------------------------------------------------------------------------------------------

    async def add(self, wanted: Sequence[tuple[str, int, Choice]], *, awaited: bool = False) -> list[Uid]:
        """Add data by name, size and attribute. Those that are awaited get their bytes with `arrive`.

        Raises:
            UserError: `attribute.…`, `disk.name-taken`.
        """
        asked = [
            DatumRequest(name=name, root=self._root(), size=size, attribute=choice) for name, size, choice in wanted
        ]
        if not awaited:
            self._grid.repository.contents |= {ContentRoot(one.root) for one in asked}
        uids = await self._grid.service.data.create(asked, OPERATOR)
        for uid, one in zip(uids, asked, strict=True):
            self.data[uid] = Added(uid, one.name, ContentRoot(one.root), one.size)
        self._grid.living.update(uids)
        self._grid.changed.update(dict.fromkeys(uids))
        await self._grid.settle()
        return uids

    async def add_disk(self, name: str, size: int, choice: Choice) -> Uid:
        """Add a disk, from which machines boot. Its record is signed by nobody: no simulated host looks at it.

        Raises:
            UserError: `attribute.…`, `disk.name-taken`.
        """
        service, now, root = self._grid.service, self._grid.clock.now(), self._root()
        attribute = await service.attributes.resolve(choice, OPERATOR.subject_id)
        data = Data(new_uid(), name, root, size, piece_length_for(size), now, OPERATOR.subject_id)
        record = ImageRecord(
            uid=data.uid,
            name=name,
            root=root,
            info_hash=root,
            size=size,
            format="raw",
            os="any",
            arch="x86_64",
            version="1",
            publisher=OPERATOR.name,
            issued=now,
            expires=now + timedelta(days=3650),
        )
        signed = SignedRecord(b"{}", b"nobody", "nobody")
        ends = attribute.ends(now)
        self._grid.repository.contents.add(root)
        await service.known.data.add(Disk(data, root, attribute, ends=ends, record=record, signed=signed))
        self.data[data.uid] = Added(data.uid, name, root, size)
        self._grid.living.add(data.uid)
        service.engine.lookout.data_changed([data.uid])
        await self._grid.settle()
        return data.uid

    async def arrive(self, uid: Uid) -> None:
        """The bytes of a datum come to the repository."""
        added, service = self.data[uid], self._grid.service
        self._grid.repository.contents.add(added.root)
        changed = await service.known.data.came({added.root: added.size}, service.known.clock.now())
        service.contents.changed(changed)
        await self._grid.settle()

    async def damage(self, uid: Uid, *, damaged: bool = True) -> None:
        """The repository's copy of a datum goes bad, or is mended."""
        root, service = self.data[uid].root, self._grid.service
        if damaged:
            self._grid.repository.contents.discard(root)
        else:
            self._grid.repository.contents.add(root)
        service.contents.changed(
            await service.known.data.mark_damaged(root, service.known.clock.now(), "", damaged=damaged)
        )
        await self._grid.settle()

    async def remove(self, uid: Uid) -> None:
        """End the life of a datum.

        Raises:
            UserError: `data.not-found`.
        """
        await self._grid.service.data.remove(uid, OPERATOR)
        self._grid.ended(uid)
        await self._grid.settle()

    def _root(self) -> ContentRoot:
        return ContentRoot(f"{self._grid.chance.getrandbits(256):064x}")

    # Machines -----------------------------------------------------------------------------------------------------

    async def deploy(
        self, disk: Uid, count: int, memory: int, cpus: int = 1, restart: Restart = Restart.NEVER
    ) -> list[Uid]:
        """Ask for machines from a disk.

        Raises:
            UserError: `data.not-found`.
        """
        service, now = self._grid.service, self._grid.clock.now()
        if disk not in self._grid.living:
            raise error("data.not-found", "It lives no more")
        machines = [new_uid() for _ in range(count)]
        deployment = DeploymentRecord(new_uid(), disk, count, memory, cpus, now, OPERATOR.subject_id, restart)
        await service.known.store.add_deployment(deployment, machines)
        service.engine.look_at(disk)
        await self._grid.settle()
        return machines

    async def stop(self, machine: Uid) -> None:
        """Ask a machine to end."""
        service = self._grid.service
        found = await service.known.store.machines(uids=[machine])
        await service.known.store.want_stop(machine)
        service.engine.look_at(*(one.data for one in found))
        await self._grid.settle()

    async def drain(self, host: HostId, drain: Drain | None) -> None:
        """Have a host emptied, or no more."""
        await self._grid.service.engine.drain(host, drain)
        await self._grid.settle()

    async def ban(self, host: str) -> None:
        """Shut a host out."""
        await self._grid.service.engine.shut_out(host)
        await self._grid.settle()
