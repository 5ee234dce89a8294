"""Stored deployments and machines."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final, cast

from sqlalchemy import Row, Table, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from bitdew.core.ids import HostId, Uid
from bitdew.core.restarting import Restart
from bitdew.core.states import MACHINE, MachineState
from bitdew.wire import limits
from bitdew.wire.models import ConsoleChunk, Network, PortModel, SnapshotModel

from ..catalog.among import among
from ..catalog.database import Database
from ..catalog.feed import Told, along
from .records import DeploymentRecord, MachineRecord
from .tables import DeploymentRow, MachineRow
from .written import Written

_TABLE: Final[Table] = MachineRow.metadata.tables[MachineRow.__tablename__]
MACHINES: Final = select(*(column for column in _TABLE.columns if column.name != "console"))
ENDS: Final = sorted(MACHINE.ends())
_REPLACED: Final = or_(
    *(
        and_(DeploymentRow.restart == restart, MachineRow.state.in_([e for e in ENDS if restart.replaces(e)]))
        for restart in (Restart.ALWAYS, Restart.ON_FAILURE)
    )
)
FILLING: Final = and_(MachineRow.stop_wanted.is_(False), MachineRow.draining.is_(False))
"""What holds of machines that count as one of those that are wanted, unless another took their place."""
STANDING: Final = or_(
    MachineRow.state.not_in(ENDS),
    and_(MachineRow.successor.is_(None), FILLING, _REPLACED),
)


class MachineStore:
    """Reads and writes deployments and machines, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_deployment(
        self, deployment: DeploymentRecord, machines: Iterable[Uid], *, user_data: str = ""
    ) -> None:
        """Store a deployment, what its machines are told, and the machines, all requested."""
        async with self._database.write() as session:
            session.add(
                DeploymentRow(
                    uid=deployment.uid,
                    data=deployment.data,
                    count=deployment.count,
                    memory=deployment.memory,
                    cpus=deployment.cpus,
                    created=deployment.created,
                    owner=deployment.owner,
                    restart=deployment.restart,
                    network=deployment.network,
                    requires=deployment.requires,
                    ports=[port.model_dump() for port in deployment.ports],
                    ends=deployment.ends,
                    user_data=user_data or None,
                )
            )
            await session.flush()
            await _add(session, deployment, machines, deployment.created)

    async def scale(
        self, deployment: DeploymentRecord, count: int, *, more: Iterable[Uid], fewer: Collection[Uid], now: datetime
    ) -> None:
        """Store that a deployment is of `count` machines: request `more`, and remember that `fewer` should stop."""
        async with self._database.write() as session:
            await session.execute(update(DeploymentRow).where(DeploymentRow.uid == deployment.uid).values(count=count))
            await session.execute(update(MachineRow).where(among(MachineRow.uid, fewer)).values(stop_wanted=True))
            await _add(session, deployment, more, now)

    async def deployments(self, uids: Collection[Uid]) -> dict[Uid, DeploymentRecord]:
        """These deployments."""
        if not uids:
            return {}
        async with self._database.read() as session:
            rows = await session.scalars(select(DeploymentRow).where(among(DeploymentRow.uid, uids)))
            return {Uid(row.uid): deployment_from(row) for row in rows}

    async def disks_awaited(self, before: datetime, most: int) -> list[Uid]:
        """The disks of machines that have had no host since before then, those that have waited longest first."""
        waiting = sorted({MachineState.REQUESTED, MachineState.WAITING})
        query = select(MachineRow.data).where(MachineRow.state.in_(waiting), MachineRow.since < before)
        query = query.where(MachineRow.host.is_(None), MachineRow.stop_wanted.is_(False)).group_by(MachineRow.data)
        async with self._database.read() as session:
            found = await session.scalars(query.order_by(func.min(MachineRow.since), MachineRow.data).limit(most))
            return [Uid(uid) for uid in found]

    async def user_data(self, deployment: Uid) -> str:
        """What the machines of a deployment are told by its user."""
        async with self._database.read() as session:
            query = select(DeploymentRow.user_data).where(DeploymentRow.uid == deployment)
            return (await session.execute(query)).scalar_one() or ""

    async def seeded(self, deployments: Collection[Uid]) -> set[Uid]:
        """Those of these deployments whose machines are told something."""
        query = select(DeploymentRow.uid).where(
            among(DeploymentRow.uid, deployments), DeploymentRow.user_data.is_not(None)
        )
        async with self._database.read() as session:
            return {Uid(uid) for uid in await session.scalars(query)}

    async def all_deployments(self, *, prefix: str = "") -> list[DeploymentRecord]:
        """Every deployment whose uid begins so, oldest first."""
        query = select(DeploymentRow).where(DeploymentRow.uid.startswith(prefix, autoescape=True))
        async with self._database.read() as session:
            rows = await session.scalars(query.order_by(DeploymentRow.created, DeploymentRow.uid))
            return [deployment_from(row) for row in rows]

    async def machines(
        self,
        *,
        data: Collection[Uid] | None = None,
        uids: Collection[Uid] | None = None,
        host: HostId | None = None,
        prefix: str | None = None,
        unfinished: bool = False,
        deployment: Uid | None = None,
        standing: bool = False,
    ) -> list[MachineRecord]:
        """Machines, oldest first; every condition that is given must hold.

        `standing` are those that have not ended, and those whose place another may take still.
        """
        query = MACHINES.order_by(MachineRow.since, MachineRow.uid)
        if data is not None:
            query = query.where(among(MachineRow.data, data))
        if uids is not None:
            query = query.where(among(MachineRow.uid, uids))
        if host is not None:
            query = query.where(MachineRow.host == host)
        if prefix is not None:
            query = query.where(MachineRow.uid.startswith(prefix, autoescape=True))
        if unfinished:
            query = query.where(MachineRow.state.not_in(ENDS))
        if deployment is not None:
            query = query.where(MachineRow.deployment == deployment)
        if standing:
            query = query.join(DeploymentRow, DeploymentRow.uid == MachineRow.deployment).where(STANDING)
        async with self._database.read() as session:
            return [machine_from(row) for row in await session.execute(query)]

    async def machines_on(self, hosts: Collection[HostId] | None = None) -> dict[HostId, tuple[int, int, int]]:
        """For each host, or each of these: the machines that have not ended there, their memory and processors."""
        query = (
            select(MachineRow.host, func.count(), func.sum(DeploymentRow.memory), func.sum(DeploymentRow.cpus))
            .join(DeploymentRow, DeploymentRow.uid == MachineRow.deployment)
            .where(MachineRow.host.is_not(None), MachineRow.state.not_in(ENDS))
            .group_by(MachineRow.host)
        )
        if hosts is not None:
            query = query.where(among(MachineRow.host, hosts))
        async with self._database.read() as session:
            rows = await session.execute(query)
            return {HostId(h): (count, int(memory), int(cpus)) for h, count, memory, cpus in rows if h is not None}

    async def want_stop(self, uid: Uid) -> None:
        """Remember that a machine should stop: its deployment is of one less from then on."""
        async with self._database.write() as session:
            stopping = update(MachineRow).where(MachineRow.uid == uid, MachineRow.stop_wanted.is_(False))
            columns = MachineRow.data, MachineRow.deployment, MachineRow.draining
            stopped = (await session.execute(stopping.values(stop_wanted=True).returning(*columns))).all()
            for data, deployment, draining in stopped:
                if not draining:  # one that drains counts no more already
                    await _one_less(session, deployment)
                along(session, Told(topics=(deployment,), data=(Uid(data),)))

    async def want_drained(self, uids: Collection[Uid], topic: str) -> None:
        """Remember that machines should end once their jobs are done; who fills a place leaves it. Tells `topic`."""
        async with self._database.write() as session:
            its = and_(among(MachineRow.uid, uids), FILLING)
            columns = MachineRow.data, MachineRow.deployment, MachineRow.successor
            drained = await session.execute(update(MachineRow).where(its).values(draining=True).returning(*columns))
            for data, deployment, successor in drained.all():
                if successor is None:
                    await _one_less(session, deployment)
                along(session, Told(data=(Uid(data),), topics=(topic,)))

    async def draining_machines(self) -> list[MachineRecord]:
        """The machines that drain, and have neither ended nor been asked to stop."""
        query = MACHINES.where(
            MachineRow.draining.is_(True), MachineRow.stop_wanted.is_(False), MachineRow.state.not_in(ENDS)
        )
        async with self._database.read() as session:
            return [machine_from(row) for row in await session.execute(query.order_by(MachineRow.uid))]

    async def go_on(self, machine: MachineRecord, *, place_of: Uid | None) -> None:
        """Request `machine`, which goes on from another's snapshot: in its place, or in one more of the deployment."""
        async with self._database.write() as session:
            if place_of is not None:
                taken = update(MachineRow).where(MachineRow.uid == place_of).values(successor=machine.uid)
                await session.execute(taken)
            else:
                more = update(DeploymentRow).where(DeploymentRow.uid == machine.deployment)
                await session.execute(more.values(count=DeploymentRow.count + 1))
            await add_machines(session, [machine])
            along(session, Told(topics=(machine.deployment,), data=(machine.data,)))

    async def continuing(self, uid: Uid) -> list[MachineRecord]:
        """The machines that went on from snapshots of this one."""
        async with self._database.read() as session:
            return [machine_from(row) for row in await session.execute(MACHINES.where(MachineRow.continues == uid))]

    async def console(self, uid: Uid) -> tuple[str, int]:
        """The kept end of a machine's console, and how many characters it has written in all."""
        query = select(MachineRow.console, MachineRow.console_end).where(MachineRow.uid == uid)
        async with self._database.read() as session:
            row = (await session.execute(query)).one()
            return row.console, row.console_end


async def put_machines(session: AsyncSession, records: Collection[MachineRecord]) -> None:
    """Replace what is stored of machines within a transaction; what users wish of them stays."""
    if not records:
        return
    rows = [
        {
            "machine": record.uid,
            "host": record.host,
            "state": record.state,
            "since": record.since,
            "generation": record.generation,
            "hypervisor": record.hypervisor,
            "reason": record.reason,
            "cause": record.cause,
            "ran": record.ran,
            "successor": record.successor,
            "snapshots": [snapshot.model_dump(mode="json") for snapshot in record.snapshots],
            "ports": [port.model_dump() for port in record.ports],
        }
        for record in sorted(records, key=lambda record: record.uid)
    ]
    values: dict[str, Any] = {name: bindparam(name) for name in rows[0] if name != "machine"}
    change = update(_TABLE).where(_TABLE.c.uid == bindparam("machine")).values(values)
    await (await session.connection()).execute(change, rows)


async def add_machines(session: AsyncSession, records: Collection[MachineRecord]) -> None:
    """Store machines that are requested in others' places, within a transaction."""
    rows = [
        {
            "uid": record.uid,
            "deployment": record.deployment,
            "data": record.data,
            "state": record.state,
            "since": record.since,
            "cause": record.cause,
            "attempt": record.attempt,
            "continues": record.continues,
            "snapshot": record.snapshot,
            "bound": record.bound,
        }
        for record in records
    ]
    if rows:
        await session.execute(insert(MachineRow), rows)


async def _one_less(session: AsyncSession, deployment: str) -> None:
    fewer = update(DeploymentRow).where(DeploymentRow.uid == deployment, DeploymentRow.count > 0)
    await session.execute(fewer.values(count=DeploymentRow.count - 1))


async def _add(session: AsyncSession, deployment: DeploymentRecord, machines: Iterable[Uid], now: datetime) -> None:
    """Request machines of a deployment for the first time."""
    requested = {"deployment": deployment.uid, "data": deployment.data, "state": MACHINE.initial}
    rows = [{"uid": uid, "since": now, **requested} for uid in machines]
    if rows:
        await session.execute(insert(MachineRow), rows)
    along(session, Told(topics=(deployment.uid,), data=(deployment.data,)))


async def append_console(session: AsyncSession, uid: Uid, chunk: ConsoleChunk) -> None:
    """Add what a machine wrote, within a transaction."""
    row = await session.get(MachineRow, uid, options=[undefer(MachineRow.console)])
    if row is None:
        return
    written = Written(row.console, row.console_end).after(chunk, limits.CONSOLE)
    row.console, row.console_end = written.kept, written.end


def deployment_from(row: DeploymentRow) -> DeploymentRecord:
    """The deployment of a row."""
    return DeploymentRecord(
        uid=Uid(row.uid),
        data=Uid(row.data),
        count=row.count,
        memory=row.memory,
        cpus=row.cpus,
        created=row.created,
        owner=row.owner,
        restart=Restart(row.restart),
        network=cast("Network", row.network),
        requires=row.requires,
        ports=tuple(PortModel.model_validate(port) for port in row.ports),
        ends=row.ends,
    )


def machine_from(row: Row[Any]) -> MachineRecord:
    """The machine of a row of `MACHINES`."""
    return MachineRecord(
        uid=Uid(row.uid),
        deployment=Uid(row.deployment),
        data=Uid(row.data),
        host=HostId(row.host) if row.host else None,
        state=MachineState(row.state),
        since=row.since,
        generation=row.generation,
        stop_wanted=row.stop_wanted,
        draining=row.draining,
        hypervisor=row.hypervisor,
        reason=row.reason,
        cause=row.cause,
        console_end=row.console_end,
        attempt=row.attempt,
        ran=row.ran,
        successor=Uid(row.successor) if row.successor else None,
        continues=Uid(row.continues) if row.continues else None,
        snapshot=row.snapshot,
        bound=HostId(row.bound) if row.bound else None,
        snapshots=tuple(SnapshotModel.model_validate(found) for found in row.snapshots),
        ports=tuple(PortModel.model_validate(port) for port in row.ports),
    )
