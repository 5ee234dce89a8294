"""All machines together stay within what the volunteer lends; what goes beyond is refused before anything is made."""

from __future__ import annotations

import contextlib

import pytest
from bitdew.worker.adjusting import change_limits
from bitdew.worker.limits import LimitsChange
from bitdew.worker.room import SMALLEST_DISK, Claim, Room, Taken, refusal
from bitdew.worker.settings import WorkerSettings
from bitdew.worker.storage import Storage
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError

MIB = 2**20


class Order:
    def __init__(self, memory, cpus):
        self.memory, self.cpus = memory, cpus


@pytest.fixture
def storage(tmp_path):
    made = Storage(tmp_path / "copies", 100 * MIB)
    made.open(set())
    return made


@given(
    st.integers(0, 6),
    st.integers(0, 16),
    st.integers(1, 4),
    st.integers(0, 1024),
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 512), st.integers(1, 5), st.booleans())),
)
def test_whatever_is_asked_for_the_caps_hold_together(tmp_path_factory, machines, all_cpus, cpus, memory, asked):
    settings = WorkerSettings(
        home=tmp_path_factory.getbasetemp(), name="pc", machines=machines, all_cpus=all_cpus, cpus=cpus, memory=memory
    )
    room = Room(settings, Storage(tmp_path_factory.getbasetemp() / "none", SMALLEST_DISK))
    for uid, size, count, leave in asked:
        before = room.taken()
        with contextlib.suppress(BitDewError):
            room.claim(uid, Order(size, count))
            before = room.taken()
        assert room.taken() == before
        if leave:
            room.release(uid)
        taken = room.taken()
        assert taken.memory <= memory
        assert not machines or taken.machines <= machines
        assert not all_cpus or taken.cpus <= all_cpus


@pytest.mark.parametrize(
    ("lent", "taken", "why"),
    [
        ({"machines": 2}, Taken(2, 0, 0, 0), "2 are lent"),
        ({"memory": 10}, Taken(1, 5, 1, 0), "memory are left"),
        ({"cpus": 1}, Taken(0, 0, 0, 0), "one machine may have 1"),
        ({"all_cpus": 4}, Taken(1, 0, 3, 0), "all machines' 4 are left"),
        ({}, Taken(9, 0, 99, 0), ""),
    ],
)
def test_each_cap_is_told_by_its_figures(tmp_path, lent, taken, why):
    settings = WorkerSettings(**{"home": tmp_path, "name": "pc", "memory": 100, "cpus": 4, **lent})
    found = refusal(settings, taken, Claim(6, 2))
    assert bool(found) == bool(why)
    assert why in found


def test_machines_disks_count_into_the_quota_beside_the_copies(tmp_path, storage):
    room = Room(WorkerSettings(home=tmp_path, name="pc", memory=100, cpus=1), storage)
    room.claim("a", Order(1, 1))
    assert room.grew("a", 90 * MIB) is None
    assert storage.figures()[0] == 90 * MIB
    with pytest.raises(BitDewError, match="no room"):
        storage.admit("e" * 64, 11 * MIB)
    with pytest.raises(BitDewError) as caught:
        room.claim("b", Order(1, 1))
    assert "quota" in caught.value.why
    fault = room.grew("a", 101 * MIB)
    assert fault is not None
    assert fault.key == "storage.full"
    room.grew("a", 0)
    room.release("a")
    assert storage.left() == 100 * MIB


def test_a_quota_that_was_lowered_ends_no_machine_that_writes_nothing(tmp_path, storage):
    room = Room(WorkerSettings(home=tmp_path, name="pc", memory=100, cpus=1), storage)
    room.claim("a", Order(1, 1))
    assert room.grew("a", 50 * MIB) is None
    storage.lend(MIB)
    assert room.grew("a", 50 * MIB) is None
    assert room.grew("a", 51 * MIB) is not None


@pytest.mark.parametrize("lent", [{"machines": 1}, {"all_cpus": 1}, {"memory": 100 * MIB}])
async def test_the_service_hears_why_a_launch_is_refused_and_nothing_is_made(
    service, start_worker, home, disk_bytes, mock_host, lent
):
    disk = await service.publish(disk_bytes(256 * 1024))
    async with start_worker(**lent):
        service.place(disk)
        await service.until_state(disk.uid, "held")
        first = service.launch(disk)
        await service.until_state(first, "running")
        second = service.launch(disk)
        await service.until_state(second, "failed")
        assert service.machines[second].reason.key == "host.full"
        assert second not in mock_host.starts
        assert not (home / "machines" / second).exists()
        # More is lent while it runs: the next one is let in.
        await change_limits(home, LimitsChange(machines=0, all_cpus=0, memory=2**30))
        assert service.syncs[-1] is not None
        third = service.launch(disk)
        await service.until_state(third, "running")


def test_jobs_and_machines_share_one_room(tmp_path, storage):
    room = Room(WorkerSettings(home=tmp_path, name="pc", cpus=4, memory=1000), storage)
    room.claim("vm", Order(400, 1))
    assert room.refuses_job(Claim(600, 3)) == ""
    assert "600 B of memory are left" in room.refuses_job(Claim(601, 1))
    assert "3 are left" in room.refuses_job(Claim(1, 4))
    room.jobs = lambda: Claim(300, 2)
    for asked, why in ((Order(301, 1), "300 B of memory are left"), (Order(1, 3), "jobs leave 2 of 4")):
        with pytest.raises(BitDewError) as caught:
            room.claim("other", asked)
        assert (caught.value.key, why in str(caught.value.why)) == ("host.full", True)
    room.claim("other", Order(300, 2))
