"""What was accepted is there after a restart, and a journal that can't be read is set aside, never deleted."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bitdew.worker.entries import HeldCopy, MachineEntry, PlacementEntry
from bitdew.worker.journal import Journal
from bitdew.worker.plugins.contract import Replica

from bitdew.core.errors import BitDewError
from bitdew.core.ids import new_uid
from bitdew.core.states import MachineState, PlacementState
from bitdew.hypervisor import Handle
from bitdew.wire.models import ErrorView, LaunchOrder, Order, PlaceOrder, RecordModel

ROOT = "a" * 64
PLACE = PlaceOrder(
    name="disk", root=ROOT, size=5, info_hash="b" * 64, repository="127.0.0.1:1", peers=["127.0.0.1:2", "[::1]:3"]
)
RECORD = RecordModel(payload=b"\x00\xff{}", signature=b"\x80" * 64, certificate="PEM")
LAUNCH = LaunchOrder(data="c" * 32, root=ROOT, record=RECORD, memory=2**26, cpus=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def order(subject: str, generation: int) -> Order:
    return Order(uid=new_uid(), generation=generation, kind="place", subject=subject, cause="why not", place=PLACE)


async def test_everything_is_there_after_a_restart(path):
    placement = PlacementEntry(
        "1" * 32,
        7,
        PLACE,
        PlacementState.FAILED,
        datetime.now(UTC),
        seconds=1.5,
        done=3,
        from_repository=2,
        from_peers=1,
        corrupt=4,
        reason=ErrorView(key="storage.full", message="no room", fields={"size": 5}),
    )
    handle = Handle("mock", "2" * 32, {"pid": 5, "folder": "/x"})
    machine = MachineEntry("2" * 32, 8, LAUNCH, MachineState.RUNNING, "mock", handle, halting=True, console_bytes=9)
    journal = Journal(path)
    await journal.open()
    accepted = [order("1" * 32, 7), order("3" * 32, 9)]
    await journal.accept(accepted, 12)
    await journal.save_placement(placement)
    await journal.save_machine(machine)
    await journal.save_copy(ROOT, HeldCopy(5, 1_700_000_000_123_456_789))
    await journal.close()
    again = Journal(path)
    found = await again.open()
    await again.close()
    assert found.generation == 12
    assert found.orders == {o.subject: o for o in accepted}
    assert found.placements == [placement]
    assert found.machines == [machine]
    assert found.copies == {ROOT: HeldCopy(5, 1_700_000_000_123_456_789)}


async def test_what_is_forgotten_is_gone_but_the_generation_of_its_last_order_stays(path):
    journal = Journal(path)
    await journal.open()
    await journal.accept([order("1" * 32, 1)], 1)
    entry = PlacementEntry("1" * 32, 1, PLACE, PlacementState.GONE, datetime.now(UTC))
    await journal.save_placement(entry)
    await journal.forget_placement(entry.uid, 1)
    await journal.save_copy(ROOT, HeldCopy(1, 1))
    await journal.forget_copy(ROOT)
    await journal.save_machine(MachineEntry("2" * 32, 8, LAUNCH, MachineState.STOPPED))
    await journal.forget_machine("2" * 32, 8)
    await journal.close()
    again = Journal(path)
    found = await again.open()
    await again.close()
    assert not found.placements
    assert not found.copies
    assert not found.machines
    assert found.generations == {"1" * 32: 1}
    assert not found.orders


async def test_the_generation_never_goes_back(path):
    journal = Journal(path)
    await journal.open()
    await journal.accept([], 9)
    await journal.accept([], 4)
    await journal.close()
    again = Journal(path)
    assert (await again.open()).generation == 9
    await again.close()


async def test_a_write_whose_caller_was_cancelled_is_whole(path):
    journal = Journal(path)
    await journal.open()
    many = [order(f"{n:032x}", n + 1) for n in range(500)]
    writing = asyncio.create_task(journal.accept(many, 500))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await journal.close()
    again = Journal(path)
    found = await again.open()
    await again.close()
    assert (len(found.orders), found.generation) in {(500, 500), (0, 0)}


def spoil_header(path):
    path.write_bytes(b"not a database at all, whatever its name says" * 100)


def spoil_body(path):
    with sqlite3.connect(path) as database:
        database.execute("UPDATE placements SET body = 'nonsense'")
    database.close()


@pytest.mark.parametrize("spoil", [spoil_header, spoil_body])
async def test_a_damaged_journal_is_set_aside_and_the_next_start_begins_anew(path, spoil):
    journal = Journal(path)
    await journal.open()
    await journal.save_placement(PlacementEntry("1" * 32, 1, PLACE, PlacementState.HELD, datetime.now(UTC)))
    await journal.close()
    spoil(path)
    damaged = path.read_bytes()
    for number in (1, 2):
        journal = Journal(path)
        with pytest.raises(BitDewError) as caught:
            await journal.open()
        await journal.close()
        assert caught.value.key == "storage.failed"
        aside = path.with_name(f"journal.db.damaged-{number}")
        assert aside.name in caught.value.do
        assert aside.read_bytes() == damaged
        assert not path.exists()
        path.write_bytes(damaged)
    path.unlink()
    journal = Journal(path)
    assert (await journal.open()).placements == []
    await journal.close()


async def test_a_journal_of_a_later_release_is_left_alone(path):
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = path.read_bytes()
    journal = Journal(path)
    with pytest.raises(BitDewError, match="later release"):
        await journal.open()
    await journal.close()
    assert path.read_bytes() == before


async def test_an_order_that_came_after_the_end_is_not_forgotten_with_it(path):
    journal = Journal(path)
    await journal.open()
    await journal.accept([order("1" * 32, 1)], 1)
    newer = order("1" * 32, 2)
    await journal.accept([newer], 2)
    await journal.forget_placement("1" * 32, 1)
    await journal.close()
    again = Journal(path)
    assert (await again.open()).orders == {"1" * 32: newer}
    await again.close()


async def in_database(journal, statement):
    await journal._run(lambda: journal._database.execute(statement).fetchall())


async def test_a_state_that_a_full_disk_refuses_is_written_later_and_told_once_and_an_order_is_refused(path):
    told = []
    journal = Journal(path, told.append)
    await journal.open()
    await in_database(journal, "PRAGMA max_page_count = 1")  # what there is stays: nothing more fits
    kept = [
        PlacementEntry(
            str(n) * 32,
            1,
            PLACE,
            PlacementState.HELD,
            datetime.now(UTC),
            reason=ErrorView(key="internal", message="x" * 4000),
        )
        for n in (1, 2, 3)
    ]
    for entry in kept:
        await journal.save_placement(entry)
    with pytest.raises(BitDewError) as caught:
        await journal.accept([order("1" * 32, 1)], 1)
    assert caught.value.key == "storage.full"
    assert [fault.key for fault in told] == ["storage.full"]
    await in_database(journal, "PRAGMA max_page_count = 1000000")
    await journal.save_copy(ROOT, HeldCopy(1, 1))
    await in_database(journal, "PRAGMA query_only = ON")
    await journal.forget_copy(ROOT)
    assert [fault.key for fault in told] == ["storage.full", "storage.failed"]  # it was well again between
    await in_database(journal, "PRAGMA query_only = OFF")
    await journal.close()
    again = Journal(path)
    found = await again.open()
    await again.close()
    assert found.placements == kept
    assert not found.orders
    assert not found.copies


async def test_a_journal_that_is_locked_for_a_moment_is_left_alone(path, monkeypatch):
    journal = Journal(path)
    await journal.open()
    await journal.save_copy(ROOT, HeldCopy(1, 1))
    await journal.close()
    before = path.read_bytes()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, timeout: connect(*given, timeout=0.05))
    other = connect(path)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    journal = Journal(path)
    with pytest.raises(BitDewError, match="can't be read") as caught:
        await journal.open()
    await journal.close()
    other.rollback()
    other.close()
    assert caught.value.key == "storage.failed"
    assert path.read_bytes() == before
    assert list(path.parent.glob("*damaged*")) == []
    assert (await journal_of(path)).copies == {ROOT: HeldCopy(1, 1)}


async def journal_of(path):
    journal = Journal(path)
    found = await journal.open()
    await journal.close()
    return found


# What plug-ins know ---------------------------------------------------------------------------------------------------


def replica(uid: str) -> Replica:
    return Replica(uid, "disk", ROOT, 5, Path("/copies") / ROOT, "hep", datetime(2026, 1, 1, 0, 0, 0, 7, tzinfo=UTC))


async def test_what_each_listener_knows_is_there_after_a_restart(path):
    one, two = replica("1" * 32), replica("2" * 32)
    journal = Journal(path)
    await journal.open()
    for listener in ("plug-in/a", "bridge/a", "bridge/b"):
        await journal.save_told(listener, one)
        await journal.save_told(listener, two)
    await journal.forget_told("plug-in/a", one.uid)
    await journal.forget_teller("bridge/b")
    await journal.close()
    journal = Journal(path)
    found = await journal.open()
    await journal.close()
    assert found.told == {"plug-in/a": {two.uid: two}, "bridge/a": {one.uid: one, two.uid: two}}


async def test_a_note_of_it_that_is_spoilt_costs_that_one_alone(path):
    journal = Journal(path)
    await journal.open()
    await journal.save_told("bridge/a", replica("1" * 32))
    await journal.save_told("bridge/a", replica("2" * 32))
    await journal.close()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE told SET body = '{' WHERE uid = ?", ("1" * 32,))
    journal = Journal(path)
    found = await journal.open()
    await journal.close()
    assert found.told == {"bridge/a": {"2" * 32: replica("2" * 32)}}
