"""Stored deployments and machines."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from sqlalchemy import Row, Table, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import undefer

from bitdew.core.ids import HostId, Uid
from bitdew.core.states import MACHINE, MachineState
from bitdew.wire import limits
from bitdew.wire.models import ConsoleChunk

from ..catalog.among import among
from ..catalog.database import Database
from ..catalog.feed import Told, along
from .records import DeploymentRecord, MachineRecord
from .tables import DeploymentRow, MachineRow

_TABLE: Final[Table] = MachineRow.metadata.tables[MachineRow.__tablename__]
_MACHINES: Final = select(*(column for column in _TABLE.columns if column.name != "console"))
_ENDS: Final = sorted(MACHINE.ends())


class MachineStore:
    """Reads and writes deployments and machines, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_deployment(self, deployment: DeploymentRecord, machines: Iterable[Uid]) -> None:
        """Store a deployment and its machines, all requested."""
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
                )
            )
            await session.flush()
            requested = {"deployment": deployment.uid, "data": deployment.data, "state": MACHINE.initial}
            rows = [{"uid": uid, "since": deployment.created, **requested} for uid in machines]
            if rows:
                await session.execute(insert(MachineRow), rows)
            along(session, Told(data=(deployment.data,)))

    async def deployments(self, uids: Collection[Uid]) -> dict[Uid, DeploymentRecord]:
        """These deployments."""
        if not uids:
            return {}
        async with self._database.read() as session:
            rows = await session.scalars(select(DeploymentRow).where(among(DeploymentRow.uid, uids)))
            return {Uid(row.uid): _deployment(row) for row in rows}

    async def machines(
        self,
        *,
        data: Collection[Uid] | None = None,
        uids: Collection[Uid] | None = None,
        host: HostId | None = None,
        prefix: str | None = None,
        unfinished: bool = False,
    ) -> list[MachineRecord]:
        """Machines, oldest first; every condition that is given must hold."""
        query = _MACHINES.order_by(MachineRow.since, MachineRow.uid)
        if data is not None:
            query = query.where(among(MachineRow.data, data))
        if uids is not None:
            query = query.where(among(MachineRow.uid, uids))
        if host is not None:
            query = query.where(MachineRow.host == host)
        if prefix is not None:
            query = query.where(MachineRow.uid.startswith(prefix, autoescape=True))
        if unfinished:
            query = query.where(MachineRow.state.not_in(_ENDS))
        async with self._database.read() as session:
            return [_machine(row) for row in await session.execute(query)]

    async def memory_on(self, hosts: Collection[HostId] | None = None) -> dict[HostId, tuple[int, int]]:
        """For each host, or each of these: how many machines have not ended there, and the memory given to them."""
        query = (
            select(MachineRow.host, func.count(), func.sum(DeploymentRow.memory))
            .join(DeploymentRow, DeploymentRow.uid == MachineRow.deployment)
            .where(MachineRow.host.is_not(None), MachineRow.state.not_in(_ENDS))
            .group_by(MachineRow.host)
        )
        if hosts is not None:
            query = query.where(among(MachineRow.host, hosts))
        async with self._database.read() as session:
            rows = await session.execute(query)
            return {HostId(host): (count, int(memory)) for host, count, memory in rows if host is not None}

    async def want_stop(self, uid: Uid) -> None:
        """Remember that a machine should stop."""
        async with self._database.write() as session:
            stopping = update(MachineRow).where(MachineRow.uid == uid).values(stop_wanted=True)
            for data in await session.scalars(stopping.returning(MachineRow.data)):
                along(session, Told(data=(Uid(data),)))

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
        }
        for record in sorted(records, key=lambda record: record.uid)
    ]
    values: dict[str, Any] = {name: bindparam(name) for name in rows[0] if name != "machine"}
    change = update(_TABLE).where(_TABLE.c.uid == bindparam("machine")).values(values)
    await (await session.connection()).execute(change, rows)


async def append_console(session: AsyncSession, uid: Uid, chunk: ConsoleChunk) -> None:
    """Add what a machine wrote, within a transaction."""
    row = await session.get(MachineRow, uid, options=[undefer(MachineRow.console)])
    if row is None:
        return
    missing = chunk.offset - row.console_end
    text = chunk.text.replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL keeps no NUL in a text
    fresh = _gap(missing) + text if missing > 0 else text[-missing:]  # what was said before is not repeated
    if fresh:
        row.console = (row.console + fresh)[-limits.CONSOLE :]
        row.console_end = chunk.offset + len(chunk.text)


def _gap(missing: int) -> str:
    """A note in place of what is missing, as long as that: offsets count characters of the console."""
    note, width = f"\n[{missing} characters are missing]\n", min(missing, limits.CONSOLE)
    return note.ljust(width) if len(note) <= width else "?" * width


def _deployment(row: DeploymentRow) -> DeploymentRecord:
    return DeploymentRecord(Uid(row.uid), Uid(row.data), row.count, row.memory, row.cpus, row.created, row.owner)


def _machine(row: Row[Any]) -> MachineRecord:
    return MachineRecord(
        uid=Uid(row.uid),
        deployment=Uid(row.deployment),
        data=Uid(row.data),
        host=HostId(row.host) if row.host else None,
        state=MachineState(row.state),
        since=row.since,
        generation=row.generation,
        stop_wanted=row.stop_wanted,
        hypervisor=row.hypervisor,
        reason=row.reason,
        cause=row.cause,
        console_end=row.console_end,
    )
