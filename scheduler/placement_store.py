"""Stored placements: one by one, by page, and in sum."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, TypeVarTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    case,
    exists,
    func,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.states import INTENDED, MACHINE, PlacementState

from ..catalog.among import among, among_pairs
from ..catalog.database import Database
from ..catalog.tables import DataRow, OriginRow
from ..catalog.upsert import upsert
from .progress import Step
from .records import PlacementRecord, Totals
from .tables import MachineRow, PlacementRow

Columns = TypeVarTuple("Columns")

_TABLE: Final[Table] = PlacementRow.metadata.tables[PlacementRow.__tablename__]
_PLACEMENTS: Final = select(_TABLE)
_TAKEN: Final = sorted({*INTENDED, PlacementState.HELD})
"""A copy that is there or to come."""
_TAKES_SPACE: Final = sorted({*_TAKEN, PlacementState.DROPPING})
_STEPS: Final = 500
_NOTHING_THERE: Final = sorted({PlacementState.GONE, PlacementState.LOST})
_BEGUN: Final = frozenset({PlacementState.FETCHING, PlacementState.VERIFYING})
_COMING: Final = (PlacementState.HELD, PlacementState.VERIFYING, PlacementState.FETCHING, PlacementState.ASSIGNED)


def _peers() -> CompoundSelect[str, str]:
    """The hosts of a datum with their state, each state on the circle from a host on.

    A part of an index answers each arm.
    """
    host, state_of = _TABLE.c.host, _TABLE.c.state
    of: BindParameter[str] = bindparam("of")
    asking: BindParameter[str] = bindparam("asking")
    here = select(host, state_of).where(_TABLE.c.data == of).order_by(host).limit(bindparam("most"))
    parts = [
        here.where(state_of == state, beyond).subquery()
        for state in _COMING
        for beyond in (host > asking, host < asking)
    ]
    return union_all(*(select(part.c.host, part.c.state) for part in parts))


_PEERS: Final = _peers()


class PlacementStore:
    """Reads placements, one transaction a call."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def placements_of(self, data: Collection[Uid]) -> dict[Uid, list[PlacementRecord]]:
        """Where these data are, by datum, the oldest placement first."""
        found: dict[Uid, list[PlacementRecord]] = {uid: [] for uid in data}
        if found:
            query = _PLACEMENTS.where(among(PlacementRow.data, data))
            for row in await self._rows(query.order_by(PlacementRow.assigned, PlacementRow.host)):
                found[Uid(row.data)].append(_placement(row))
        return found

    async def placements_on(self, host: HostId) -> dict[Uid, PlacementRecord]:
        """What a host has or should have, by datum."""
        rows = await self._rows(_PLACEMENTS.where(PlacementRow.host == host))
        return {Uid(row.data): _placement(row) for row in rows}

    async def placements_at(self, pairs: Collection[tuple[Uid, HostId]]) -> dict[tuple[Uid, HostId], PlacementRecord]:
        """The placements of these data on these hosts, each pair of them."""
        if not pairs:
            return {}
        rows = await self._rows(_PLACEMENTS.where(among_pairs(PlacementRow.data, PlacementRow.host, pairs)))
        return {(Uid(row.data), HostId(row.host)): _placement(row) for row in rows}

    async def peers_of(
        self, data: Collection[Uid], asking: HostId, most: int, near: Collection[HostId] = ()
    ) -> dict[Uid, dict[HostId, bool]]:
        """Hosts that hold these data, or are to, by datum: whether they hold it, those who do first.

        Args:
            data: The data.
            asking: Who is to be told of them; it is not among them.
            most: How many to name in each state, in each direction. The hosts stand on a circle and are named from
                `asking` on, so that many who ask are not all told of the same few.
            near: Hosts that are named beyond that number, if they hold it or are to.
        """
        found: dict[Uid, dict[HostId, bool]] = {}
        async with self._database.read() as session:
            for uid in data:
                rows = list(await session.execute(_PEERS, {"of": uid, "asking": asking, "most": most}))
                if near:
                    query = select(PlacementRow.host, PlacementRow.state)
                    there = PlacementRow.data == uid, PlacementRow.state.in_(_COMING), among(PlacementRow.host, near)
                    rows += await session.execute(query.where(*there))
                found[uid] = {HostId(host): state == PlacementState.HELD for host, state in rows if host != asking}
        return found

    async def sought_at(self, host: HostId, besides: Collection[ContentRoot], most: int) -> list[ContentRoot]:
        """The contents that `host` holds and some other host fetches, or that are among `besides`; `most` at most.

        What is only ordered waits for its turn elsewhere: whoever begins with it has holders called.
        """
        mine, its, same, other = PlacementRow, DataRow, aliased(DataRow), aliased(PlacementRow)
        held = select(its.root).join(mine, mine.data == its.uid)
        held = held.where(mine.host == host, mine.state == PlacementState.HELD)
        coming = held.join(same, same.root == its.root).join(other, other.data == same.uid)
        coming = coming.where(other.host != host, other.state.in_(sorted(_BEGUN))).distinct()
        found = [row.root for row in await self._rows(held.where(among(its.root, besides)))] if besides else []
        found += [row.root for row in await self._rows(coming.limit(most))]
        return [ContentRoot(root) for root in dict.fromkeys(found)][:most]

    async def placed(self) -> set[Uid]:
        """The data of which some host has or should have a copy, dead ones included."""
        rows = await self._rows(select(PlacementRow.data).where(PlacementRow.state != PlacementState.GONE).distinct())
        return {Uid(row.data) for row in rows}

    async def page(self, after: Uid | None, limit: int) -> list[Uid]:
        """The uids, in order, of `limit` data after `after` that concern a planner.

        These are the living ones, and dead ones of which a host has something, or a machine has not ended.
        """
        placed = exists().where(PlacementRow.data == DataRow.uid, PlacementRow.state != PlacementState.GONE)
        runs = exists().where(MachineRow.data == DataRow.uid, MachineRow.state.not_in(sorted(MACHINE.ends())))
        query = select(DataRow.uid).where(or_(DataRow.alive, placed, runs)).order_by(DataRow.uid).limit(limit)
        if after is not None:
            query = query.where(DataRow.uid > after)
        return [Uid(row.uid) for row in await self._rows(query)]

    async def save_steps(self, steps: Mapping[tuple[Uid, HostId], Step]) -> None:
        """Store how far copies on their way are, a few at a time: whoever writes has all others wait."""
        pairs = sorted(steps)
        for start in range(0, len(pairs), _STEPS):
            async with self._database.write() as session:
                await put_steps(session, {pair: steps[pair] for pair in pairs[start : start + _STEPS]})

    # In sum -------------------------------------------------------------------------------------------------------

    async def host_totals(self, hosts: Collection[HostId] | None = None) -> dict[HostId, Totals]:
        """What the copies amount to on each host, or each of these, that has any."""
        space = PlacementRow.state.in_(_TAKES_SPACE)
        query = (
            select(PlacementRow.host, func.sum(DataRow.size), _count(PlacementRow.state.in_(sorted(INTENDED))))
            .join(DataRow, DataRow.uid == PlacementRow.data)
            .where(space, *_on(hosts))
            .group_by(PlacementRow.host)
        )
        return {HostId(host): Totals(int(size), int(fetched)) for host, size, fetched in await self._rows(query)}

    async def committed(self) -> dict[HostId, int]:
        """Bytes of quota that copies take or were promised, by host."""
        return {host: totals.committed for host, totals in (await self.host_totals()).items()}

    async def held_counts(self, hosts: Collection[HostId]) -> dict[HostId, int]:
        """How many verified copies each of these hosts has, for those that have any."""
        held = (PlacementRow.state == PlacementState.HELD) & among(PlacementRow.host, hosts)
        query = select(PlacementRow.host, func.count()).where(held).group_by(PlacementRow.host)
        return {HostId(host): count for host, count in await self._rows(query)}

    async def census(
        self, *, hosts: Collection[HostId] | None = None, attributes: Collection[Uid] | None = None
    ) -> list[tuple[Uid, HostId, int, int]]:
        """How many copies of data of an attribute are on a host: `(attribute, host, taken, held)`.

        Args:
            hosts: Only those on these.
            attributes: Only those of these.

        Returns:
            What is not zero. Taken are the copies that are there or to come, held those that the host has verified.
        """
        conditions = [] if attributes is None else [among(DataRow.attribute, attributes)]
        query = (
            select(
                DataRow.attribute, PlacementRow.host, func.count(), _count(PlacementRow.state == PlacementState.HELD)
            )
            .join(DataRow, DataRow.uid == PlacementRow.data)
            .where(PlacementRow.state.in_(_TAKEN), *_on(hosts), *conditions)
            .group_by(DataRow.attribute, PlacementRow.host)
        )
        rows = await self._rows(query)
        return [(Uid(attribute), HostId(host), taken, int(held)) for attribute, host, taken, held in rows]

    # Data by host and attribute ------------------------------------------------------------------------------------

    async def data_on(
        self, host: HostId, attributes: Collection[Uid] | None = None, among_data: Collection[Uid] | None = None
    ) -> list[Uid]:
        """The data of which `host` has or should have something, dead ones included.

        Args:
            host: The host.
            attributes: Only data of these attributes.
            among_data: Only these data.
        """
        query = select(PlacementRow.data).where(PlacementRow.host == host, PlacementRow.state != PlacementState.GONE)
        if among_data is not None:
            query = query.where(among(PlacementRow.data, among_data))
        if attributes is not None:
            its = among(DataRow.attribute, attributes)
            query = query.join(DataRow, DataRow.uid == PlacementRow.data).where(its)
        return [Uid(row.data) for row in await self._rows(query)]

    async def lacking(
        self, host: HostId, attributes: Collection[Uid], limit: int | None = None, after: Uid | None = None
    ) -> list[Uid]:
        """The living data of these attributes, by uid, of which `host` has nothing and is to get nothing.

        Args:
            host: The host.
            attributes: The attributes. Data whose bytes have not come, nor were ever offered, are left out.
            limit: The most to name.
            after: Only data after this one.
        """
        there = exists().where(
            PlacementRow.data == DataRow.uid, PlacementRow.host == host, PlacementRow.state.not_in(_NOTHING_THERE)
        )
        offered = exists().where(OriginRow.uid == DataRow.uid)
        here = and_(among(DataRow.attribute, attributes), DataRow.alive, or_(DataRow.awaited.is_(False), offered))
        query = select(DataRow.uid).where(here, ~there).order_by(DataRow.uid).limit(limit)
        if after is not None:
            query = query.where(DataRow.uid > after)
        return [Uid(row.uid) for row in await self._rows(query)]

    async def excess(self, attribute: Uid, host: HostId, cap: int) -> set[Uid]:
        """The data of an attribute whose copies on `host` are beyond the first `cap`, counted by age of the data."""
        query = (
            select(DataRow.uid)
            .join(PlacementRow, PlacementRow.data == DataRow.uid)
            .where(DataRow.attribute == attribute, PlacementRow.host == host, PlacementRow.state.in_(_TAKEN))
            .order_by(DataRow.created, DataRow.uid)
            .offset(cap)
        )
        return {Uid(row.uid) for row in await self._rows(query)}

    async def _rows(self, query: Select[*Columns]) -> list[Row[*Columns]]:
        async with self._database.read() as session:
            return list(await session.execute(query))


async def put_steps(session: AsyncSession, steps: Mapping[tuple[Uid, HostId], Step]) -> None:
    """Store, within a transaction, how far copies on their way are. No lease is cut short by it."""
    own = _TABLE.c
    earlier = or_(own.lease_until.is_(None), own.lease_until <= bindparam("until"))
    here = and_(own.data == bindparam("of"), own.host == bindparam("at"), own.generation <= bindparam("by"))
    coming = or_(*(own.state == state for state in sorted(INTENDED)))  # a list can't be given for many rows at once
    moved = (
        update(_TABLE)
        .where(here, coming, earlier)
        .values(
            lease_until=bindparam("until"),
            done=bindparam("so_far"),
            from_repository=bindparam("repository"),
            from_peers=bindparam("peers"),
        )
    )
    rows = [
        {
            "of": uid,
            "at": host,
            "by": step.generation,
            "until": step.lease_until,
            "so_far": step.done,
            "repository": step.from_repository,
            "peers": step.from_peers,
        }
        for (uid, host), step in sorted(steps.items())
    ]
    if rows:
        await (await session.connection()).execute(moved, rows)


async def put_placements(session: AsyncSession, records: Collection[PlacementRecord]) -> None:
    """Insert or replace placements within a transaction."""
    rows = [
        {
            "data": record.data,
            "host": record.host,
            "state": record.state,
            "since": record.since,
            "assigned": record.assigned,
            "generation": record.generation,
            "lease_until": record.lease_until,
            "retry_at": record.retry_at,
            "failures": record.failures,
            "reason": record.reason,
            "cause": record.cause,
            "done": record.done,
            "seconds": record.seconds,
            "from_repository": record.from_repository,
            "from_peers": record.from_peers,
            "reused": record.reused,
            "freed": record.freed,
            "history": list(record.history),
        }
        for record in sorted(records, key=lambda record: (record.data, record.host))
    ]
    await upsert(session, _TABLE, rows)


def _on(hosts: Collection[HostId] | None) -> list[ColumnElement[bool]]:
    return [] if hosts is None else [among(PlacementRow.host, hosts)]


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _placement(row: Row[Any]) -> PlacementRecord:
    return PlacementRecord(
        data=Uid(row.data),
        host=HostId(row.host),
        state=PlacementState(row.state),
        since=row.since,
        assigned=row.assigned,
        generation=row.generation,
        lease_until=row.lease_until,
        retry_at=row.retry_at,
        failures=row.failures,
        reason=row.reason,
        cause=row.cause,
        done=row.done,
        seconds=row.seconds,
        from_repository=row.from_repository,
        from_peers=row.from_peers,
        history=row.history,
        freed=row.freed,
        reused=row.reused,
    )
