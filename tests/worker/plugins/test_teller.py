"""One plug-in is told everything at least once, whatever fails between; what goes waits for it a bounded time."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bitdew.worker.journal import Journal
from bitdew.worker.plugins import teller as teller_module
from bitdew.worker.plugins.contract import Plugin, Replica
from bitdew.worker.plugins.teller import Teller
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdew.clock import SystemClock

START = datetime(2026, 1, 1, tzinfo=UTC)


def replica(number: int, name: str = "", minute: int = 0) -> Replica:
    name = name or f"disk-{number}"
    since = START.replace(minute=minute)
    return Replica(f"{number:032x}", name, f"{number:064x}", 7, Path(f"/copies/{number}"), "", since)


class Recorder(Plugin):
    """Remembers what it was told, and fails as often as it is to."""

    def __init__(self, failing: int = 0) -> None:
        self.told: list[tuple[str, tuple[str, ...]]] = []
        self.picture: dict[str, Replica] = {}
        self.failing = failing
        self.poison: set[str] = set()

    def started(self, held):
        self._tell("started", held)
        self.picture = {one.uid: one for one in held}

    def held(self, copy):
        self._tell("held", [copy])
        self.picture[copy.uid] = copy

    def dropping(self, copy):
        self._tell("dropping", [copy])
        self.picture.pop(copy.uid, None)

    def _tell(self, what, copies):
        if self.failing:
            self.failing -= 1
            raise ValueError("not now")
        if what != "started" and {one.name for one in copies} & self.poison:
            raise ValueError("not this")
        self.told.append((what, tuple(one.name for one in copies)))


class WholeRecorder(Recorder):
    whole = True


@pytest.fixture
def told_fast(monkeypatch):
    monkeypatch.setattr(teller_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(teller_module, "LONGEST_PAUSE_SECONDS", 0.02)


@asynccontextmanager
async def telling(plugin, truth, folder, known=None):
    """A teller that runs, with a journal of its own, and the troubles that it told of."""
    journal = Journal(folder / "journal.db")
    recalled = await journal.open()
    troubles = []
    made = Teller(
        "plug-in/mine",
        lambda: plugin,
        truth,
        recalled.told.get("plug-in/mine", {}) if known is None else known,
        journal=journal,
        clock=SystemClock(),
        on_trouble=lambda name, fault: troubles.append(fault and fault.key),
    )
    made.troubles = troubles
    task = asyncio.ensure_future(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.close()
        await journal.close()


async def settled(teller, state="told"):
    async with asyncio.timeout(10):
        while teller.told.state != state:
            await asyncio.sleep(0.005)


async def test_the_truth_comes_first_and_then_what_is_new(tmp_path):
    plugin, truth = Recorder(), {r.uid: r for r in (replica(1), replica(2))}
    async with telling(plugin, truth, tmp_path) as teller:
        await settled(teller)
        assert plugin.told == [("started", ("disk-1", "disk-2")), ("held", ("disk-1",)), ("held", ("disk-2",))]
        new = replica(3)
        truth[new.uid] = new
        teller.stir()
        await settled(teller)
        assert plugin.told[3:] == [("held", ("disk-3",))]
        assert (teller.told.known, teller.told.waiting, teller.told.reason) == (3, 0, None)


async def test_after_a_restart_only_what_it_did_not_know_is_new(tmp_path):
    truth = {r.uid: r for r in (replica(1), replica(2))}
    async with telling(Recorder(), truth, tmp_path) as teller:
        await settled(teller)
    del truth[replica(1).uid]
    truth[replica(3).uid] = replica(3)
    plugin = Recorder()
    async with telling(plugin, truth, tmp_path) as teller:
        await settled(teller)
    assert plugin.told == [("started", ("disk-2", "disk-3")), ("dropping", ("disk-1",)), ("held", ("disk-3",))]


async def test_a_copy_that_was_dropped_and_came_back_is_told_as_another(tmp_path):
    old, new = replica(1), replica(1, minute=5)
    plugin = Recorder()
    async with telling(plugin, {old.uid: new}, tmp_path, known={old.uid: old}) as teller:
        await settled(teller)
    assert [what for what, _ in plugin.told] == ["started", "dropping", "held"]
    assert plugin.picture == {new.uid: new}


async def test_another_name_for_the_same_copy_is_told_without_taking_it_away(tmp_path):
    old, new = replica(1), replica(1, "renamed")
    plugin = Recorder()
    async with telling(plugin, {old.uid: new}, tmp_path, known={old.uid: old}) as teller:
        await settled(teller)
    assert plugin.told == [("started", ("renamed",)), ("held", ("renamed",))]


async def test_what_fails_is_told_again_and_trouble_is_said_once(tmp_path, told_fast):
    plugin = Recorder(failing=4)
    async with telling(plugin, {replica(1).uid: replica(1)}, tmp_path) as teller:
        await settled(teller)
        assert teller.troubles == ["plugin.failed", None]
    assert plugin.told == [("started", ("disk-1",)), ("held", ("disk-1",))]


async def test_one_thing_that_always_fails_keeps_the_others_from_nothing(tmp_path, told_fast):
    plugin, truth = Recorder(), {replica(n).uid: replica(n) for n in range(12)}
    plugin.poison = {f"disk-{n}" for n in range(3)}
    async with telling(plugin, truth, tmp_path) as teller:
        async with asyncio.timeout(10):
            while teller.told.known < 9:
                await asyncio.sleep(0.005)
        assert (teller.told.state, teller.told.waiting) == ("failing", 3)
        plugin.poison = set()
        await settled(teller)


async def test_what_goes_is_waited_for_until_the_plugin_knows(tmp_path):
    let_go, began = threading.Event(), threading.Event()

    class Slow(Recorder):
        def dropping(self, copy):
            began.set()
            let_go.wait(10)
            super().dropping(copy)

    plugin, truth = Slow(), {replica(1).uid: replica(1)}
    async with telling(plugin, truth, tmp_path) as teller:
        await settled(teller)
        truth.clear()
        gone = asyncio.ensure_future(teller.withdrawn(replica(1).uid))
        assert await asyncio.to_thread(began.wait, 5)
        await asyncio.sleep(0.05)
        assert not gone.done()
        let_go.set()
        async with asyncio.timeout(5):
            await gone
        assert plugin.picture == {}


@pytest.mark.parametrize("kind", [Recorder, WholeRecorder])
async def test_a_plugin_that_fails_to_take_it_back_is_not_waited_for_and_told_later(tmp_path, told_fast, kind):
    plugin, truth = kind(), {replica(1).uid: replica(1)}
    async with telling(plugin, truth, tmp_path) as teller:
        await settled(teller)
        plugin.failing = 3
        truth.clear()
        async with asyncio.timeout(5):
            await teller.withdrawn(replica(1).uid)
        await settled(teller)
        assert plugin.picture == {}


async def test_what_may_have_been_taken_is_taken_back_too(tmp_path, told_fast):
    """It raised after it had taken the copy: nobody knows that it did, and it must not keep it."""

    class Late(Recorder):
        def held(self, copy):
            self.picture[copy.uid] = copy
            raise ValueError("too late")

    plugin, truth = Late(), {}
    async with telling(plugin, truth, tmp_path) as teller:
        await settled(teller)
        truth[replica(1).uid] = replica(1)
        teller.stir()
        await settled(teller, "failing")
        truth.clear()
        async with asyncio.timeout(5):
            await teller.withdrawn(replica(1).uid)
        assert plugin.picture == {}
        assert plugin.told[-1] == ("dropping", ("disk-1",))


async def test_a_whole_list_that_may_have_been_taken_is_told_again(tmp_path, told_fast):
    class Late(WholeRecorder):
        def started(self, held):
            super().started(held)
            if held:
                raise ValueError("too late")

    plugin, truth = Late(), {}
    async with telling(plugin, truth, tmp_path) as teller:
        await settled(teller)
        truth[replica(1).uid] = replica(1)
        teller.stir()
        await settled(teller, "failing")
        assert plugin.picture
        truth.clear()
        async with asyncio.timeout(5):
            await teller.withdrawn(replica(1).uid)
        await settled(teller)
        assert plugin.picture == {}


async def test_many_changes_reach_one_who_wants_the_whole_list_in_few_calls(tmp_path):
    plugin, truth = WholeRecorder(), {}
    async with telling(plugin, truth, tmp_path) as teller:
        await settled(teller)
        for number in range(500):
            truth[replica(number).uid] = replica(number)
            teller.stir()
        await settled(teller)
        assert len(plugin.told) <= 4
        assert len(plugin.picture) == 500


async def test_the_truth_is_told_again_to_one_who_may_forget(tmp_path):
    plugin = WholeRecorder()
    plugin.again_seconds = 0.05
    async with telling(plugin, {replica(1).uid: replica(1)}, tmp_path) as teller:
        await settled(teller)
        plugin.picture = {}
        async with asyncio.timeout(5):
            while not plugin.picture:
                await asyncio.sleep(0.01)


async def test_one_that_hangs_is_told_nothing_more_until_it_is_back(tmp_path, told_fast):
    let_go = threading.Event()

    class Stuck(Recorder):
        seconds = 0.1

        def held(self, copy):
            let_go.wait(20)
            super().held(copy)

    plugin, truth = Stuck(), {replica(1).uid: replica(1)}
    async with telling(plugin, truth, tmp_path) as teller:
        await settled(teller, "failing")
        truth.clear()
        async with asyncio.timeout(5):
            await teller.withdrawn(replica(1).uid)
        assert plugin.told == [("started", ("disk-1",))]
        let_go.set()
        await settled(teller)
        assert plugin.picture == {}


async def test_one_that_can_not_be_loaded_is_waited_for_by_nobody(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    troubles = []
    teller = Teller(
        "plug-in/mine",
        lambda: 1 / 0,
        {},
        {replica(1).uid: replica(1)},
        journal=journal,
        clock=SystemClock(),
        on_trouble=lambda name, fault: troubles.append(str(fault)),
    )
    await teller.run()
    assert teller.told.state == "broken"
    assert "ZeroDivisionError" in troubles[0]
    async with asyncio.timeout(1):
        await teller.withdrawn(replica(1).uid)
    await teller.close()
    await journal.close()


async def test_one_that_is_dismissed_is_told_that_nothing_is_held(tmp_path):
    plugin, truth = WholeRecorder(), {replica(1).uid: replica(1)}
    async with telling(plugin, truth, tmp_path) as teller:
        await settled(teller)
        await teller.dismiss()
        assert plugin.told[-1] == ("started", ())


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.integers(0, 4)),
        st.tuples(st.just("drop"), st.integers(0, 4)),
        st.tuples(st.just("fail"), st.integers(1, 4)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=14,
)


@given(changes=CHANGES, kind=st.sampled_from([Recorder, WholeRecorder]))
@settings(max_examples=25, deadline=None)
def test_whatever_happens_the_plugin_ends_up_with_the_truth(tmp_path_factory, changes, kind):
    """And no copy is let go while the plug-in takes it for held, unless telling it was tried and failed."""

    async def play(folder):
        plugin, truth, minute = kind(), {}, 0
        teller_module.FIRST_PAUSE_SECONDS, before = 0.002, teller_module.FIRST_PAUSE_SECONDS
        try:
            rest = list(changes)
            while True:
                plugin.picture = {}  # a process that starts remembers nothing
                async with telling(plugin, truth, folder) as teller:
                    while rest:
                        what, number = rest.pop(0)
                        if what == "restart":
                            break
                        if what == "fail":
                            plugin.failing = number
                        elif what == "hold":
                            minute += 1
                            made = replica(number, minute=minute)
                            truth.setdefault(made.uid, made)
                            teller.stir()
                        elif truth.pop(replica(number).uid, None) is not None:
                            might_fail = plugin.failing
                            async with asyncio.timeout(5):
                                await teller.withdrawn(replica(number).uid)
                            assert might_fail or replica(number).uid not in plugin.picture
                        await asyncio.sleep(0)
                    else:
                        await settled(teller)
                        assert plugin.picture == truth
                        return
        finally:
            teller_module.FIRST_PAUSE_SECONDS = before

    asyncio.run(play(tmp_path_factory.mktemp("play")))
