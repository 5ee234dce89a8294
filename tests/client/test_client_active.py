"""ActiveData on a real grid: what happens is told to programs, at least once, also over their restarts."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from bitdew.catalog.events import EventLog

import bitdew
from bitdew import Attribute, BitDewError, EventKind


@pytest.fixture
def hosts() -> int:
    return 2


@asynccontextmanager
async def bounded(seconds: float = 20.0):
    async with asyncio.timeout(seconds):
        yield


async def take(events, count: int) -> list[bitdew.Event]:
    async with bounded():
        return [await anext(events) for _ in range(count)]


async def test_a_life_is_told_from_its_beginning_to_its_end(dew) -> None:
    async with dew.events(data=None) as events:
        datum = await dew.put(b"a life", Attribute(replica=1), name="life")
        await datum.held()
        await datum.delete()
        told = []
        async with bounded():
            async for event in events:
                told.append(event)
                if event.kind is EventKind.GONE:
                    break
    kinds = [event.kind for event in told]
    assert kinds[0] is EventKind.CREATED
    assert [kind for kind in kinds if kind in {"assigned", "held", "ended", "dropping", "gone"}] == [
        "assigned",
        "held",
        "ended",
        "dropping",
        "gone",
    ]
    assert {event.name for event in told} == {"life"}
    assert [event.why for event in told if event.kind is EventKind.ENDED] == ["operator removed it"]


async def test_only_what_was_asked_for_is_told(dew) -> None:
    await dew.define("inputs", Attribute(replica=2))
    async with dew.events("held", attr="inputs") as events, dew.events("created") as made:
        await dew.put(b"not it", name="other")
        await dew.put(b"it", "inputs", name="mine")
        found = await take(events, 2)
        assert {(event.name, event.kind) for event in found} == {("mine", EventKind.HELD)}
        assert {event.host_name for event in found} == {"host1", "host2"}
        assert [event.name for event in await take(made, 2)] == ["other", "mine"]


async def test_a_program_that_starts_again_goes_on_where_it_stopped(grid) -> None:
    handled = []
    for start in range(3):
        async with bitdew.connect(grid.folder / "operator") as dew:
            if start:
                await dew.put(b"%d" % start, name=f"while-away-{start}")
            async with dew.events("created", cursor="program") as events:
                await dew.put(b"here %d" % start, name=f"here-{start}")
                wanted = 1 if start == 0 else 3  # the last one of before was under way, and comes again
                handled.append([event.name for event in await take(events, wanted)])
    assert handled == [["here-0"], ["here-0", "while-away-1", "here-1"], ["here-1", "while-away-2", "here-2"]]


async def test_what_was_handled_does_not_come_again(dew) -> None:
    async def handle(count: int) -> list[str]:
        found = []
        async with bounded(), dew.events("created", cursor="program", since="oldest") as events:
            async for event in events:
                found.append(event.name)
                if len(found) > count:
                    break
        return found

    for name in "abcd":
        await dew.put(name.encode(), name=name)
    assert await handle(1) == ["a", "b"]
    assert await handle(2) == ["b", "c", "d"]


async def test_two_programs_do_not_follow_one_cursor(dew) -> None:
    async with dew.events(cursor="program"):
        with pytest.raises(BitDewError) as fault:
            async with dew.events(cursor="program"):
                pass
    assert fault.value.key == "storage.locked"
    async with dew.events(cursor="program"):
        pass


async def test_whoever_was_away_for_too_long_is_told_what_is_so(grid, dew) -> None:
    async with dew.events(cursor="program"):
        pass
    for name in ("a", "b"):
        await (await dew.put(name.encode(), Attribute(replica=2), name=name)).held()
    log = EventLog(grid.service.rooms.contents._store._database)
    await log.forget(grid.clock.now() + timedelta(days=1))
    async with dew.events("held", cursor="program") as events:
        found = await take(events, 4)
        assert {(event.name, event.host_name) for event in found if event.again} == {
            (name, host) for name in "ab" for host in ("host1", "host2")
        }
        await dew.put(b"c", name="c")
        assert "c" in {event.name for event in await take(events, 2)}  # the newest of before is in the log still


async def test_events_outlast_a_restart_of_the_service(grid, dew) -> None:
    dew.grid.patience = 30.0
    async with dew.events("created") as events:
        waiting = asyncio.create_task(anext(events))
        await grid.stop_service()
        await grid.start_service()
        await grid.client.put((await asyncio.to_thread(_file, grid)), "after")
        async with bounded():
            assert (await waiting).name == "after"


def _file(grid):
    path = grid.folder / "some"
    path.write_bytes(b"some")
    return path


@pytest.mark.parametrize(
    ("asked", "key"),
    [({"attr": "nothing"}, "attribute.not-found"), ({"data": "nothing"}, "data.not-found")],
)
async def test_names_that_are_not_there_are_told_at_once(dew, asked: dict[str, str], key: str) -> None:
    with pytest.raises(BitDewError) as fault:
        async with dew.events(**asked, cursor="program"):
            pass
    assert fault.value.key == key


async def test_unknown_kinds_and_impossible_names_are_refused(dew) -> None:
    with pytest.raises(ValueError, match="copied"):
        dew.events("copied")
    with pytest.raises(BitDewError):
        dew.events(cursor="../outside")
    with pytest.raises(BitDewError) as fault:
        await dew.grid.events(kinds=["copied"])
    assert fault.value.key == "input.invalid"


async def test_a_damaged_cursor_is_told_with_what_to_do(grid, dew) -> None:
    folder = grid.folder / "operator/cursors"
    folder.mkdir()
    for wrong in ("", "{}", '{"next": 5}', '{"next": "x"}', "[" * 3000):
        (folder / "program.json").write_text(wrong)
        with pytest.raises(BitDewError) as fault:
            async with dew.events(cursor="program"):
                pass
        assert fault.value.key == "storage.failed"
        assert "Remove it" in fault.value.do


# Reactions ------------------------------------------------------------------------------------------------------------


async def test_registered_functions_are_called_with_their_events(dew) -> None:
    held, made, both = [], [], asyncio.Event()

    @dew.on("held")
    async def on_held(event: bitdew.Event) -> None:
        held.append(event.name)
        if len(held) == 2:
            both.set()

    @dew.on("created")
    def on_made(event: bitdew.Event) -> None:
        made.append(event.name)

    async with bounded(), dew.reacting():
        await dew.put(b"x", Attribute(replica=2), name="x")
        await both.wait()
    assert (held, made) == (["x", "x"], ["x"])


async def test_a_function_that_fails_ends_all_and_its_event_comes_again(grid) -> None:
    async def program(fails: bool) -> list[str]:
        called: list[str] = []
        async with bitdew.connect(grid.folder / "operator") as dew:

            @dew.on("created", cursor="program", since="oldest")
            async def work(event: bitdew.Event) -> None:
                called.append(event.name)
                if fails and event.name == "b":
                    raise ZeroDivisionError
                if event.name == "c":
                    raise KeyError  # enough

            for name in "abc":
                if fails:
                    await dew.put(name.encode(), name=name)
            async with bounded():
                with pytest.raises(ZeroDivisionError if fails else KeyError):
                    await dew.react()
        return called

    assert await program(fails=True) == ["a", "b"]
    assert await program(fails=False) == ["b", "c"]


async def test_reacting_ends_with_its_task(dew) -> None:
    @dew.on("created", cursor="program")
    async def nothing(_event: bitdew.Event) -> None:
        pass

    task = asyncio.create_task(dew.react())
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with dew.events(cursor="program"):  # it was given back
        pass
