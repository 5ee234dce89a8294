"""The bridges of a host, shown and changed by its owner, whether the worker runs or not."""

from __future__ import annotations

import asyncio
import json

import pytest
from bitdew.worker.adjusting import change_limits
from bitdew.worker.bridges.desk import BridgesChange, change_bridges
from bitdew.worker.limits import LimitsChange
from bitdew.worker.settings import WorkerSettings
from bitdew.worker.status import show_status

from bitdew.core.errors import BitDewError
from bitdew.wire import limits

HERE = {"kind": "xwhep", "url": "http://127.0.0.1:9"}


def kept(home):
    return json.loads((home / "worker.json").read_text())


def adding(**bridges):
    return BridgesChange.model_validate({"add": bridges})


@pytest.fixture
async def at_rest(home):
    settings = WorkerSettings(home=home, name="pc-7", upload=7)
    await asyncio.to_thread(settings.save)
    return settings


async def test_bridges_are_kept_for_the_next_start_of_a_worker_that_does_not_run(home, at_rest):
    view = await change_bridges(home, adding(a=HERE, b={"kind": "command", "words": ["/bin/tell", "x"]}))
    assert [(line.name, line.kind, line.target, line.state) for line in view.bridges] == [
        ("a", "xwhep", "http://127.0.0.1:9", "at rest"),
        ("b", "command", "/bin/tell x", "at rest"),
    ]
    assert await change_bridges(home, BridgesChange()) == view
    assert [line.name for line in (await show_status(home)).bridges] == ["a", "b"]
    view = await change_bridges(home, BridgesChange(remove=["a"]))
    assert [line.name for line in view.bridges] == ["b"]
    assert (kept(home)["upload"], list(kept(home)["bridges"])) == (7, ["b"])
    assert (await asyncio.to_thread(WorkerSettings.load, home)).bridges["b"].words == ("/bin/tell", "x")


async def test_a_bridge_that_is_not_there_and_too_many_of_them_are_refused_and_nothing_is_changed(home, at_rest):
    await change_bridges(home, adding(**{f"b{number}": HERE for number in range(limits.BRIDGES)}))
    before = kept(home)
    for change, key in [
        (BridgesChange(remove=["b0", "c"]), "bridge.not-found"),
        (adding(more=HERE), "input.invalid"),
    ]:
        with pytest.raises(BitDewError) as caught:
            await change_bridges(home, change)
        assert caught.value.key == key
    assert kept(home) == before


async def test_what_is_changed_meanwhile_stays_on_either_side(service, start_worker, home, until):
    async with start_worker() as started:
        view = await change_bridges(home, adding(a=HERE))
        assert (view.running, [line.name for line in view.bridges]) == (True, ["a"])
        await change_limits(home, LimitsChange(upload=5000))
        await until(lambda: list(started.worker.audience.members) == ["bridge/a"])
        await change_bridges(home, adding(b=HERE))
        assert started.worker.limits.settings.upload == 5000
        assert (kept(home)["upload"], sorted(kept(home)["bridges"])) == (5000, ["a", "b"])
        assert [line.name for line in (await show_status(home)).bridges] == ["a", "b"]
        with pytest.raises(BitDewError) as caught:
            await change_bridges(home, BridgesChange(remove=["c"]))
        assert caught.value.key == "bridge.not-found"


async def test_a_door_that_is_closed_is_shown_with_the_reason(service, start_worker, home, until):
    async with start_worker(bridges={"a": HERE}) as started:
        members = started.worker.audience.members
        await until(lambda: "bridge/a" in members and members["bridge/a"].teller.told.reason)
        (line,) = (await change_bridges(home, BridgesChange())).bridges
        assert (line.state, line.reason.key) == ("failing", "bridge.unreachable")
