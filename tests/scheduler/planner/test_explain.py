"""What `explain` says, and that it says what `plan` does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from bitdew.scheduler.planner import explain as explain_planner

from bitdew.core.errors import UserError
from bitdew.core.states import HostState, MachineState, PlacementState

P, M = PlacementState, MachineState
GB = 1024**3


@pytest.fixture(scope="module")
def explain():
    return lambda w, uid="disk": explain_planner(w.snapshot(), uid, w.now)


def standing(explanation, host):
    return next((j.verdict, j.reason) for j in explanation.hosts if j.name == host)


def test_the_figures_are_those_of_the_plan(world, explain):
    w = world().hosts_named("a b c d e").datum(replica=4).copy("a").copy("b", P.FETCHING, since=world.NOW, done=GB // 2)
    told = explain(w)
    assert (told.wanted, told.held, told.intended, told.missing) == (4, 1, 1, 2)
    assert told.summary == "replica=4: 1 held, 1 on its way, 2 missing"
    assert standing(told, "a") == ("holds", "verified at 2026-02-28 12:00:00 UTC")
    assert standing(told, "b") == (
        "intended",
        "fetching, 512.0 MB arrived, its lease runs until 2026-03-01 12:02:00 UTC",
    )
    chosen = {j.host_id: j.reason for j in told.hosts if j.verdict == "chosen"}
    assert chosen == {a.host_id: a.cause for a in w.plan().actions}
    assert sum(j.verdict == "eligible" for j in told.hosts) == 1
    assert [line.split(":")[0] for line in told.next] == [
        *(f"place on {a.host_id}" for a in w.plan().actions),
        "at 2026-03-01 12",
    ]


def test_everywhere_is_told_in_hosts(world, explain):
    told = explain(world().hosts_named("a b c").datum(replica=-1).copy("a"))
    assert (told.wanted, told.held, told.missing) == (3, 1, 2)
    assert told.summary.startswith("replica=everywhere")


def test_each_refusal_has_its_reason(world, explain):
    w = world().datum(size=4 * GB, requires="sharing = qemu").host("away", HostState.SUSPECT)
    w.host("none", sharings=()).host("other", sharings=("root",)).host("tight", quota=10 * GB, committed=9 * GB)
    w.host("small", free=GB).host("failing").host("dropping").host("stalled")
    w.copy("failing", P.FAILED, failures=2, reason="storage.full", retry_at=w.now + timedelta(seconds=20))
    w.copy("dropping", P.DROPPING).copy("stalled", P.FETCHING, since=w.now - timedelta(minutes=2))
    told = explain(w)
    assert {j.verdict for j in told.hosts} == {"refused"}
    assert {j.name: j.reason for j in told.hosts} == {
        "away": "it is suspect since 2026-02-28 12:00:00 UTC",
        "dropping": "it is dropping its copy since 2026-02-28 12:00:00 UTC",
        "failing": "it failed 2 times (storage.full), next try at 2026-03-01 12:00:20 UTC",
        "none": "it has no sharing, wanted sharing = qemu",
        "other": "its sharing is root, wanted sharing = qemu",
        "small": "its file system has 1008.0 MB to spare, 4.0 GB needed",
        "stalled": "fetching without progress: its lease ran out at 2026-03-01 12:00:00 UTC",
        "tight": "its quota has 1.0 GB left, 4.0 GB needed",
    }
    assert told.next == (
        (
            "1 missing, no eligible host: 1 not alive, 2 that do not match, 2 without room, "
            "3 that have a copy, failed lately or were promised other data; a host that becomes eligible is chosen"
        ),
        "at 2026-03-01 12:00:20 UTC: failing may be tried again",
    )


def test_data_that_nobody_can_deliver_are_said_to_be_so(world, explain):
    told = explain(world().host("a").datum(damaged=True))
    assert standing(told, "a")[0] == "refused"
    assert "the repository's copy is damaged" in standing(told, "a")[1]
    assert told.next == (
        "nothing can be fetched until the original is added again or a host that holds a copy returns",
    )


def test_a_lost_copy_is_shown_as_held_and_whether_it_counts(world, explain):
    w = (
        world()
        .host("b", HostState.SUSPECT)
        .host("a", HostState.LOST, since=world.NOW)
        .datum(fault_tolerance=True)
        .copy("a")
    )
    told = explain(w)
    assert standing(told, "a")[1].endswith("; the host is lost since 2026-03-01 12:00:00 UTC")
    assert told.next == ("at 2026-03-01 12:05:00 UTC: the copy on a, which is lost, stops counting",)
    told = explain(w.pass_time(minutes=5))
    assert standing(told, "a")[1].endswith(", so it no longer counts")
    assert (told.held, told.missing) == (0, 1)


def test_a_copy_that_is_to_go_is_said_to_be_so(world, explain):
    w = world().host("a", committed=15 * GB).host("b").datum().copy("a").copy("b")
    verdict, reason = standing(explain(w), "a")
    assert verdict == "holds"
    assert reason.startswith("to be dropped: replica=1: 2 held")
    assert explain(w.datum(alive=False)).summary == "it was removed: every copy is dropped"


def test_competing_data_are_part_of_the_explanation(world, explain):
    w = world().host("a", quota=GB).datum("urgent", priority=5).datum("disk")
    assert standing(explain(w, "urgent"), "a")[0] == "chosen"
    assert standing(explain(w, "disk"), "a")[0] != "chosen"


def test_each_machine_is_told_where_it_is_or_why_nowhere(world, explain):
    w = world().host("a", memory=2 * GB).host("b", sharings=()).datum(replica=2).copy("a").copy("b")
    w.machine("big", memory=3 * GB).machine("fits").machine("runs", "a", M.RUNNING).machine("over", "a", M.STOPPED)
    w.machine("unwanted", stop_wanted=True)
    told = {m.machine_uid: (m.host_id, m.reason) for m in explain(w).machines}
    assert told["big"] == (None, "a: its memory has 1.0 GB left, 3.0 GB needed; b: it shares no hypervisor")
    assert told["fits"][0] == "a"
    assert told["runs"] == ("a", "running")
    assert told["unwanted"] == (None, "its user asked it to stop before it had a host")
    assert "over" not in told
    w.copies.clear()
    assert explain(w).machines[0].reason == "no living host holds a verified copy of its disk yet"


def test_what_is_not_there_can_not_be_explained(world, explain):
    with pytest.raises(UserError, match=r"\[data\.not-found\]"):
        explain(world().host("a"))


def test_a_displaced_copy_is_told_to_be_one_and_why(world, explain):
    w = world().host("o1", site="orsay").host("l1", site="lyon").datum(requires="site = lyon").copy("o1")
    told = explain(w)
    assert (told.held, told.displaced, told.missing) == (0, 1, 1)
    assert standing(told, "o1") == (
        "displaced",
        (
            "verified at 2026-02-28 12:00:00 UTC, but it may not stay: "
            "it no longer matches: its site is orsay, wanted site = lyon"
        ),
    )
    assert told.summary == "replica=1: 0 held, 0 on its way, 1 displaced, 1 missing"


def test_each_wish_is_told_with_what_it_comes_to(world, explain):
    w = (
        world()
        .hosts_named("a b", site="orsay")
        .host("c")
        .datum("target")
        .copy("a", uid="target")
        .copy("b", uid="target")
    )
    w.datum(
        replica=3,
        fault_tolerance=True,
        ends=w.now + timedelta(days=1),
        lifetime_of="target",
        affinity="target",
        requires="site = orsay",
        spread="site",
        protocol="http",
        distrib=4,
        pin=["a", "f" * 32],
        priority=7,
    )
    assert explain(w).effects == (
        "replica: 3 verified copies on distinct hosts",
        "ft: copies on hosts that are lost stop counting after 0:05:00, and are made again",
        "lifetime: it ends at 2026-03-02 12:00:00 UTC and it ends with target",
        "affinity: copies only where target is held (2 hosts)",
        "requires: only hosts with site = orsay",
        "spread: each copy on another site while there are hosts for that (now: no copies)",
        "protocol: copies move by http",
        "distrib: at most 4 data of this attribute on one host",
        f"pin: a copy stays on a, {'f' * 32}, whatever the other wishes say",
        "priority: 7; what is missing is served before that of data with less",
    )


def test_the_reach_of_an_affinity_is_told(world, explain):
    w = world().hosts_named("a b").datum("target").copy("a", uid="target").datum(affinity="target")
    told = explain(w)
    assert told.effects[0] == "replica: every host that holds its target is to hold a copy"
    assert (told.wanted, told.missing) == (1, 1)
    assert standing(told, "b") == ("refused", "target, the target of its affinity, is not held there")
    w.wish(replica=3)
    assert explain(w).effects[0] == "replica: 3 verified copies on distinct hosts, but its target is held on 1 only"
    told = explain(w.copy("a", P.GONE, uid="target").datum(affinity="target"))
    assert told.effects == (
        "replica: wherever its target is held",
        "affinity: target, the target of its affinity, is held nowhere, so that copies stay where they are",
    )


def test_the_end_of_a_life_is_told_before_and_when_it_comes(world, explain):
    w = world().host("a").datum(ends=world.NOW + timedelta(seconds=5)).copy("a")
    assert explain(w).lifetime == "it ends at 2026-03-01 12:00:05 UTC"
    assert explain(w).next == ("at 2026-03-01 12:00:05 UTC: its lifetime ends",)
    told = explain(w.pass_time(seconds=5))
    assert told.lifetime == "its lifetime ended at 2026-03-01 12:00:05 UTC"
    assert told.next == ("end its life: disk ends: its lifetime ended at 2026-03-01 12:00:05 UTC",)
    assert explain(w.perform(w.plan())).summary == (
        "its lifetime ended at 2026-03-01 12:00:05 UTC: every copy is dropped"
    )


def test_a_datum_whose_bytes_have_not_come_is_said_to_wait_for_them(world, explain):
    told = explain(world().host("a").datum(awaited=True))
    assert told.next == ("it is placed as soon as its bytes have come",)
    assert "its bytes have not come yet" in standing(told, "a")[1]


def test_a_pinned_host_is_told_to_be_one(world, explain):
    told = explain(world().hosts_named("a b").datum(pin="a"))
    assert standing(told, "a")[0] == "chosen"
    assert standing(told, "a")[1].startswith("the datum is pinned to this host")
