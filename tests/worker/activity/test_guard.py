"""The owner comes first: machines pause and swarms step back within a second, go on later, and nothing is lost."""

from __future__ import annotations

import asyncio
import shutil
import time
from datetime import UTC, datetime, timedelta

import pytest
from bitdew.worker.activity import guard as guard_
from bitdew.worker.activity.guard import PauseRequest
from bitdew.worker.activity.rules import Observations, Rules
from bitdew.worker.adjusting import change_limits
from bitdew.worker.hypervisors import QemuHypervisor
from bitdew.worker.limits import ActivityChange, LimitsChange
from bitdew.worker.status import pause, resume, show_status

from bitdew.core.errors import error
from bitdew.hypervisor import Capabilities
from bitdew.testing.mock_hypervisor import MockHypervisor

KIB, MIB = 1024, 2**20
IDLE = Rules(when="idle", idle_minutes=5, battery=True, metered=True)
TICKS = bytes.fromhex("fb baf803 b02e ee b486 b90100 31d2 cd15 ebee").ljust(510, b"\0") + b"\x55\xaa"
"""A boot sector that writes a dot to the first serial port every 66 ms, for ever."""


class FakeSenses:
    """A host whose owner is where the test says."""

    def __init__(self, **seen):
        self.seen = seen
        self.looks = 0

    def observe(self, rules):  # noqa: ARG002
        self.looks += 1
        return Observations(datetime.now(UTC), **self.seen)

    def owner(self, *, here):
        self.seen["idle"] = 0.0 if here else 10_000.0


@pytest.fixture
async def disk(service, disk_bytes):
    return await service.publish(disk_bytes(256 * KIB))


@pytest.fixture
def senses():
    return FakeSenses(idle=10_000.0)


async def running(service, disk, **launch):
    service.place(disk)
    await service.until_state(disk.uid, "held")
    uid = service.launch(disk, **launch)
    await service.until_state(uid, "running")
    return uid


async def test_a_machine_pauses_within_a_second_when_the_owner_returns_and_goes_on_afterwards(
    service, start_worker, disk, senses, mock_host
):
    async with start_worker(activity=IDLE, senses=senses) as started:
        uid = await running(service, disk)
        senses.owner(here=True)
        assert await service.until_state(uid, "paused") < 1
        assert mock_host.machines[uid].status.state == "paused"
        assert service.machines[uid].reason.key == "host.in-use"
        assert "someone uses it" in service.machines[uid].reason.why
        senses.owner(here=False)
        started.worker.guard.stir()
        await service.until_state(uid, "running")
        assert mock_host.machines[uid].status.state == "running"
        assert service.machines[uid].reason is None
        assert mock_host.starts[uid] == 1
    told = [event.text for event in started.events if event.kind == "activity"]
    assert told[0].startswith("machines are paused, swarms are capped: someone uses it")


async def test_a_real_machine_says_nothing_while_the_owner_is_there(service, start_worker, senses):
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("*** QEMU IS NOT TESTED: qemu-system-x86_64 not found")
    image = TICKS + bytes(MIB - len(TICKS))
    disk = await service.publish(image)
    driver = QemuHypervisor(accelerator="tcg")
    async with start_worker(activity=IDLE, senses=senses, hypervisor=driver) as started:
        uid = await running(service, disk, memory=32 * MIB)
        await service.until(lambda: len(service.consoles.get(uid, "")) > 5, 60)
        senses.owner(here=True)
        assert await service.until_state(uid, "paused") < 1
        path = started.worker.machines.machines[uid].console
        size = await asyncio.to_thread(lambda: path.stat().st_size)
        await asyncio.sleep(1)
        assert await asyncio.to_thread(lambda: path.stat().st_size) == size
        senses.owner(here=False)
        started.worker.guard.stir()
        await service.until(lambda: len(service.consoles[uid]) > size + 5, 60)
        assert service.machine(uid) == "running"
        assert set(service.consoles[uid][-5:]) == {"."}


async def test_a_machine_that_is_launched_meanwhile_begins_when_the_owner_has_gone(
    service, start_worker, disk, senses, mock_host
):
    senses.owner(here=True)
    async with start_worker(activity=IDLE, senses=senses) as started:
        service.place(disk)
        await service.until_state(disk.uid, "held")
        uid = service.launch(disk)
        await service.until(lambda: uid in service.machines and service.machines[uid].reason)
        assert service.machine(uid) == "waiting-for-disk"
        assert service.machines[uid].reason.key == "host.in-use"
        assert not mock_host.machines
        senses.owner(here=False)
        started.worker.guard.stir()
        await service.until_state(uid, "running")
        assert service.machines[uid].reason is None


async def test_a_machine_that_waits_for_the_owner_to_go_can_be_halted(service, start_worker, disk, senses, mock_host):
    senses.owner(here=True)
    async with start_worker(activity=IDLE, senses=senses):
        service.place(disk)
        await service.until_state(disk.uid, "held")
        uid = service.launch(disk)
        await service.until(lambda: uid in service.machines and service.machines[uid].reason)
        service.order("halt", uid)
        await service.until_state(uid, "stopped")
    assert not mock_host.starts


async def test_a_paused_machine_is_halted_without_being_woken(service, start_worker, disk, senses, mock_host):
    async with start_worker(activity=IDLE, senses=senses):
        uid = await running(service, disk)
        senses.owner(here=True)
        await service.until_state(uid, "paused")
        service.order("halt", uid)
        assert await service.until_state(uid, "stopped") < 5


class Unpausable(MockHypervisor):
    capabilities = Capabilities(graceful_stop=True, outlives_worker=True)


@pytest.mark.parametrize(
    "driver", [Unpausable, lambda: MockHypervisor(fail={"pause": error("hypervisor.failed", "The mock would not")})]
)
async def test_a_machine_that_can_not_be_paused_is_stopped_for_the_owner(service, start_worker, disk, senses, driver):
    async with start_worker(activity=IDLE, senses=senses, hypervisor=driver()):
        uid = await running(service, disk)
        senses.owner(here=True)
        await service.until_state(uid, "failed")
        assert service.machines[uid].reason.key == "host.in-use"


async def test_a_paused_machine_outlives_a_crash_of_the_worker_and_goes_on(
    service, start_worker, disk, senses, mock_host
):
    async with start_worker(activity=IDLE, senses=senses) as started:
        uid = await running(service, disk)
        senses.owner(here=True)
        await service.until_state(uid, "paused")
        await started.crash()
    senses.owner(here=False)
    async with start_worker(activity=IDLE, senses=senses):
        await service.until_state(uid, "running")
        assert mock_host.machines[uid].status.state == "running"
        assert mock_host.starts[uid] == 1


async def test_the_owners_word_pauses_everything_at_once_and_holds_over_a_restart(
    service, start_worker, disk, home, mock_host
):
    async with start_worker() as started:
        uid = await running(service, disk)
        began = time.monotonic()
        view = await pause(home, None)
        assert (view.paused, view.machines_may_run, view.swarms) == (True, False, "stopped")
        await service.until_state(uid, "paused")
        assert time.monotonic() - began < 1
        await started.crash()
    async with start_worker() as started:
        await service.until_state(uid, "paused")
        shown = await show_status(home)
        while not shown.limits.machines.now:  # it answers before it has found its machines again
            await asyncio.sleep(0.02)
            shown = await show_status(home)
        assert [(line.uid, line.state, line.disk) for line in shown.machines] == [(uid, "paused", "disk")]
        assert shown.limits.machines.now == 1
        view = await resume(home)
        assert (view.paused, view.machines_may_run, view.swarms) == (False, True, "free")
        await service.until_state(uid, "running")
    assert not (home / "paused.json").exists()


async def test_a_pause_for_a_while_ends_by_itself(service, start_worker, disk, home):
    async with start_worker():
        uid = await running(service, disk)
        view = await pause(home, 1.0)
        assert view.paused_until is not None
        assert view.paused_until - datetime.now(UTC) < timedelta(seconds=1)
        await service.until_state(uid, "paused")
        await service.until_state(uid, "running", seconds=5)
        assert not (home / "paused.json").exists()


async def test_a_pause_stops_what_is_on_its_way_and_it_goes_on_from_there(service, start_worker, home, disk_bytes):
    big = await service.publish(disk_bytes(24 * MIB))
    async with start_worker(download=4 * MIB) as started:
        service.place(big)
        await service.until(lambda: big.uid in service.placements and service.placements[big.uid].done > 0, 30)
        await pause(home, None)
        await asyncio.sleep(0.5)  # what is in the sockets
        before = started.worker.placements.entries[big.uid].done
        await asyncio.sleep(1.5)
        assert started.worker.placements.entries[big.uid].done == before < big.size
        assert not started.worker.swarm.transfers or all(
            t.usage.connections == 0 for t in started.worker.swarm.transfers.values()
        )
        await change_limits(home, LimitsChange(download=0))
        await resume(home)
        await service.until_state(big.uid, "held", seconds=30)


async def test_rules_are_changed_while_the_worker_runs_and_cap_its_swarms(service, start_worker, disk, home):
    senses = FakeSenses(on_battery=True)
    async with start_worker(activity=Rules(battery=True), senses=senses, upload=MIB) as started:
        uid = await running(service, disk)
        change = ActivityChange(battery=False, upload=2 * MIB, download=3 * MIB)
        view = await change_limits(home, LimitsChange(activity=change))
        assert not view.activity.battery
        await service.until_state(uid, "paused")
        bandwidth = started.worker.limits._bandwidth
        assert (bandwidth.limits.upload, bandwidth.limits.download) == (MIB, 3 * MIB)
        await change_limits(home, LimitsChange(activity=ActivityChange(battery=True)))
        await service.until_state(uid, "running")
        assert (bandwidth.limits.upload, bandwidth.limits.download) == (MIB, 0)


async def test_where_no_rule_asks_for_anything_the_host_is_hardly_looked_at(service, start_worker, disk):
    senses = FakeSenses()
    async with start_worker(senses=senses):
        await running(service, disk)
        looks = senses.looks
        await asyncio.sleep(1)
        assert senses.looks == looks


async def test_an_impossible_pause_is_refused():
    for seconds in (0, -1, guard_.LONGEST_PAUSE * 2, float("inf")):
        with pytest.raises(ValueError, match="seconds"):
            PauseRequest(seconds=seconds)
