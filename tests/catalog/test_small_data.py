"""Small data that come in one request each: kept together, and each with a fate of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from bitdew.catalog.damage import damage
from bitdew.catalog.database import Database
from bitdew.catalog.holdings import Holdings
from bitdew.catalog.small import TOGETHER, SmallData
from sqlalchemy import event

from bitdew.core.content import ROOT_OF_NOTHING, Content, ContentHasher
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot
from bitdew.trust.roles import Subject
from bitdew.wire.models import DatumRequest, WholeRequest

from .conftest import Rooms


@pytest.fixture
def small(rooms: Rooms) -> SmallData:
    return SmallData(Holdings(rooms.store, rooms.data, rooms.attributes, rooms.contents, rooms.clock))


def content_of(raw: bytes) -> Content:
    hasher = ContentHasher(len(raw))
    hasher.update(raw)
    return hasher.finish()


def whole(name: str, raw: bytes = b"some bytes", attribute: Any = None, **changes: Any) -> WholeRequest:
    about = {"name": name, "root": content_of(raw).root, "raw": raw, "attribute": attribute or {}}
    return WholeRequest(**(about | changes))


async def put_all(small: SmallData, who: Subject, *asked: WholeRequest) -> list[str]:
    """The keys of the errors, "" for what was put."""
    found = await asyncio.gather(*(small.put(one, who) for one in asked), return_exceptions=True)
    for fault in found:
        if isinstance(fault, BaseException) and not isinstance(fault, BitDewError):
            raise fault
    return [fault.key if isinstance(fault, BitDewError) else "" for fault in found]


async def announce(rooms: Rooms, name: str, root: str, size: int) -> None:
    await rooms.data.create([DatumRequest(name=name, root=root, size=size, attribute={"replica": 5})], rooms.ada)


async def test_many_that_come_together_cost_as_many_transactions_as_a_few(
    rooms: Rooms, small: SmallData, database: Database
) -> None:
    commits: list[Any] = []
    note = commits.append
    event.listen(database._engine.sync_engine, "commit", note)
    await small.put(whole("one"), rooms.ada)
    alone = len(commits)
    assert await put_all(small, rooms.ada, *(whole(f"d{n}", b"%d" % n) for n in range(TOGETHER))) == [""] * TOGETHER
    event.remove(database._engine.sync_engine, "commit", note)
    assert len(commits) <= 2 * alone
    living = {datum.data.name: datum for datum in await rooms.store.living()}
    assert len(living) == TOGETHER + 1
    assert all(rooms.contents.repository.holds(one.data.root, one.data.size) for one in living.values())
    assert {uid for told in rooms.told for uid in told} == {one.data.uid for one in living.values()}


async def test_what_is_wrong_with_one_is_no_others_fault(rooms: Rooms, small: SmallData, tmp_path: Path) -> None:
    await small.put(whole("taken"), rooms.ada)
    in_the_way = tmp_path / "repository/files" / content_of(b"no file can be here").root
    (in_the_way / "something").mkdir(parents=True)
    found = await put_all(
        small,
        rooms.ada,
        whole("first", b"1"),
        whole("taken", b"2"),
        whole("dangling", b"3", "no-such-attribute"),
        whole("impossible", b"4", {"replica": -7}),
        whole("other-bytes", b"5", root="0" * 64),
        whole("unkept", b"no file can be here"),
        whole("twice", b"6"),
        whole("twice", b"7"),
        whole("last", b"8"),
    )
    refused = ["disk.name-taken", "attribute.not-found", "attribute.invalid", "disk.changed", "storage.failed"]
    assert found == ["", *refused, "", "disk.name-taken", ""]
    assert {datum.data.name for datum in await rooms.store.living()} == {"taken", "first", "twice", "last"}
    assert list((tmp_path / "repository/uploads").iterdir()) == []


async def test_what_there_is_no_room_for_is_refused_and_the_rest_is_kept(
    rooms: Rooms, small: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def room() -> int:
        return 150

    monkeypatch.setattr(rooms.contents.repository.uploads, "room", room)
    raws = [bytes([n]) * 100 for n in range(3)]
    found = await put_all(small, rooms.ada, *(whole(f"d{n}", raw) for n, raw in enumerate([*raws, b"few"])))
    assert found == ["", "storage.full", "storage.full", ""]


async def test_data_that_wait_for_these_bytes_get_them_also_under_other_names(rooms: Rooms, small: SmallData) -> None:
    content = content_of(b"some bytes")
    await announce(rooms, "waits", content.root, content.size)
    await announce(rooms, "also-waits", content.root, content.size)
    await announce(rooms, "other", content_of(b"?").root, 1)
    datum, is_new = await small.put(whole("waits"), rooms.ada)
    assert (datum.data.name, is_new, datum.attribute.attribute.replicas) == ("waits", False, 5)
    assert {datum.data.name: datum.awaited for datum in await rooms.store.living()} == {
        "waits": False,
        "also-waits": False,
        "other": True,
    }


async def test_others_data_are_not_filled_nor_with_other_bytes(rooms: Rooms, small: SmallData) -> None:
    content = content_of(b"some bytes")
    await announce(rooms, "waits", content.root, content.size)
    assert await put_all(small, rooms.grace, whole("waits")) == ["certificate.role"]
    assert await put_all(small, rooms.ada, whole("waits", b"other bytes")) == ["disk.changed"]
    waiting = await rooms.data.living("waits")
    assert (waiting.awaited, waiting.damaged) == (True, False)


async def test_a_damaged_copy_is_mended_and_served_again(rooms: Rooms, small: SmallData) -> None:
    datum, _ = await small.put(whole("one"), rooms.ada)
    path = rooms.contents.repository.path(datum.data.root)
    path.write_bytes(b"none bytes")
    fault = damage(datum.data.root, "a test wrote into it")
    await rooms.contents.condemn(datum.data.root, await rooms.contents.repository.stamp(datum.data.root), fault)
    assert not rooms.contents.repository.holds(datum.data.root, datum.data.size)
    assert await small.put(whole("one"), rooms.ada)
    assert (path.read_bytes(), (await rooms.data.living("one")).damaged) == (b"some bytes", False)
    assert rooms.contents.repository.holds(datum.data.root, datum.data.size)


async def test_a_datum_that_was_announced_with_another_size_ends(rooms: Rooms, small: SmallData) -> None:
    await announce(rooms, "wrong", content_of(b"some bytes").root, 11)
    await small.put(whole("right"), rooms.ada)
    ended = await rooms.data.find("wrong")
    assert (ended.alive, ended.died_because) == (False, "it was announced with 11 bytes, and its content has 10")


async def test_nothing_and_equal_bytes_are_data_too(rooms: Rooms, small: SmallData, tmp_path: Path) -> None:
    assert await put_all(small, rooms.ada, whole("a", b""), whole("b"), whole("c"), whole("d", b"")) == [""] * 4
    files = {path.name for path in (tmp_path / "repository/files").iterdir() if not path.suffix}
    assert files == {ROOT_OF_NOTHING, content_of(b"some bytes").root}
    await rooms.data.remove("b", rooms.ada)
    assert rooms.contents.repository.holds(ContentRoot(content_of(b"some bytes").root), 10)


async def test_a_caller_who_goes_away_leaves_the_others_their_turn(rooms: Rooms, small: SmallData) -> None:
    gone = asyncio.create_task(small.put(whole("gone", b"g"), rooms.ada))
    waiting = asyncio.create_task(small.put(whole("also-gone", b"a"), rooms.ada))
    others = asyncio.create_task(put_all(small, rooms.ada, *(whole(f"d{n}", b"%d" % n) for n in range(5))))
    await asyncio.sleep(0)
    gone.cancel()
    waiting.cancel()
    assert await others == [""] * 5
    assert await asyncio.gather(gone, waiting, return_exceptions=True)
    assert {f"d{n}" for n in range(5)} <= {datum.data.name for datum in await rooms.store.living()}


async def test_what_was_asked_by_a_caller_who_left_before_its_turn_is_never_kept(
    rooms: Rooms, small: SmallData, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_whole, begun, goes_on = rooms.contents.repository.keep_whole, asyncio.Event(), asyncio.Event()

    async def keep(files: Any) -> None:
        begun.set()
        await goes_on.wait()
        await keep_whole(files)

    monkeypatch.setattr(rooms.contents.repository, "keep_whole", keep)
    first = asyncio.create_task(small.put(whole("first", b"1"), rooms.ada))
    await begun.wait()
    gone = asyncio.create_task(small.put(whole("gone", b"2"), rooms.ada))
    await asyncio.sleep(0)
    gone.cancel()
    goes_on.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await gone
    await small.put(whole("next", b"3"), rooms.ada)
    assert {datum.data.name for datum in await rooms.store.living()} == {"first", "next"}
