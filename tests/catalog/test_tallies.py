"""Tallies: whatever comes, goes or changes, the sums are the numbers of the rows, and they are few."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from bitdew.catalog import tallies as tallies_module
from bitdew.catalog.database import Base, Database
from bitdew.catalog.leadership import Leadership
from bitdew.catalog.tallies import Tallying, tallied_by_owner, tallies
from bitdew.catalog.upsert import upsert
from bitdew.scheduler.figure_store import FigureStore
from bitdew.scheduler.jobs.tables import JobRow
from bitdew.scheduler.tables import MachineRow, OrderRow, PlacementRow
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.clock import SystemClock
from bitdew.core.states import JobState, MachineState, PlacementState

NOW = datetime(2026, 3, 4, tzinfo=UTC)
TABLES = Base.metadata.tables
DATA, PLACEMENTS, JOBS = TABLES["data"], TABLES["placements"], TABLES["jobs"]
MACHINES, ORDERS = TABLES["machines"], TABLES["orders"]
Made = Callable[[random.Random], dict[str, Any]]


def uid(kind: str, number: int) -> str:
    return f"{kind}{number:0{32 - len(kind)}x}"


@pytest.fixture
async def filled(database: Database) -> Database:
    """A database with what the rows refer to."""
    async with database.write() as session:
        await session.execute(
            insert(TABLES["attributes"]).values(
                uid="a" * 32, name="a", wishes={}, pins=[], owner="", created=NOW, changed=NOW, version=1
            )
        )
        await session.execute(insert(DATA), [datum(random.Random(1), n) for n in range(3)])
        await session.execute(
            insert(TABLES["hosts"]),
            [
                {
                    "uid": uid("b", n),
                    "name": "pc",
                    "state": "alive",
                    "state_since": NOW,
                    "last_seen": NOW,
                    "report": {},
                    "generation": 0,
                }
                for n in range(3)
            ],
        )
        values = {"uid": "d" * 32, "data": uid("e", 0), "count": 1, "memory": 1, "cpus": 1, "created": NOW, "owner": ""}
        await session.execute(insert(TABLES["deployments"]).values(**values))
    return database


def datum(chance: random.Random, number: int) -> dict[str, Any]:
    flags = {name: chance.random() < 0.5 for name in ("alive", "awaited", "damaged")}
    fixed = {"root": "0" * 64, "piece_length": 1, "info_hash": "", "created": NOW, "owner": "", "attribute": "a" * 32}
    return fixed | flags | {"uid": uid("e", number), "name": f"d{number}", "size": chance.randrange(10**12)}


def row_of(table: str, chance: random.Random) -> dict[str, Any]:
    """A row of one of a few keys: so one that comes may be there already."""
    number = chance.randrange(6)
    if table == "data":
        return datum(chance, number)
    if table == "placements":
        values = {"data": uid("e", chance.randrange(3)), "host": uid("b", chance.randrange(3)), "since": NOW}
        return values | {
            "state": str(chance.choice(list(PlacementState))),
            "assigned": NOW,
            "generation": 1,
            "cause": "",
        }
    if table == "machines":
        values = {"uid": uid("f", number), "deployment": "d" * 32, "data": uid("e", 0), "since": NOW}
        return values | {"state": str(chance.choice(list(MachineState)))}
    if table == "orders":
        values = {"uid": uid("9", number), "host": uid("b", 0), "generation": 1, "kind": "place", "subject": "s"}
        return values | {"cause": "", "created": NOW, "closed": chance.choice([None, NOW])}
    owner = chance.choice(["ada", "grace"])
    values = {
        "uid": uid("8", number),
        "array": "x",
        "place": 0,
        "name": "j",
        "owner": owner,
        "created": NOW,
        "spec": {},
    }
    return values | {"results": {}, "shape": "", "state": str(chance.choice(list(JobState))), "since": NOW}


async def change(session: AsyncSession, table: str, chance: random.Random) -> None:
    """A row comes, replaces another, changes or goes."""
    rows, its = TABLES[table], [row_of(table, chance) for _ in range(3)]
    keys = [column.name for column in rows.primary_key]
    match chance.randrange(3):
        case 0:
            await upsert(session, rows, [its[0]])
        case 1:
            values = {name: value for name, value in its[0].items() if name not in keys}
            values.pop("name", None)
            await session.execute(update(rows).where(rows.c[keys[-1]] == its[0][keys[-1]]).values(values))
        case _ if table != "data":  # a datum's row is never deleted
            await session.execute(delete(rows).where(rows.c[keys[-1]] == its[1][keys[-1]]))


async def counted(session: AsyncSession) -> tuple[dict[Any, int], int]:
    """The numbers as they are, read from the rows; and the bytes of living data."""
    found: Counter[Any] = Counter()
    for kind, column in (("copies", PlacementRow.state), ("machines", MachineRow.state), ("jobs", JobRow.state)):
        for state, number in await session.execute(select(column, func.count()).group_by(column)):
            found[kind, state] += number
    found["orders", "open"] = await session.scalar(
        select(func.count()).select_from(OrderRow).where(OrderRow.closed.is_(None))
    )
    size = 0
    for alive, awaited, damaged, bytes_ in await session.execute(
        select(DATA.c.alive, DATA.c.awaited, DATA.c.damaged, DATA.c.size)
    ):
        if alive:
            found["data", ("awaited " if awaited else "") + ("damaged" if damaged else "")] += 1
            size += bytes_
    return {key: number for key, number in found.items() if number and key != ("copies", "gone")}, size


async def tallied(session: AsyncSession) -> tuple[dict[Any, int], int]:
    found = await tallies(session)
    return {key: one.number for key, one in found.items() if one.number}, sum(one.size for one in found.values())


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_sums_are_the_numbers_of_the_rows_whatever_happens(
    filled: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(tallies_module, "MANY", 20)
    tallying, chance = Tallying(filled, Leadership(filled), SystemClock()), random.Random(seed)
    for turn in range(30):
        async with filled.write() as session:
            for _ in range(5):
                await change(session, chance.choice(["data", "placements", "machines", "orders", "jobs"]), chance)
        async with filled.read() as session:
            truth = await counted(session)
            assert await tallied(session) == truth
            owners = select(JobRow.owner, JobRow.state, func.count()).group_by(JobRow.owner, JobRow.state)
            its = sorted(tuple(row) for row in await session.execute(owners))
            assert sorted(await tallied_by_owner(session, "jobs", list(JobState))) == its
        if turn % 10 == 9:
            await tallying.fold()
            async with filled.read() as session:
                assert await tallied(session) == truth


async def test_what_is_taken_back_does_not_count(filled: Database) -> None:
    class RefusedError(Exception):
        pass

    async with filled.read() as session:
        before = await tallied(session)

    async def refused() -> None:
        async with filled.write() as session:
            await session.execute(insert(ORDERS).values(row_of("orders", random.Random(3)) | {"closed": None}))
            assert (await tallies(session))["orders", "open"].number == 1
            raise RefusedError

    with pytest.raises(RefusedError):
        await refused()
    async with filled.read() as session:
        assert await tallied(session) == before


async def test_tallies_are_folded_until_they_are_few(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies_module, "MANY", 20)
    monkeypatch.setattr(tallies_module, "AT_ONCE", 40)
    tallying = Tallying(filled, Leadership(filled), SystemClock())
    rows = [
        {"uid": uid("9", n), "host": uid("b", 0), "generation": 1, "kind": "place", "subject": "s", "cause": ""}
        | {"created": NOW, "closed": None}
        for n in range(150)
    ]
    async with filled.write() as session:
        await session.execute(insert(ORDERS), rows)
    assert await tallying.fold() > 120
    async with filled.read() as session:
        assert (await session.scalar(select(func.count()).select_from(TABLES["tallies"])) or 0) <= 21
        assert (await tallies(session))["orders", "open"].number == 150
    assert await tallying.fold() == 0


async def test_tallies_of_many_owners_are_not_folded_over_and_over(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies_module, "MANY", 20)
    tallying = Tallying(filled, Leadership(filled), SystemClock())
    many = [row_of("jobs", random.Random(n)) | {"uid": uid("8", n), "owner": f"owner{n}"} for n in range(100)]
    async with filled.write() as session:
        await session.execute(insert(JOBS), many)
    assert await tallying.fold() < 10
    async with filled.read() as session:
        before = await session.scalar(select(func.max(TABLES["tallies"].c.seq)))
    assert await tallying.fold() == 0
    async with filled.read() as session:
        assert await session.scalar(select(func.max(TABLES["tallies"].c.seq))) == before


async def test_figures_name_every_state_and_count_what_is_there(filled: Database) -> None:
    async with filled.write() as session:
        await upsert(
            session, PLACEMENTS, [row_of("placements", random.Random(n)) | {"state": "held"} for n in range(5)]
        )
        await session.execute(insert(MACHINES).values(row_of("machines", random.Random(1)) | {"state": "running"}))
        number = await session.scalar(select(func.count()).select_from(PlacementRow))
    found = await FigureStore(filled).count()
    assert (found.copies["held"], found.machines["running"], found.orders) == (number, 1, 0)
    assert set(found.copies) == {str(state) for state in PlacementState} - {"gone"}
    assert set(found.jobs) == {str(state) for state in JobState}
