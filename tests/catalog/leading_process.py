"""A process that tries to lead: it says when it does, and for each line that it reads, what became of a write."""

from __future__ import annotations

import asyncio
import sys

import structlog
from bitdew.catalog.database import Database
from bitdew.catalog.leadership import Leadership
from sqlalchemy import text

from bitdew.core.errors import BitDewError


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    database = Database(sys.argv[1])
    leadership = Leadership(database, silence=float(sys.argv[2]))
    running = asyncio.create_task(leadership.run())
    await leadership.gained()
    print(f"leads {leadership.epoch}", flush=True)
    epoch = leadership.epoch
    while name := (await asyncio.to_thread(sys.stdin.readline)).strip():
        # What it decided before it was stopped: it still takes itself for the leader that it was.
        leadership.epoch = epoch
        leadership._gained.set()
        try:
            async with database.write() as session:
                await leadership.check(session)
                await session.execute(text("UPDATE data SET name = :name"), {"name": name})
            print("stored", flush=True)
        except BitDewError as fault:
            print(fault.key, flush=True)
    running.cancel()
    await asyncio.wait({running})
    await database.close()


asyncio.run(main())
