"""What must survive a kill at any point: the orders that were accepted, and how far each of them came.

Owns `<home>/journal.db` and its schema. It must not act on what it stores, and it never deletes a file: a journal that
can't be read is set aside.

All of it runs in one thread of its own. A write is one call there, so that a task that is cancelled while it waits
leaves either the whole write or none of it, and writes reach the disk in the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from bitdew.core.errors import BitDewError, error
from bitdew.core.states import MachineState, PlacementState
from bitdew.hypervisor import Handle
from bitdew.wire.models import ErrorView, LaunchOrder, Order, PlaceOrder

T = TypeVar("T")

VERSION: Final = 1
"""The schema's version, kept in SQLite's `user_version`."""

_SCHEMA: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE orders (subject TEXT PRIMARY KEY, generation INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE placements (uid TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE machines (uid TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE copies (root TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL);
"""


@dataclass(slots=True)
class PlacementEntry:
    """One datum on this host.

    Attributes:
        uid: The datum.
        generation: That of the last order applied to it.
        order: What is to be held; the peers in it grow as more become known.
        state: Where it stands.
        started: When the first order to hold it was applied, UTC.
        seconds: From then to the verified copy; None before.
        done: Bytes in verified pieces.
        from_repository: Bytes that came from the service's repository.
        from_peers: Bytes that came from everybody else.
        corrupt: Pieces that arrived wrong.
        reason: Why it is as it is, if something went wrong.
    """

    uid: str
    generation: int
    order: PlaceOrder
    state: PlacementState
    started: datetime
    seconds: float | None = None
    done: int = 0
    from_repository: int = 0
    from_peers: int = 0
    corrupt: int = 0
    reason: ErrorView | None = None


@dataclass(slots=True)
class MachineEntry:
    """One machine on this host.

    Attributes:
        uid: The machine.
        generation: That of the last order applied to it.
        order: What it is made of.
        state: Where it stands.
        hypervisor: The name of the driver that runs it; "" before one was chosen.
        handle: The driver's handle; None before the machine was started.
        reason: Why it ended, if not by itself.
        halting: An order to halt it was applied.
        console_bytes: How much of the console file the service has confirmed.
        console_characters: The same in characters.
    """

    uid: str
    generation: int
    order: LaunchOrder
    state: MachineState
    hypervisor: str = ""
    handle: Handle | None = None
    reason: ErrorView | None = None
    halting: bool = False
    console_bytes: int = 0
    console_characters: int = 0


@dataclass(frozen=True, slots=True)
class HeldCopy:
    """A file that was verified, as it was then: an equal size and time of change stand for equal bytes.

    Attributes:
        size: Bytes.
        mtime: Nanoseconds since the epoch.
    """

    size: int
    mtime: int


@dataclass(slots=True)
class Recollection:
    """Everything that the journal has, read at the start of a worker."""

    generation: int = 0
    orders: dict[str, Order] = field(default_factory=dict)
    placements: list[PlacementEntry] = field(default_factory=list)
    machines: list[MachineEntry] = field(default_factory=list)
    copies: dict[str, HeldCopy] = field(default_factory=dict)


_PLACEMENT: Final = TypeAdapter(PlacementEntry)
_MACHINE: Final = TypeAdapter(MachineEntry)


class Journal:
    """The store. Open it before, close it after everything that writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._database: sqlite3.Connection | None = None

    async def open(self) -> Recollection:
        """Open the journal, made if there is none, and read it whole.

        Raises:
            HostError: `storage.failed` if it is damaged (it was set aside then, and the next start begins a new one)
                or was written by a later release; `storage.full`.
        """
        return await self._run(self._open)

    async def close(self) -> None:
        """Close the file and end the thread."""
        await self._run(self._close)
        await asyncio.to_thread(self._thread.shutdown)

    async def accept(self, orders: Sequence[Order], generation: int) -> None:
        """Keep `orders`, and that everything up to `generation` was received, before any of them is acted on."""
        rows = [(order.subject, order.generation, order.model_dump_json()) for order in orders]

        def write(database: sqlite3.Connection) -> None:
            database.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", rows)
            database.execute(
                "INSERT INTO facts VALUES ('generation', ?) "
                "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                (generation,),
            )

        await self._write(write)

    async def save_placement(self, entry: PlacementEntry) -> None:
        """Keep `entry` in place of what was known of the datum."""
        await self._save("INSERT OR REPLACE INTO placements VALUES (?, ?)", entry.uid, _PLACEMENT.dump_json(entry))

    async def forget_placement(self, uid: str) -> None:
        """The service knows that the datum is gone from here. The last order stays: older ones remain stale."""
        await self._save("DELETE FROM placements WHERE uid = ?", uid)

    async def save_machine(self, entry: MachineEntry) -> None:
        """Keep `entry` in place of what was known of the machine."""
        await self._save("INSERT OR REPLACE INTO machines VALUES (?, ?)", entry.uid, _MACHINE.dump_json(entry))

    async def forget_machine(self, uid: str) -> None:
        """The service knows how the machine ended. The last order stays: older ones remain stale."""
        await self._save("DELETE FROM machines WHERE uid = ?", uid)

    async def save_copy(self, root: str, held: HeldCopy) -> None:
        """Keep that the file of `root` was verified, and what it looked like."""
        await self._save("INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", root, held.size, held.mtime)

    async def forget_copy(self, root: str) -> None:
        """The file of `root` is not known to be whole any more."""
        await self._save("DELETE FROM copies WHERE root = ?", root)

    async def _save(self, statement: str, *values: str | int | bytes) -> None:
        def write(database: sqlite3.Connection) -> None:
            database.execute(statement, [v.decode() if isinstance(v, bytes) else v for v in values])

        await self._write(write)

    async def _write(self, write: Callable[[sqlite3.Connection], None]) -> None:
        def transaction() -> None:
            if self._database is None:
                raise RuntimeError("the journal is closed")
            with self._database:
                write(self._database)

        try:
            await self._run(transaction)
        except sqlite3.Error as cause:
            key = "storage.full" if "full" in str(cause) else "storage.failed"
            raise error(key, f"{self.path} can't be written", why=str(cause), path=str(self.path)) from cause

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _open(self) -> Recollection:
        try:
            self._database = database = sqlite3.connect(self.path, timeout=5)
            version = self._checked_version(database)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            return self._read(database, version)
        except (sqlite3.Error, ValidationError, UnicodeDecodeError) as cause:
            self._close()
            raise self._set_aside(str(cause).splitlines()[0]) from cause
        except BitDewError:
            self._close()
            raise

    def _checked_version(self, database: sqlite3.Connection) -> int:
        """The schema's version, 0 for a new file. Nothing of a later one is touched."""
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise error(
                "storage.failed",
                f"{self.path} was written by a later release",
                why=f"it has version {version}, and this release knows version {VERSION}",
                do="Install the later release again.",
            )
        return int(version)

    def _read(self, database: sqlite3.Connection, version: int) -> Recollection:
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        if version == 0:
            with closing(database.cursor()) as cursor:
                cursor.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        found = Recollection()
        for (value,) in database.execute("SELECT value FROM facts WHERE name = 'generation'"):
            found.generation = value
        for subject, body in database.execute("SELECT subject, body FROM orders"):
            found.orders[subject] = Order.model_validate_json(body)
        found.placements = [_PLACEMENT.validate_json(b) for (b,) in database.execute("SELECT body FROM placements")]
        found.machines = [_MACHINE.validate_json(b) for (b,) in database.execute("SELECT body FROM machines")]
        for root, size, mtime in database.execute("SELECT root, size, mtime FROM copies"):
            found.copies[root] = HeldCopy(size, mtime)
        return found

    def _set_aside(self, why: str) -> BitDewError:
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
        return error(
            "storage.failed",
            f"{self.path} is damaged",
            why=why,
            do=f"It was moved to {aside.name}. Start the worker again: the copies are still there, and are checked "
            "anew when they are ordered.",
            path=str(aside),
        )

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
