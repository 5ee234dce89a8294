"""A look at the grid, and a look for an attribute, read no table whole in either database, however much there is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from bitdew.catalog.attribute_store import AttributeStore
from bitdew.catalog.database import Database
from bitdew.catalog.events import EventLog
from bitdew.scheduler.figure_store import FigureStore
from bitdew.scheduler.summary_store import SummaryStore
from bitdew.scheduler.tables import FAILED, MOVING
from sqlalchemy import event, text

from bitdew.core.states import INTENDED, PlacementState

LARGE = "placements|data|jobs|job_runs|machines|orders|attributes|hosts"
Asked = tuple[str, Any]


async def looks(database: Database) -> list[Asked]:
    """What a look asks of the database: by the figures, by a summary, for an attribute."""
    asked: list[Asked] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if statement.startswith(("SELECT", "WITH")) and "pg_catalog" not in statement:
            asked.append((statement, parameters))

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    await FigureStore(database).count()
    await SummaryStore(database).busiest(20, datetime.now(UTC))
    await AttributeStore(database).find("a")
    await EventLog(database).attribute("a")
    event.remove(engine, "before_cursor_execute", note)
    return asked


async def test_sqlite_reads_no_large_table_whole(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    asked = await looks(database)
    assert len(asked) == 16
    whole = re.compile(rf"SCAN (?:{LARGE})\b(?! USING INDEX ix_placements_(?:moving|failed)$)")
    async with database.read() as session:
        connection = await session.connection()
        for statement, parameters in asked:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            steps = [step[-1] for step in plan]
            assert not [step for step in steps if whole.match(step)], (statement, steps)
    await database.close()


async def test_postgresql_can_answer_all_of_it_by_indexes(postgres_url: str) -> None:
    database = Database(postgres_url)
    asked = await looks(database)
    assert len(asked) == 16
    async with database.read() as session:
        connection = await session.connection()
        # Tables are small here: it would read them whole unless that were dear. It does where nothing else can be done.
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        for statement, parameters in asked:
            plan = (await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).all()
            steps = [step[0] for step in plan]
            assert not [s for s in steps if re.search(rf"Seq Scan on (?:{LARGE})\b", s)], (statement, steps)
    await database.close()


@pytest.mark.parametrize(
    ("condition", "states"), [(MOVING, INTENDED), (FAILED, {PlacementState.FAILED})], ids=["moving", "failed"]
)
def test_conditions_that_are_spelt_out_for_an_index_name_the_states_that_are_meant(condition: Any, states: Any) -> None:
    assert set(re.findall(r"'([a-z]+)'", condition.text)) == {str(state) for state in states}
