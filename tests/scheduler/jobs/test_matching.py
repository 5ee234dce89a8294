"""Which host a run is given to: by needs, room, inputs, turns; and nobody waits for ever."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bitdew.scheduler.jobs.matching import OVERDUE, HostOffer, Picture, Waiting, match, objection
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.host import HostFacts, Resources, Sharing
from bitdew.core.ids import HostId, Uid
from bitdew.core.job import ANYTHING, need

NOW = datetime(2026, 11, 27, tzinfo=UTC)
GB = 2**30


def host(name: str, *, cpus: int = 4, memory: int = 8 * GB, root: str = "6.40", **says: Any) -> HostOffer:
    facts = HostFacts(HostId(name), name, Resources(cpus=cpus, memory=memory), {}, (Sharing("root", root),))
    return replace(HostOffer(facts, frozenset({"root", "python3"}), cpus, memory), **says)


def job(name: str, owner: str = "anna", *, waits: timedelta = timedelta(), **says: Any) -> Waiting:
    since = NOW - waits
    return replace(
        Waiting(Uid(name), owner, 0, since, "root", (need("root>=6.30"),), cpus=1, memory=GB, missing=1, since=since),
        **says,
    )


def given_to(waiting: list[Waiting], *hosts: HostOffer, **picture: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in match(Picture(waiting, {h.facts.host_id: h for h in hosts}, **picture), NOW):
        found.setdefault(one.job, []).append(one.host)
    return found


def test_a_job_goes_only_where_its_needs_are_met() -> None:
    assert given_to([job("j")], host("old", root="6.28"), host("good")) == {"j": ["good"]}
    assert given_to([job("j")], host("old", root="6.28")) == {}
    assert "sharing" in objection(job("j"), host("old", root="6.28"))


def test_a_host_runs_only_programs_that_it_shares_unless_it_runs_any() -> None:
    assert given_to([job("j", program="sh")], host("native")) == {}
    assert objection(job("j", program="sh"), host("native")) == "it does not share the program sh"
    assert given_to([job("j", program="sh")], host("machine", programs=frozenset({ANYTHING}))) == {"j": ["machine"]}
    assert objection(job("j"), host("none", programs=frozenset())) == "it takes no jobs"


def test_a_job_goes_where_most_of_its_input_is() -> None:
    reading = job("j", inputs={Uid("big"): 100, Uid("small"): 1})
    held = {Uid("big"): {HostId("b")}, Uid("small"): {HostId("a"), HostId("c")}}
    assert given_to([reading], host("a"), host("b"), host("c"), held=held) == {"j": ["b"]}


def test_replicas_are_on_distinct_hosts_and_not_where_another_is() -> None:
    found = given_to([job("j", missing=3, taken=frozenset({HostId("a")}))], host("a"), host("b"), host("c"))
    assert sorted(found["j"]) == ["b", "c"]


def test_a_host_where_it_failed_is_the_last_choice() -> None:
    failed = job("j", failed=frozenset({HostId("big")}))
    assert given_to([failed], host("big", cpus=64), host("small", cpus=1)) == {"j": ["small"]}
    assert given_to([failed], host("big", cpus=64)) == {"j": ["big"]}


def test_processors_and_memory_are_not_given_twice() -> None:
    many = [job(f"j{n}") for n in range(10)]
    assert len(given_to(many, host("a", cpus=3))) == 3
    assert len(given_to(many, host("a", cpus=64, memory=2 * GB))) == 2
    assert given_to(many, host("a", refuses="it is being emptied")) == {}


def test_users_take_turns_however_many_jobs_they_have() -> None:
    many = [job(f"a{n}", "anna", waits=timedelta(minutes=1)) for n in range(50)]
    few = [job(f"b{n}", "bert") for n in range(2)]
    found = given_to(many + few, host("a"))
    assert {"b0", "b1"} < set(found)
    assert len(found) == 4
    # Whoever has less at work goes first.
    assert set(given_to(many + few, host("a", cpus=2), working={"anna": 3})) == {"b0", "b1"}
    # Of those who have the same, whoever was served longest ago.
    served = {"anna": NOW - timedelta(hours=1), "bert": NOW}
    assert set(given_to(many[:1] + few, host("a", cpus=1), served=served)) == {"a0"}


def test_priority_orders_the_jobs_of_one_user_only() -> None:
    urgent = job("urgent", priority=100)
    assert set(given_to([job("old", waits=timedelta(minutes=1)), urgent], host("a", cpus=1))) == {"urgent"}
    served = {"anna": NOW, "bert": NOW - timedelta(hours=1)}
    assert set(given_to([urgent, job("b", "bert")], host("a", cpus=1), served=served)) == {"b"}


def test_a_large_job_that_waited_too_long_gets_a_host_to_itself() -> None:
    large = job("large", "bert", cpus=4, waits=OVERDUE + timedelta(seconds=1))
    small = [job(f"s{n}") for n in range(9)]
    busy = host("a", cpus=4), host("b", cpus=4)
    half = [replace(one, cpus=2) for one in busy]
    found = given_to([large, *small], *half, working={"anna": 4})
    assert "large" not in found
    used = {one for hosts in found.values() for one in hosts}
    assert len(used) == 1  # the other is kept free
    kept = ({"a", "b"} - used).pop()
    freed = [replace(one, cpus=4) if one.facts.name == kept else one for one in half]
    assert given_to([large, *small], *freed, working={"anna": 4})["large"] == [kept]


def test_who_comes_first_is_not_held_up_by_what_another_reserves() -> None:
    large = [job(f"l{n}", "anna", cpus=4, waits=timedelta(hours=1)) for n in range(9)]
    busy = replace(host("a", cpus=4), cpus=1)
    assert set(given_to([*large, job("b", "bert")], busy, working={"anna": 3})) == {"b"}


def test_what_is_kept_for_a_large_job_is_kept_from_all_while_its_user_has_less_than_an_equal_share() -> None:
    large = [job(f"l{n}", "anna", cpus=4, waits=timedelta(hours=1)) for n in range(9)]
    draining = [replace(host(name, cpus=4), cpus=1) for name in "abcd"]
    light, working = [job(f"b{n}", "bert") for n in range(9)], {"anna": 4, "cleo": 8}
    found = given_to([*large, *light], *draining, working=working)
    assert len(found) == 4  # a share is five: with another job anna would have eight, and its host is open to bert
    assert set(found) < {one.uid for one in light}
    found = given_to([*large, *light], *draining, working={"cleo": 12})
    used = {one for hosts in found.values() for one in hosts}
    assert len(used) == 3  # one host is kept: with a second of her jobs anna would have more than her share
    wide = [replace(host(name, cpus=12, memory=99 * GB), cpus=1) for name in "abcd"]
    found = given_to([*large, *light], *wide, working={"cleo": 40})
    assert {one for hosts in found.values() for one in hosts} == set()  # a share is sixteen: all four are kept


JOBS = st.lists(
    st.builds(
        lambda number, owner, cpus, missing, priority, waits, failed: job(
            f"j{number}",
            owner,
            cpus=cpus,
            missing=missing,
            priority=priority,
            waits=timedelta(minutes=waits),
            failed=frozenset(HostId(f"h{h}") for h in failed),
        ),
        st.integers(0, 10**6),
        st.sampled_from(["anna", "bert", "cleo"]),
        st.integers(1, 4),
        st.integers(1, 3),
        st.integers(-2, 2),
        st.integers(0, 20),
        st.sets(st.integers(0, 4)),
    ),
    max_size=30,
    unique_by=lambda one: one.uid,
)
HOSTS = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), max_size=6)


@given(JOBS, HOSTS, st.randoms(use_true_random=False))
def test_whatever_the_facts_no_room_is_given_twice_and_their_order_does_not_matter(
    waiting: list[Waiting], hosts: list[tuple[int, bool, bool]], chance: random.Random
) -> None:
    offers = [
        replace(
            host(f"h{number}", cpus=8, root="6.40" if able else "6.0"), cpus=cpus, refuses="" if takes else "it rests"
        )
        for number, (cpus, able, takes) in enumerate(hosts)
    ]
    by_name = {one.facts.host_id: one for one in offers}
    found = match(Picture(waiting, by_name), NOW)
    by_job = {one.uid: one for one in waiting}
    for name, offer in by_name.items():
        here = [by_job[one.job] for one in found if one.host == name]
        assert sum(one.cpus for one in here) <= offer.cpus
        assert all(not objection(replace(one, cpus=0, memory=0), offer) for one in here)
    for one in waiting:
        places = [a.host for a in found if a.job == one.uid]
        assert len(places) == len(set(places)) <= one.missing
    shuffled, order = list(waiting), list(by_name)
    chance.shuffle(shuffled)
    chance.shuffle(order)
    assert match(Picture(shuffled, {name: by_name[name] for name in order}), NOW) == found


@given(st.data())
def test_no_job_that_some_host_could_run_waits_for_ever(data: st.DataObject) -> None:
    """Small jobs come without end and fill every gap; one that needs a whole host still gets its turn."""
    hosts = {HostId(f"h{n}"): 4 for n in range(data.draw(st.integers(1, 3)))}
    running: list[tuple[datetime, HostId, int, str]] = []
    now, served, serial = NOW, dict[str, datetime](), 0
    large = job("large", "bert", cpus=4)
    stream: list[Waiting] = []
    for _ in range(120):
        now += timedelta(seconds=30)
        running = [one for one in running if one[0] > now]
        while len(stream) < 20:
            serial += 1
            stream.append(job(f"s{serial}", data.draw(st.sampled_from(["anna", "cleo"])), created=now, since=now))
        offers = {
            name: host(name, cpus=4, memory=64 * GB).__class__(
                host(name, cpus=4, memory=64 * GB).facts,
                frozenset({"root"}),
                cpus - sum(took for _, where, took, _ in running if where == name),
                64 * GB,
            )
            for name, cpus in hosts.items()
        }
        working: dict[str, int] = {}
        for _, _, took, owner in running:
            working[owner] = working.get(owner, 0) + took
        waiting = [large, *stream]
        for one in match(Picture(waiting, offers, working=working, served=served), now):
            if one.job == "large":
                return
            began = next(w for w in stream if w.uid == one.job)
            stream.remove(began)
            seconds = data.draw(st.integers(10, 300))
            running.append((now + timedelta(seconds=seconds), one.host, began.cpus, began.owner))
            served[began.owner] = now
    raise AssertionError("the large job never began")
