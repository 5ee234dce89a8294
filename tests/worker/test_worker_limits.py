"""The caps of a worker: changed while it runs and while it does not, kept for its next start, and held meanwhile."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from bitdew.worker import adjusting
from bitdew.worker.adjusting import change_limits, show_limits
from bitdew.worker.limits import LimitsChange, changed
from bitdew.worker.settings import DatumCaps, WorkerSettings
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.lock import HomeLock
from bitdew.swarm.settings import LARGEST_CONNECTIONS, SwarmLimits

MIB = 2**20
SECONDS = 4.0
BURST = 2.5
"""Seconds at the full rate: see tests/swarm/test_limits.py."""


def kept(home):
    return json.loads((home / "worker.json").read_text())


@pytest.fixture
async def at_rest(home):
    """A worker that joined, and does not run."""
    settings = WorkerSettings(home=home, name="pc-7", upload=5 * MIB, labels={"site": "orsay"})
    await asyncio.to_thread(settings.save)
    return settings


# A worker that does not run -------------------------------------------------------------------------------------------


async def test_a_worker_that_does_not_run_is_changed_for_its_next_start(home, at_rest):
    view = await change_limits(home, LimitsChange(upload=MIB, quota=7, connections=9))
    assert (view.running, view.name, view.upload.cap, view.upload.now) == (False, "pc-7", MIB, None)
    assert await show_limits(home) == view
    now = await asyncio.to_thread(WorkerSettings.load, home)
    assert now == at_rest.model_copy(update={"upload": MIB, "quota": 7, "connections": 9})
    assert {path.name for path in home.iterdir()} == {"worker.json", "worker.lock"}


async def test_caps_of_data_are_kept_by_name_and_go_with_none(home, at_rest):
    uid = "a" * 32
    await change_limits(home, LimitsChange(upload=1, data=["hep", uid]))
    view = await change_limits(home, LimitsChange(download=2, connections=3, data=["hep"]))
    assert kept(home)["data"] == {
        "hep": {"upload": 1, "download": 2, "connections": 3},
        uid: {"upload": 1},
    }
    assert [(row.name, row.upload.cap, row.download.cap) for row in view.data] == [(uid, 1, 0), ("hep", 1, 2)]
    await change_limits(home, LimitsChange(upload=0, download=0, connections=0, data=["hep", uid, "unknown"]))
    assert kept(home).get("data", {}) == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (LimitsChange(connections=0), "connections"),
        (LimitsChange(connections=LARGEST_CONNECTIONS + 1), "connections"),
        (LimitsChange(quota=1, data=["hep"]), "quota"),
        (LimitsChange(connections=LARGEST_CONNECTIONS + 1, data=["hep"]), "data"),
    ],
)
async def test_what_is_impossible_is_refused_and_changes_nothing(home, at_rest, change, field):
    before = kept(home)
    with pytest.raises(BitDewError) as caught:
        await change_limits(home, change)
    assert (caught.value.key, caught.value.fields["field"]) == ("input.invalid", field)
    assert kept(home) == before


async def test_where_no_worker_joined_nothing_is_made(tmp_path):
    for asked in (show_limits(tmp_path / "none"), change_limits(tmp_path / "none", LimitsChange(upload=1))):
        with pytest.raises(BitDewError) as caught:
            await asked
        assert caught.value.key == "profile.missing"
    assert list(tmp_path.iterdir()) == []


async def test_a_worker_that_runs_and_can_not_be_told_is_left_as_it_is(home, at_rest, monkeypatch):
    monkeypatch.setattr(adjusting, "PATIENCE_SECONDS", 0.3)
    before, lock = kept(home), HomeLock(home, "worker")
    await asyncio.to_thread(lock.acquire)
    with pytest.raises(BitDewError) as caught:
        await change_limits(home, LimitsChange(upload=1))
    lock.release()
    assert caught.value.key == "worker.unreachable"
    assert kept(home) == before
    assert (await change_limits(home, LimitsChange(upload=1))).upload.cap == 1


CAPS = st.integers(0, 2**53)
COUNTS = st.integers(0, LARGEST_CONNECTIONS)


@given(
    st.lists(
        st.one_of(
            st.builds(LimitsChange, upload=st.none() | CAPS, download=st.none() | CAPS, quota=st.none() | CAPS),
            st.builds(LimitsChange, connections=COUNTS.filter(bool)),
            st.builds(
                LimitsChange,
                upload=st.none() | CAPS,
                connections=st.none() | COUNTS,
                data=st.lists(st.sampled_from(["a", "b", "c"]), min_size=1),
            ),
        )
    )
)
def test_the_last_word_on_each_cap_holds_and_the_rest_is_left(tmp_path_factory, changes):
    settings = WorkerSettings(home=tmp_path_factory.getbasetemp(), labels={"site": "orsay"}, name="pc")
    first, whole, data = settings, {}, {}
    for change in changes:
        settings = changed(settings, change)
        asked = change.model_dump(exclude_none=True, exclude={"data"})
        for key in change.data:
            data[key] = {**data.get(key, {}), **asked}
        if not change.data:
            whole |= asked
    caps = {key: DatumCaps(**values) for key, values in data.items() if any(values.values())}
    assert settings == first.model_copy(update={**whole, "data": caps})


# A worker that runs ---------------------------------------------------------------------------------------------------


async def test_a_running_worker_shows_what_it_uses_and_is_changed_at_once(
    service, start_worker, disk_bytes, home, until
):
    data = await service.publish(disk_bytes(24 * MIB))
    async with start_worker(upload=3 * MIB, download=MIB) as started:
        service.place(data, protocol="bittorrent")
        await service.until_state(data.uid, "fetching")

        async def moves():
            view = await show_limits(home)
            return view if view.download.now else None

        async with asyncio.timeout(10):
            while (view := await moves()) is None:
                await asyncio.sleep(0.1)
        assert view.running
        assert (view.upload.cap, view.download.cap, view.connections.cap) == (3 * MIB, MIB, 500)
        assert view.connections.now == 1
        assert (view.quota.cap, view.quota.now) == (20 * 2**30, data.size)
        (row,) = view.data
        assert (row.name, row.uid, row.download.cap, row.download.now) == ("disk", data.uid, 0, view.download.now)
        view = await change_limits(home, LimitsChange(download=0, connections=7))
        assert (view.download.cap, view.connections.cap) == (0, 7)
        await service.until_state(data.uid, "held")
        assert [event.text for event in started.events if event.kind == "limits"] == [
            "limits changed: download without limit, connections 7"
        ]
        assert started.worker.limits.settings.download == 0
    assert (kept(home)["download"], kept(home)["connections"], kept(home)["upload"]) == (0, 7, 3 * MIB)
    assert not (home / "control.sock").exists()


async def test_what_the_volunteer_wrote_meanwhile_is_kept_and_what_can_not_be_read_is_refused(
    service, start_worker, home, at_rest
):
    async with start_worker() as started:
        await asyncio.to_thread(at_rest.model_copy(update={"labels": {"site": "lyon"}}).save)
        await change_limits(home, LimitsChange(upload=9))
        assert (kept(home)["labels"], kept(home)["upload"]) == ({"site": "lyon"}, 9)
        await asyncio.to_thread((home / "worker.json").write_text, "{ not yet")
        with pytest.raises(BitDewError) as caught:
            await change_limits(home, LimitsChange(upload=8))
        assert caught.value.key == "input.invalid"
        assert started.worker.limits.settings.upload == 9
        assert (home / "worker.json").read_text() == "{ not yet"


async def test_a_worker_whose_socket_can_not_be_made_works_all_the_same(service, start_worker, disk_bytes, home):
    await asyncio.to_thread((home / "control.sock" / "in-the-way").mkdir, parents=True)
    data = await service.publish(disk_bytes(MIB))
    async with start_worker() as started:
        service.place(data)
        await service.until_state(data.uid, "held")
        assert [event.fields["key"] for event in started.events if event.kind == "trouble"] == ["storage.failed"]


async def test_the_service_hears_of_another_quota_at_once(service, start_worker, home):
    async with start_worker(quota=100):
        await service.until(lambda: service.syncs and service.syncs[-1].wait)
        for quota in (10**9, 50):
            began = time.monotonic()
            await change_limits(home, LimitsChange(quota=quota))
            await service.until(lambda q=quota: any(sync.host and sync.host.quota == q for sync in service.syncs))
            assert time.monotonic() - began < 4  # far from the period of 5 s that a poll is held open


async def test_a_lower_quota_removes_nothing_and_lets_nothing_more_in(service, start_worker, disk_bytes, home):
    held, coming = await service.publish(disk_bytes(MIB, 1), "held"), await service.publish(disk_bytes(3 * MIB, 2), "b")
    late = await service.publish(disk_bytes(MIB, 3), "late")
    async with start_worker(quota=10 * MIB, download=MIB):
        service.place(held)
        await service.until_state(held.uid, "held")
        service.place(coming)
        await service.until_state(coming.uid, "fetching")
        await change_limits(home, LimitsChange(quota=MIB // 2))
        service.place(late)
        await service.until_state(late.uid, "failed")
        reason = service.placements[late.uid].reason
        assert (reason.key, reason.fields["quota"]) == ("storage.full", MIB // 2)
        assert service.state(held.uid) == "held"
        assert service.state(coming.uid) == "fetching"
    async with start_worker(quota=MIB // 2):  # what was let in stays so over a restart
        await service.until_state(coming.uid, "held")
        assert (await show_limits(home)).quota.now == 4 * MIB
        await change_limits(home, LimitsChange(quota=10 * MIB))
        service.place(late)
        await service.until_state(late.uid, "held")
    assert (home / "copies" / held.root).read_bytes() == held.content


@pytest.mark.parametrize("protocol", ["bittorrent", "http"])
async def test_the_cap_of_one_datum_holds_however_it_comes_and_while_it_changes(
    service, start_worker, disk_bytes, home, protocol
):
    """Measured at the worker, from above only: a slow machine moves less, never more."""
    bound, free = await service.publish(disk_bytes(8 * MIB, 1), "bound"), await service.publish(disk_bytes(MIB, 2), "b")
    async with start_worker(data={"bound": {"download": MIB}}) as started:
        service.place(bound, protocol=protocol)
        await service.until_state(bound.uid, "fetching")
        service.place(free, protocol=protocol)
        await service.until_state(free.uid, "held")
        copy = started.worker.placements._copies._copies[bound.root]

        def came():
            return copy.figures.from_repository

        for cap in (MIB, MIB // 4):
            view = await change_limits(home, LimitsChange(download=cap, data=["bound"]))
            assert [row.download.cap for row in view.data if row.name == "bound"] == [cap]
            await asyncio.sleep(0.5)
            first, began = came(), time.monotonic()
            await asyncio.sleep(SECONDS if cap < MIB else SECONDS / 2)
            spent = time.monotonic() - began
            assert came() - first <= cap * (1.15 * spent + BURST)
        assert service.state(bound.uid) == "fetching"
        await change_limits(home, LimitsChange(upload=0, download=0, connections=0, data=["bound"]))
        await service.until_state(bound.uid, "held")
    assert kept(home).get("data", {}) == {}


async def test_the_cap_on_everything_holds_while_it_changes_and_data_come_both_ways(
    service, start_worker, disk_bytes, home
):
    one, two = (
        await service.publish(disk_bytes(16 * MIB, 1), "one"),
        await service.publish(disk_bytes(16 * MIB, 2), "b"),
    )
    async with start_worker(download=MIB) as started:
        service.place(one, protocol="http")
        service.place(two, protocol="bittorrent")
        await service.until(lambda: {service.state(one.uid), service.state(two.uid)} == {"fetching"})
        copies = started.worker.placements._copies._copies

        def came():
            return sum(copies[data.root].figures.from_repository for data in (one, two))

        for cap in (MIB, MIB // 4):
            await change_limits(home, LimitsChange(download=cap))
            await asyncio.sleep(1.0)
            first, began = came(), time.monotonic()
            await asyncio.sleep(SECONDS)
            assert came() - first <= cap * (1.15 * (time.monotonic() - began) + BURST)
        assert {service.state(one.uid), service.state(two.uid)} == {"fetching"}
        await change_limits(home, LimitsChange(download=0))
        assert started.worker.limits.settings.swarm_limits == SwarmLimits(connections=500)
        await service.until(lambda: service.state(one.uid) == service.state(two.uid) == "held")


async def test_the_caps_of_a_datum_hold_after_a_restart_and_for_its_uid_too(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker(data={data.uid: {"upload": 5 * MIB}, "disk": {"connections": 2}}) as started:
        service.place(data)
        await service.until_state(data.uid, "held")
        (row,) = (await show_limits(home)).data
        assert (row.uid, row.upload.cap, row.connections.cap) == (data.uid, 5 * MIB, 2)
        (transfer,) = started.worker.swarm.transfers.values()
        assert await asyncio.to_thread(transfer.handle.upload_limit) == 5 * MIB
        assert await asyncio.to_thread(transfer.handle.max_connections) == 2
    async with start_worker(data={data.uid: {"upload": 6 * MIB}}) as started:
        async with asyncio.timeout(10):
            while not any(t.entered for t in started.worker.swarm.transfers.values()):
                await asyncio.sleep(0.05)
        (transfer,) = started.worker.swarm.transfers.values()
        async with asyncio.timeout(10):
            while await asyncio.to_thread(transfer.handle.upload_limit) != 6 * MIB:
                await asyncio.sleep(0.05)
