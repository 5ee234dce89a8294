"""`bitdew.connect()` on a real grid: data are put, followed, read, changed and ended as a developer would."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

import bitdew
from bitdew import Attribute, BitDewError, EventKind

SIZE = 300_000


def some(seed: str, size: int = SIZE) -> bytes:
    return (seed.encode() * (size // len(seed) + 1))[:size]


@pytest.fixture
def hosts() -> int:
    return 3


async def test_a_file_is_put_followed_until_it_is_held_and_fetched_back(dew, tmp_path: Path) -> None:
    (tmp_path / "root.img").write_bytes(some("disk"))
    disk = await dew.put(tmp_path / "root.img", Attribute(replica=3, ft=True))
    assert (disk.name, disk.size, disk.attribute) == ("root.img", SIZE, Attribute(replica=3, fault_tolerance=True))
    told = []
    async with asyncio.timeout(20), aclosing(disk.events()) as events:
        async for event in events:
            told.append(event)
            if sum(one.kind is EventKind.HELD for one in told) == 3:
                break
    assert {one.host_name for one in told if one.kind is EventKind.HELD} == {"host1", "host2", "host3"}
    assert {str(one) for one in told} >= {"held on host1", "held on host2", "held on host3"}
    assert (await disk.held(replicas=3)).data.held == 3
    where = await dew.get("root.img", tmp_path / "copy.img")
    assert where.read_bytes() == some("disk")


async def test_bytes_are_put_and_read_in_ranges_and_as_a_stream(dew) -> None:
    raw = some("0123456789", 20 * 2**20 + 17)
    datum = await dew.put(raw, name="numbers")
    assert await datum.read(1_000_003, 1_000_013) == raw[1_000_003:1_000_013]
    assert await dew.read("numbers", len(raw) - 5) == raw[-5:]
    async with aclosing(dew.stream("numbers", 12)) as chunks:
        parts = [chunk async for chunk in chunks]
    assert len(parts) > 1
    assert b"".join(parts) == raw[12:]


async def test_a_stream_is_put_once_all_of_it_is_there(dew) -> None:
    async def numbers():
        for number in range(1000):
            yield b"%d\n" % number

    datum = await dew.put(numbers(), name="numbers")
    assert await datum.read() == b"".join(b"%d\n" % number for number in range(1000))


async def test_bytes_without_a_name_are_refused(dew) -> None:
    with pytest.raises(BitDewError) as fault:
        await dew.put(b"something")
    assert fault.value.key == "input.invalid"


async def test_a_folder_is_put_and_comes_back_as_it_was(dew, tmp_path: Path) -> None:
    (tmp_path / "inputs/deep").mkdir(parents=True)
    (tmp_path / "inputs/deep/a").write_bytes(b"a")
    (tmp_path / "inputs/b").write_bytes(b"b")
    datum = await dew.put(tmp_path / "inputs")
    assert (datum.name, datum.is_folder) == ("inputs", True)
    back = await datum.get(tmp_path / "back")
    assert {str(p.relative_to(back)): p.read_bytes() for p in back.rglob("*") if p.is_file()} == {
        "deep/a": b"a",
        "b": b"b",
    }


async def test_data_are_searched_by_the_beginning_of_their_names_and_by_attribute(dew) -> None:
    await dew.define("inputs", Attribute(replica=1))
    await dew.put(b"1", "inputs", name="run-1")
    await dew.put(b"2", name="run-2")
    await dew.put(b"3", "inputs", name="other")
    assert [one.name async for one in dew.search("run-")] == ["run-1", "run-2"]
    assert [one.name async for one in dew.search(attribute="inputs")] == ["other", "run-1"]


async def test_other_wishes_move_copies_and_a_deleted_datum_ends_its_events(dew) -> None:
    datum = await dew.put(b"moves", Attribute(replica=1), name="moves")
    await datum.held()
    await datum.change(Attribute(replica=3))
    assert (await datum.held()).data.wanted == 3
    kinds = []

    async def follow() -> None:
        async with aclosing(datum.events()) as events:
            async for event in events:
                kinds.append(event.kind)
                if kinds.count(EventKind.HELD) == 3 and event.kind is EventKind.HELD:
                    await datum.delete()

    async with asyncio.timeout(20):
        await follow()
    assert kinds[-1] is EventKind.ENDED


async def test_waiting_for_copies_of_a_datum_that_ends_tells_so(dew) -> None:
    datum = await dew.put(b"short", Attribute(replica=5), name="short")
    await datum.held(1)
    waiting = asyncio.create_task(datum.held())
    await datum.held(3)
    await dew.delete("short")
    with pytest.raises(BitDewError) as fault:
        await waiting
    assert fault.value.key == "data.not-found"
    assert "removed" in fault.value.why


async def test_everywhere_is_held_once_nothing_is_missing(dew) -> None:
    datum = await dew.put(b"all", Attribute(replica=-1), name="all")
    assert (await datum.held()).data.held == 3


async def test_a_wait_that_is_bounded_ends_in_time_and_leaves_nothing(dew) -> None:
    datum = await dew.put(b"never", Attribute(replica=1, requires="sharing=nothing-has-this"), name="never")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await datum.held()


async def test_whoever_waits_outlasts_a_restart_of_the_service(grid, dew) -> None:
    dew.grid.patience = 30.0
    datum = await dew.put(b"patient", Attribute(replica=4), name="patient")
    await datum.held(3)
    waiting = asyncio.create_task(datum.held())
    await grid.stop_service()
    await grid.start_service()
    await grid.add_host("host4")
    async with asyncio.timeout(30):
        assert (await waiting).data.held == 4


async def test_a_datum_that_is_not_there_is_told_with_the_nearest_name(dew) -> None:
    await dew.put(b"x", name="hep-inputs")
    with pytest.raises(bitdew.UserError) as fault:
        await dew.find("hep-input")
    assert fault.value.key == "data.not-found"
    assert "hep-inputs" in str(fault.value.do)
