"""What a plan leaves open about a datum: how many copies are missing, what could change that, and why."""

from __future__ import annotations

import pytest
from bitdew.scheduler.planner import Outlook, plan
from bitdew.scheduler.planner import search as searching

from bitdew.core.requirement import Requirement
from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3


def test_a_datum_that_has_all_it_wants_leaves_nothing_open(world):
    assert world().hosts_named("a b").datum().copy("a").outlook() == Outlook("disk")


def test_a_plan_that_places_all_that_is_missing_only_waits_for_the_leases(world):
    outlook = world().hosts_named("a b c").datum(replica=2).outlook()
    assert (outlook.missing, outlook.open, outlook.reason) == (0, False, "")
    assert outlook.wake_at == world.NOW + world().settings.lease


def test_what_no_host_can_take_is_open_and_each_host_is_counted_once(world):
    w = world().hosts_named("a b c", site="lyon").host("away", HostState.LOST, site="lyon").host("other")
    w.host("full", quota=GB, committed=GB, site="lyon")
    outlook = w.datum(replica=5, requires="site = lyon").outlook()
    assert (outlook.missing, outlook.open) == (2, True)
    assert outlook.reason == (
        "2 missing, no eligible host: 1 not alive, 1 that do not match, 1 without room, "
        "3 that have a copy, failed lately or were promised other data"
    )


def test_where_no_host_is_known_that_is_the_reason(world):
    outlook = world().datum().outlook()
    assert (outlook.missing, outlook.open, outlook.reason) == (1, True, "1 missing, no eligible host: no host is known")


def test_everywhere_is_not_open_once_every_eligible_host_has_it(world):
    outlook = world().hosts_named("a b").datum(replica=-1).copy("a").copy("b").outlook()
    assert (outlook.missing, outlook.open) == (0, False)


@pytest.mark.parametrize("why", ["awaited", "damaged"])
def test_what_lacks_a_source_waits_for_that_and_for_no_host(world, why):
    outlook = world().hosts_named("a b").datum(replica=2, **{why: True}).outlook()
    assert (outlook.missing, outlook.open, outlook.wake_at) == (2, False, None)
    assert outlook.reason.startswith("there is nothing to fetch: ")


def test_a_machine_without_a_host_is_open(world):
    outlook = world().host("a", sharings=()).datum().copy("a").machine("vm1").machine("vm2").outlook()
    assert (outlook.missing, outlook.open, outlook.reason) == (0, True, "2 machines wait for a host")


def test_removed_data_are_not_open_and_tell_what_keeps_them(world):
    w = world().host("a").datum(alive=False).copy("a").machine("vm", "a", M.RUNNING)
    outlook = w.outlook()
    assert (outlook.missing, outlook.open) == (0, False)
    assert outlook.reason == "a copy stays as long as a machine runs from it"


def test_a_search_among_hosts_that_were_promised_to_others_is_given_up_and_soon_taken_up_again(
    world, placed, monkeypatch
):
    monkeypatch.setattr(searching, "MOST_REFUSED", 3)
    w = world().hosts_named(" ".join(f"h{n}" for n in range(8)), quota=GB)
    for number in range(9):
        w.datum(f"disk{number}", priority=-number)
    planned = w.plan()
    assert len(placed(planned)) < 8
    waiting = [outlook for outlook in planned.outlooks.values() if outlook.missing]
    assert len(waiting) == 9 - len(placed(planned))
    assert all("promised to others in the same moment" in outlook.reason for outlook in waiting)
    assert {outlook.wake_at for outlook in waiting} == {w.now + w.settings.repair_pause}
    w.perform(planned).perform(w.plan())
    assert sum(row.state is P.ASSIGNED for row in w.copies.values()) == 8
    (left,) = [outlook for outlook in w.plan().outlooks.values() if outlook.missing]
    assert left.reason == "1 missing, no eligible host: 8 without room"


@pytest.mark.parametrize(
    "wishes",
    [
        {"replica": 3},
        {"replica": 3, "requires": "site = s1"},
        {"replica": 3, "spread": "site"},
        {"replica": 3, "distrib": 2},
        {"replica": 3, "requires": "site = nowhere"},
        {"replica": 3, "pin": "h7"},
        {"replica": 3, "size": 30 * GB},
    ],
)
def test_a_plan_looks_at_a_number_of_hosts_that_does_not_depend_on_how_many_there_are(world, wishes, monkeypatch):
    def looked_at(hosts):
        w = world()
        for number in range(hosts):
            w.host(f"h{number}", site=f"s{number % 5}")
        snapshot = w.datum(**wishes).snapshot()
        plan(snapshot, w.now)  # the index makes its pools on first use
        seen = []
        check = Requirement.check
        getter = type(snapshot.hosts).__getitem__
        with monkeypatch.context() as patched:
            patched.setattr(Requirement, "check", lambda self, host: seen.append(host) or check(self, host))
            patched.setattr(type(snapshot.hosts), "__getitem__", lambda self, h: seen.append(h) or getter(self, h))
            patched.setattr(type(snapshot.hosts), "__iter__", lambda _: pytest.fail("all hosts are looked at"))
            plan(snapshot, w.now)
        return len(seen)

    assert looked_at(1000) <= 1.5 * looked_at(100) + 16
