"""What must survive a kill at any point: the orders that were accepted, and how far each of them came.

Owns `<home>/journal.db` and its schema. It must not act on what it stores, and it never deletes a file: a journal that
can't be read is set aside.

An order counts as accepted only once it is written. What became of it is kept in memory where the disk refuses it, and
written as soon as the disk takes it again: a full disk must not end what runs.

All of it runs in one thread of its own. A write is one call there, so that a task that is cancelled while it waits
leaves either the whole write or none of it, and writes reach the disk in the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from pydantic import ValidationError

from bitdew.core.errors import BitDewError, error
from bitdew.wire.models import Order

from .entries import (
    MACHINE_ENTRY,
    PLACEMENT,
    TOLD,
    HeldCopy,
    MachineEntry,
    PlacementEntry,
    Recollection,
    Scrub,
    Spoilt,
    machine_from,
    order_from,
    placement_from,
)

if TYPE_CHECKING:
    from bitdew.core.clock import Clock

    from .plugins.contract import Replica

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], None]

VERSION: Final = 1
"""The schema's version, kept in SQLite's `user_version`."""

RETRY_SECONDS: Final = 5.0
"""How long after a write that the disk refused it is tried again, if nothing else is written before."""

_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_SCHEMA: Final = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE orders (subject TEXT PRIMARY KEY, generation INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE placements (uid TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE machines (uid TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE copies (root TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime INTEGER NOT NULL);
"""
_LATER: Final = (
    "CREATE TABLE IF NOT EXISTS scrubs (root TEXT PRIMARY KEY, piece INTEGER, whole REAL, read REAL)",
    "CREATE TABLE IF NOT EXISTS told (listener TEXT, uid TEXT, body TEXT, PRIMARY KEY (listener, uid))",
)
"""What a release that does not know it can do without, so that the version stays."""


class Journal:
    """The store. Open it before, close it after everything that writes to it."""

    def __init__(self, path: Path, on_fault: Callable[[BitDewError], None] | None = None) -> None:
        """`on_fault` is told once when the disk begins to refuse states."""
        self.path = path
        self._on_fault = on_fault
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._database: sqlite3.Connection | None = None
        self._unsaved: dict[tuple[str, str], Write] = {}  # the latest state of each row; of the thread alone
        self._behind = asyncio.Event()

    async def open(self) -> Recollection:
        """Open the journal, made if there is none, and read it whole.

        Raises:
            HostError: `storage.failed` if it is damaged (it was set aside then, and the next start begins a new one),
                or can't be read now, or was written by a later release; `storage.full`.
        """
        return await self._run(self._open)

    async def close(self) -> None:
        """Close the file and end the thread."""
        await self._run(self._close)
        await asyncio.to_thread(self._thread.shutdown)

    async def accept(self, orders: Sequence[Order], generation: int) -> None:
        """Keep `orders`, and that everything up to `generation` was received, before any of them is acted on.

        Raises:
            HostError: `storage.full`, `storage.failed`: the orders are not accepted then.
        """
        rows = [(order.subject, order.generation, order.model_dump_json()) for order in orders]

        def write(database: sqlite3.Connection) -> None:
            database.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", rows)
            database.execute(
                "INSERT INTO facts VALUES ('generation', ?) "
                "ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
                (generation,),
            )

        fault = await self._run(lambda: self._written(write))
        self._note(fault)
        if fault is not None:
            raise fault

    async def save_placement(self, entry: PlacementEntry) -> None:
        """Keep `entry` in place of what was known of the datum."""
        body = PLACEMENT.dump_json(entry).decode()
        await self._save("placements", entry.uid, "INSERT OR REPLACE INTO placements VALUES (?, ?)", entry.uid, body)

    async def forget_placement(self, uid: str, generation: int) -> None:
        """The service knows that the datum is gone from here, and so the order of `generation` is done with.

        Its generation stays, so that older orders remain stale.
        """
        await self._forget("placements", uid, generation)

    async def save_machine(self, entry: MachineEntry) -> None:
        """Keep `entry` in place of what was known of the machine."""
        body = MACHINE_ENTRY.dump_json(entry).decode()
        await self._save("machines", entry.uid, "INSERT OR REPLACE INTO machines VALUES (?, ?)", entry.uid, body)

    async def forget_machine(self, uid: str, generation: int) -> None:
        """The service knows how the machine ended, and so the order of `generation` is done with.

        Its generation stays, so that older orders remain stale; the order itself goes, or the next start would launch
        the machine again.
        """
        await self._forget("machines", uid, generation)

    async def forget_errand(self, uid: str, generation: int) -> None:
        """The service knows what came of the errand. Its generation stays, as a machine's does."""
        await self._forget(None, uid, generation)

    async def forget_run(self, uid: str, generation: int) -> None:
        """The service knows how the run ended, and so the order of `generation` is done with."""

        def write(database: sqlite3.Connection) -> None:
            database.execute("UPDATE orders SET body = '' WHERE subject = ? AND generation <= ?", (uid, generation))

        await self._keep(("orders", uid), write)

    async def save_copy(self, root: str, held: HeldCopy) -> None:
        """Keep that the file of `root` was verified, and what it looked like."""
        await self._save("copies", root, "INSERT OR REPLACE INTO copies VALUES (?, ?, ?)", root, held.size, held.mtime)

    async def forget_copy(self, root: str) -> None:
        """The file of `root` is not known to be whole any more."""
        await self._save("copies", root, "DELETE FROM copies WHERE root = ?", root)

    async def save_scrub(self, root: str, scrub: Scrub) -> None:
        """Keep how far the copy of `root` was read back."""
        values = (root, scrub.piece, scrub.whole, scrub.read)
        await self._save("scrubs", root, "INSERT OR REPLACE INTO scrubs VALUES (?, ?, ?, ?)", *values)

    async def forget_scrub(self, root: str) -> None:
        """The copy of `root` is not held any more."""
        await self._save("scrubs", root, "DELETE FROM scrubs WHERE root = ?", root)

    async def save_told(self, listener: str, replica: Replica) -> None:
        """Keep that `listener` has taken that `replica` is held."""
        row = f"{listener} {replica.uid}"
        values = (listener, replica.uid, TOLD.dump_json(replica).decode())
        await self._save("told", row, "INSERT OR REPLACE INTO told VALUES (?, ?, ?)", *values)

    async def forget_told(self, listener: str, uid: str) -> None:
        """`listener` knows that the copy of the datum `uid` goes."""
        statement = "DELETE FROM told WHERE listener = ? AND uid = ?"
        await self._save("told", f"{listener} {uid}", statement, listener, uid)

    async def forget_teller(self, listener: str) -> None:
        """`listener` is told nothing any more."""
        await self._save("told", listener, "DELETE FROM told WHERE listener = ?", listener)

    async def catch_up(self, clock: Clock) -> None:
        """Write what the disk refused as soon as it takes it; until cancelled."""
        while True:
            await self._behind.wait()
            await clock.sleep(RETRY_SECONDS)
            self._note(await self._run(self._written))

    async def _save(self, table: str, subject: str, statement: str, *values: str | float) -> None:
        def write(database: sqlite3.Connection) -> None:
            database.execute(statement, values)

        await self._keep((table, subject), write)

    async def _forget(self, table: str | None, uid: str, generation: int) -> None:
        def write(database: sqlite3.Connection) -> None:
            if table is not None:
                database.execute(f"DELETE FROM {table} WHERE uid = ?", (uid,))  # noqa: S608 - one of two names above
            database.execute("UPDATE orders SET body = '' WHERE subject = ? AND generation <= ?", (uid, generation))

        await self._keep((table or "errands", uid), write)

    async def _keep(self, row: tuple[str, str], write: Write) -> None:
        """Have `write` done now, or else when the disk allows it, unless a later one for `row` replaces it."""

        def keep() -> BitDewError | None:
            self._unsaved.pop(row, None)
            self._unsaved[row] = write
            return self._written()

        self._note(await self._run(keep))

    def _note(self, fault: BitDewError | None) -> None:
        if fault is None:
            self._behind.clear()
        elif not self._behind.is_set():
            self._behind.set()
            if self._on_fault is not None:
                self._on_fault(fault)

    def _written(self, write: Write | None = None) -> BitDewError | None:
        """Write everything that is unsaved, and `write`, in one transaction; why that failed, or None."""
        if self._database is None:
            raise RuntimeError("the journal is closed")
        try:
            with self._database:
                for unsaved in self._unsaved.values():
                    unsaved(self._database)
                if write is not None:
                    write(self._database)
        except sqlite3.Error as cause:
            return self._fault(cause, "written")
        self._unsaved.clear()
        return None

    def _fault(self, cause: sqlite3.Error, done: str) -> BitDewError:
        key = "storage.full" if _code(cause) == sqlite3.SQLITE_FULL else "storage.failed"
        return error(key, f"{self.path} can't be {done}", why=str(cause), path=str(self.path))

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _open(self) -> Recollection:
        try:
            self._database = database = sqlite3.connect(self.path, timeout=5)
            version = self._checked_version(database)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            return self._read(database, version)
        except (Spoilt, ValidationError, UnicodeDecodeError) as cause:
            self._close()
            raise self._set_aside(str(cause).splitlines()[0]) from cause
        except sqlite3.Error as cause:
            self._close()
            if _code(cause) in _DAMAGE:
                raise self._set_aside(str(cause)) from cause
            raise self._fault(cause, "read") from cause  # a good journal, at a bad moment: it stays where it is
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
            raise Spoilt(verdict)
        if version == 0:
            with closing(database.cursor()) as cursor:
                cursor.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        for statement in _LATER:
            database.execute(statement)
        found = Recollection()
        for (value,) in database.execute("SELECT value FROM facts WHERE name = 'generation'"):
            found.generation = value
        for subject, generation, body in database.execute("SELECT subject, generation, body FROM orders"):
            found.generations[subject] = generation
            if body:
                found.orders[subject] = order_from(body)
        found.placements = [placement_from(b) for (b,) in database.execute("SELECT body FROM placements")]
        found.machines = [machine_from(b) for (b,) in database.execute("SELECT body FROM machines")]
        for root, size, mtime in database.execute("SELECT root, size, mtime FROM copies"):
            found.copies[root] = HeldCopy(size, mtime)
        for root, piece, whole, read in database.execute("SELECT root, piece, whole, read FROM scrubs"):
            found.scrubs[root] = Scrub(piece, whole, read)
        for listener, uid, body in database.execute("SELECT listener, uid, body FROM told"):
            with contextlib.suppress(ValidationError):  # it is told again, then
                found.told.setdefault(listener, {})[uid] = TOLD.validate_json(body)
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
            if self._unsaved:
                self._written()  # a last attempt
            self._database.close()
            self._database = None


def _code(cause: sqlite3.Error) -> int:
    """SQLite's primary result code; 0 if the module itself raised it."""
    return int(getattr(cause, "sqlite_errorcode", 0)) & 0xFF
