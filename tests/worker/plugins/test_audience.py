"""Plug-ins of a worker that runs: told the truth in time, whatever one of them does, and chosen by its owner."""

from __future__ import annotations

import threading
import time

import pytest
from bitdew.worker.plugins import audience as audience_module
from bitdew.worker.plugins import teller as teller_module
from bitdew.worker.plugins.contract import Plugin


class Watcher(Plugin):
    """Looks at the file of each copy that it is told of."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, bytes]] = []

    def started(self, held):
        self.told.append(("started", ",".join(sorted(copy.name for copy in held)), b""))

    def held(self, copy):
        self.told.append(("held", copy.name, copy.path.read_bytes()))

    def dropping(self, copy):
        self.told.append(("dropping", copy.name, copy.path.read_bytes()))

    @property
    def events(self):
        return [(what, name) for what, name, _ in self.told]


@pytest.fixture
def told_fast(monkeypatch):
    monkeypatch.setattr(teller_module, "FIRST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(teller_module, "LONGEST_PAUSE_SECONDS", 0.2)


def state_of(started, name):
    return started.worker.audience.members[f"plug-in/{name}"].teller.told.state


async def test_a_plugin_sees_the_verified_bytes_when_they_came_and_before_they_go(
    service, start_worker, disk_bytes, home, until
):
    watcher, data = Watcher(), await service.publish(disk_bytes(300_000), "root")
    async with start_worker(plugins={"watcher": lambda: watcher}):
        service.place(data)
        await until(lambda: ("held", "root") in watcher.events)
        service.drop(data)
        await service.until_state(data.uid, "gone")
    assert watcher.events == [("started", ""), ("held", "root"), ("dropping", "root")]
    assert [seen for what, _, seen in watcher.told if what != "started"] == [data.content, data.content]
    assert not (home / "copies" / data.root).exists()


async def test_after_a_restart_it_is_told_the_truth_and_what_is_new_to_it_alone(
    service, start_worker, disk_bytes, until
):
    one, two = await service.publish(disk_bytes(9000), "one"), await service.publish(disk_bytes(9000, 2), "two")
    first, second, other = Watcher(), Watcher(), Watcher()
    async with start_worker(plugins={"watcher": lambda: first}) as started:
        service.place(one)
        await until(lambda: ("held", "one") in first.events)
        await until(lambda: state_of(started, "watcher") == "told")  # that it took it is kept, too
    async with start_worker(plugins={}):
        service.place(two)
        await service.until_state(two.uid, "held")
    async with start_worker(plugins={"watcher": lambda: second, "other": lambda: other}):
        await until(lambda: ("held", "two") in second.events)
        await until(lambda: len(other.events) == 3)
    assert second.events == [("started", "one,two"), ("held", "two")]
    assert other.events[0] == ("started", "one,two")
    assert sorted(other.events[1:]) == [("held", "one"), ("held", "two")]


async def test_plugins_that_fail_or_hang_or_can_not_be_loaded_cost_the_others_nothing(
    service, start_worker, disk_bytes, until, told_fast
):
    let_go = threading.Event()

    class Hanging(Watcher):
        seconds = 0.5

        def held(self, copy):
            let_go.wait(60)

        def dropping(self, copy):
            assert not copy.path.exists()  # it is told afterwards

    class Failing(Watcher):
        def held(self, copy):
            raise SystemExit(3)

    def broken():
        raise ImportError("no such thing")

    watcher, data = Watcher(), await service.publish(disk_bytes(300_000), "root")
    made = {"hanging": Hanging, "failing": Failing, "broken": broken, "watcher": lambda: watcher}
    async with start_worker(plugins=made) as started:
        service.place(data)
        assert await service.until_state(data.uid, "held") < 10
        await until(lambda: ("held", "root") in watcher.events)
        await until(lambda: state_of(started, "hanging") == state_of(started, "failing") == "failing")
        assert state_of(started, "broken") == "broken"
        began = time.monotonic()
        service.drop(data)
        await service.until_state(data.uid, "gone")
        assert time.monotonic() - began < 10
        assert not started.task.done()
        told = {event.subject for event in started.events if event.fields.get("key") == "plugin.failed"}
        assert told == {"plug-in/hanging", "plug-in/failing", "plug-in/broken"}
        let_go.set()
        await until(lambda: state_of(started, "hanging") == "told")


async def test_a_drop_waits_for_a_slow_plugin_a_bounded_time(service, start_worker, disk_bytes, until, monkeypatch):
    monkeypatch.setattr(audience_module, "LEAVING_SECONDS", 1.0)
    let_go = threading.Event()

    class Slow(Watcher):
        seconds = 60.0

        def dropping(self, copy):
            let_go.wait(60)

    data = await service.publish(disk_bytes(9000), "root")
    slow = Slow()
    async with start_worker(plugins={"slow": lambda: slow}):
        service.place(data)
        await until(lambda: ("held", "root") in slow.events)
        service.drop(data)
        assert 0.9 < await service.until_state(data.uid, "gone") < 8
        let_go.set()


async def test_the_owner_chooses_what_a_plugin_is_told_and_which_are_loaded(service, start_worker, disk_bytes, until):
    hep, other = await service.publish(disk_bytes(9000), "hep-1"), await service.publish(disk_bytes(9000, 2), "other")
    some, none, everything = Watcher(), Watcher(), Watcher()
    wishes = {
        "some": {"only": {"data": ["hep-*"], "labels": {"site": "orsay"}}},
        "none": {"on": False},
        "elsewhere": {"only": {"labels": {"site": "lyon"}}},
    }
    elsewhere = Watcher()
    made = {
        "some": lambda: some,
        "none": lambda: none,
        "everything": lambda: everything,
        "elsewhere": lambda: elsewhere,
    }
    async with start_worker(plugins=made, settings={"plugins": wishes, "labels": {"site": "orsay"}}):
        service.place(hep)
        service.place(other)
        await until(lambda: len(everything.events) == 3)
        await until(lambda: len(some.events) == 2)
    assert some.events == [("started", ""), ("held", "hep-1")]
    assert (none.events, elsewhere.events) == ([], [("started", "")])


async def test_two_data_with_the_same_bytes_are_told_one_by_one(service, start_worker, disk_bytes, home, until):
    content = disk_bytes(9000)
    one, two = await service.publish(content, "one"), await service.publish(content, "two")
    watcher = Watcher()
    async with start_worker(plugins={"watcher": lambda: watcher}):
        service.place(one)
        service.place(two)
        await until(lambda: len(watcher.events) == 3)
        service.drop(one)
        await until(lambda: ("dropping", "one") in watcher.events)
        await service.until_state(one.uid, "gone")
        assert (home / "copies" / two.root).exists()
    assert ("dropping", "two") not in watcher.events
