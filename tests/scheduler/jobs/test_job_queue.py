"""The queue as it is stored: of each kind the first jobs, by indexes, however many wait behind them and ever ran."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bitdew.catalog.database import Database
from bitdew.scheduler.jobs.queue_store import QueueStore
from bitdew.scheduler.jobs.records import JobRecord
from bitdew.scheduler.jobs.store import JobStore
from sqlalchemy import event

from bitdew.core.ids import Uid, new_uid
from bitdew.core.job import Caps, JobSpec
from bitdew.core.states import JobState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPEC = JobSpec(("true",))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database.in_file(tmp_path / "catalog.sqlite3")
    await database.migrate()
    yield database
    await database.close()


def job(index: int, *, owner: str = "anna", spec: JobSpec = SPEC, minutes: int = 0, array: str = "a") -> JobRecord:
    created = NOW + timedelta(minutes=minutes)
    return JobRecord(new_uid(), Uid(array * 32), index, "job", owner, created, spec, since=created)


async def test_of_each_kind_of_each_user_come_the_first_in_the_order_of_service(database: Database) -> None:
    store, queue = JobStore(database), QueueStore(database)
    assert await queue.heads(3) == []
    many = [job(n) for n in range(10)]
    urgent = [job(n, spec=replace(SPEC, priority=1), minutes=5, array="b") for n in range(2)]
    large = [job(0, spec=replace(SPEC, caps=Caps(cpus=4)), array="c")]
    berts = [job(n, owner="bert", minutes=n, array="d") for n in (3, 1, 2)]
    for jobs in (many, urgent, large, berts):
        assert await store.add(jobs)
    found = {one.uid for one in await queue.heads(3)}
    assert found == {one.uid for one in [*urgent, many[0], *large, *berts]}
    gone = replace(many[0], state=JobState.CANCELLED)
    await store.record(now=NOW, jobs=[gone])
    assert many[1].uid in {one.uid for one in await queue.heads(3)}
    assert len(await queue.heads(100)) == 15


async def test_no_look_at_the_queue_goes_through_all_jobs_or_runs(database: Database) -> None:
    queue, asked = QueueStore(database), list[tuple[str, object]]()
    await JobStore(database).add([job(n, spec=replace(SPEC, caps=Caps(cpus=n + 1))) for n in range(3)])

    def note(_c: object, _u: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    assert len(await queue.heads(2)) == 3
    assert await queue.live_runs() == []
    event.remove(engine, "before_cursor_execute", note)
    looked = [one for one in asked if "FROM job" in one[0]]
    assert len(looked) == 5  # the kinds, the first ones, their rows, their inputs; the runs
    async with database.read() as session:
        connection = await session.connection()
        for statement, parameters in looked:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            steps = [step[-1] for step in plan]
            assert not [step for step in steps if step.startswith("SCAN job")], (statement, steps)
            assert "LIMIT" not in statement or "USE TEMP B-TREE FOR ORDER BY" not in steps, (statement, steps)
