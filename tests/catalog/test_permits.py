"""Permits to take content over HTTPS: few at a time, in turns, and never for longer than they are used."""

from __future__ import annotations

from bitdew.catalog.permits import AT_ONCE, LEASE_SECONDS, RETRY_SECONDS, TURN_SECONDS, Permits
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.ids import ContentRoot, HostId

ROOT, OTHER = ContentRoot("a" * 64), ContentRoot("b" * 64)
HOSTS = [HostId(f"{number:032x}") for number in range(6)]


class Hand:
    def __init__(self):
        self.time = 0.0

    def monotonic(self):
        return self.time


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "prolong"]), st.sampled_from(HOSTS), st.floats(0, 2 * LEASE_SECONDS)), max_size=80
)


@given(STEPS, st.integers(1, 3))
def test_there_are_never_more_than_so_many_at_once_and_only_they_may_go_on(steps, most):
    clock = Hand()
    permits = Permits(clock, most)
    for what, host, pause in steps:
        clock.time += pause
        before = permits.holders(ROOT)
        if what == "ask":
            granted = not permits.ask(ROOT, host)
            assert granted == (host in permits.holders(ROOT))
        else:
            assert permits.prolong(ROOT, host) == (host in before)
        assert len(permits.holders(ROOT)) <= most


@given(st.integers(1, 3), st.lists(st.sampled_from(HOSTS), min_size=1, max_size=60))
def test_everyone_who_keeps_asking_gets_a_turn(most, extra):
    clock = Hand()
    permits, served = Permits(clock, most), set()
    for number in range(int(len(HOSTS) * (TURN_SECONDS / RETRY_SECONDS + 3))):
        clock.time += RETRY_SECONDS
        for host in [*HOSTS, extra[number % len(extra)]]:
            if not permits.ask(ROOT, host):
                served.add(host)
                permits.prolong(ROOT, host)
    assert served == set(HOSTS)


def test_a_permit_ends_when_nothing_is_taken_with_it():
    clock = Hand()
    permits = Permits(clock, 1)
    assert permits.ask(ROOT, HOSTS[0]) == 0
    assert permits.ask(ROOT, HOSTS[1]) == RETRY_SECONDS
    clock.time += LEASE_SECONDS - 1
    assert permits.prolong(ROOT, HOSTS[0])
    clock.time += LEASE_SECONDS - 1
    assert permits.ask(ROOT, HOSTS[1]) > 0
    clock.time += 1
    assert not permits.prolong(ROOT, HOSTS[0])
    assert permits.ask(ROOT, HOSTS[1]) == 0


def test_the_first_who_waits_is_the_next_and_who_stopped_waiting_holds_up_nobody():
    clock = Hand()
    permits = Permits(clock, 1)
    assert [permits.ask(ROOT, host) > 0 for host in HOSTS[:3]] == [False, True, True]
    clock.time += LEASE_SECONDS
    assert permits.ask(ROOT, HOSTS[2]) > 0  # the other came first
    assert permits.ask(ROOT, HOSTS[1]) == 0
    for _ in range(4):
        clock.time += RETRY_SECONDS
        permits.ask(ROOT, HOSTS[2])
    assert permits.holders(ROOT) == {HOSTS[2]}


def test_a_holder_keeps_its_permit_as_long_as_nobody_waits():
    clock = Hand()
    permits = Permits(clock, 1)
    for _ in range(int(3 * TURN_SECONDS)):
        assert permits.ask(ROOT, HOSTS[0]) == 0
        clock.time += 1
    assert permits.ask(ROOT, HOSTS[1]) > 0
    assert permits.ask(ROOT, HOSTS[0]) > 0
    assert permits.ask(ROOT, HOSTS[1]) == 0


def test_contents_have_permits_of_their_own():
    permits = Permits(Hand(), 1)
    assert permits.ask(ROOT, HOSTS[0]) == permits.ask(OTHER, HOSTS[1]) == 0
    assert permits.ask(ROOT, HOSTS[1]) > 0


def test_of_fifty_hosts_whose_swarm_is_dead_two_take_at_a_time_and_in_the_end_all_have_taken():
    clock = Hand()
    permits = Permits(clock)
    left = {HostId(f"{number:032x}"): 40 for number in range(50)}  # seconds that each has to take bytes for
    due, most, rounds = dict.fromkeys(left, 0.0), 0, 0
    while left:
        rounds += 1
        assert rounds < 10_000
        for host in list(left):
            if due[host] > clock.time:
                continue
            pause = permits.ask(ROOT, host)
            due[host] = clock.time + (pause or 1.0)
            if not pause and permits.prolong(ROOT, host):
                left[host] -= 1
                if not left[host]:
                    del left[host]
        most = max(most, len(permits.holders(ROOT)))
        clock.time += 1.0
    assert most == AT_ONCE
    assert rounds >= 50 * 40 / AT_ONCE
