"""A volunteer's cap on what comes in is one cap, however it comes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from bitdew.worker import bandwidth
from bitdew.worker.bandwidth import Bandwidth
from bitdew.worker.caps import DataCaps
from bitdew.worker.pacing import Throttle
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdew.client.flow import LOWEST, is_held, parts, passing, released
from bitdew.clock import SystemClock
from bitdew.core.errors import error
from bitdew.swarm.progress import Usage
from bitdew.swarm.settings import SwarmLimits, TransferLimits


class StillClock:
    """Time passes by sleeping alone."""

    def __init__(self):
        self.at = 0.0

    def monotonic(self):
        return self.at

    async def sleep(self, seconds):
        self.at += max(0.0, seconds)
        await asyncio.sleep(0)


class PretendedTransfer:
    """Remembers its own limits."""

    def __init__(self, root, fetching):
        self.metainfo = SimpleNamespace(content=SimpleNamespace(root=root))
        self.fetching = fetching
        self.usage = Usage()
        self.limits = TransferLimits()

    def set_limits(self, limits):
        self.limits = limits


class PretendedSwarm:
    """Remembers its limits; `fetching` says whether one of its transfers is."""

    def __init__(self):
        self.limits = SwarmLimits()
        self.other = PretendedTransfer("other", fetching=False)
        self.transfers = {"seed": PretendedTransfer("seed", fetching=False), "other": self.other}
        self.closed = False

    def rest(self, resting):
        self.resting = resting

    def set_limits(self, limits):
        if self.closed:
            raise error("swarm.failed", "The swarm is closed")
        self.limits = limits


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def swarm():
    return PretendedSwarm()


async def test_without_a_cap_nothing_waits_and_the_swarm_is_left_alone(swarm, clock):
    free = Bandwidth(SwarmLimits(upload=7), swarm, clock)
    async with free.coming("new"):
        await free.take(10**9, "new")
        assert swarm.limits == SwarmLimits()
    assert clock.at == 0


async def test_http_has_the_whole_cap_while_no_swarm_fetches(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1000), swarm, clock)
    async with capped.coming("new"):
        for _ in range(10):
            await capped.take(500, "new")
    assert clock.at == pytest.approx(5)


async def test_http_and_swarms_share_the_cap_while_both_fetch(swarm, clock):
    capped = Bandwidth(SwarmLimits(upload=5, download=1001), swarm, clock)
    swarm.other.fetching = True
    async with capped.coming("new"):
        assert swarm.limits == SwarmLimits(upload=5, download=500)
        await capped.take(5000, "new")
        assert clock.at == pytest.approx(10)
        async with capped.coming("newer"):
            assert swarm.limits.download == 500
        assert swarm.limits.download == 500
    assert swarm.limits == SwarmLimits(upload=5, download=1001)


async def test_the_smallest_cap_never_becomes_none(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1), swarm, clock)
    async with capped.coming("new"):
        assert swarm.limits.download == 1  # 0 would be no limit


async def test_a_quiet_time_is_not_saved_up(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1000), swarm, clock)
    await clock.sleep(60)
    async with capped.coming("new"):
        await capped.take(1000, "new")
        await capped.take(1000, "new")
    assert clock.at == pytest.approx(62)


async def test_a_closed_swarm_ends_no_turn_badly(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1000), swarm, clock)
    async with capped.coming("new"):
        swarm.closed = True


# Caps that change -----------------------------------------------------------------------------------------------------


async def test_a_lower_cap_holds_for_what_comes_from_then_on(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1000), swarm, clock)
    async with capped.coming("new"):
        await capped.take(1000, "new")
        capped.change(SwarmLimits(download=100), {})
        assert swarm.limits.download == 50
        await capped.take(1000, "new")
    assert clock.at == pytest.approx(11)
    assert swarm.limits.download == 100


async def test_whoever_waits_hears_of_a_higher_cap_at_once(swarm):
    clock = SystemClock()
    capped = Bandwidth(SwarmLimits(download=1), swarm, clock)
    async with capped.coming("new"):
        waiting = asyncio.create_task(capped.take(10**9, "new"))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        capped.change(SwarmLimits(), {})
        async with asyncio.timeout(5):
            await waiting
    assert swarm.limits == SwarmLimits()


async def test_a_cap_that_was_taken_away_stays_away_when_a_download_ends(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1000), swarm, clock)
    async with capped.coming("new"):
        capped.change(SwarmLimits(upload=3), {})
    assert swarm.limits == SwarmLimits(upload=3)


# One datum ------------------------------------------------------------------------------------------------------------


async def test_a_datums_own_cap_binds_it_alone_and_costs_nothing_on_top(swarm, clock):
    capped = Bandwidth(SwarmLimits(download=1000), swarm, clock, {"root-disk": TransferLimits(download=1000)})
    capped.want("new", "1" * 32, "root-disk")
    capped.want("newer", "2" * 32, "other-disk")
    async with capped.coming("new"), capped.coming("newer"):
        await capped.take(3000, "new")
        assert clock.at == pytest.approx(3)  # both caps at the same time, not one after the other
        capped.change(SwarmLimits(download=0), {"root-disk": TransferLimits(download=100)})
        await capped.take(10**9, "newer")
        assert clock.at == pytest.approx(3)
        await capped.take(100, "new")
        assert clock.at == pytest.approx(4)


async def test_the_caps_of_a_datum_reach_its_transfer_at_once_and_leave_it_again(swarm, clock):
    free = Bandwidth(SwarmLimits(), swarm, clock)
    own = TransferLimits(upload=1, download=2, connections=3)
    free.want("other", "1" * 32, "disk")
    free.change(SwarmLimits(), {"disk": own})
    assert swarm.other.limits == free.of("other") == own
    assert swarm.transfers["seed"].limits == TransferLimits()
    free.want("other", "2" * 32, "same-bytes")
    free.change(SwarmLimits(), {"disk": own, "same-bytes": TransferLimits(upload=9, connections=1)})
    assert swarm.other.limits == TransferLimits(upload=1, download=2, connections=1)
    free.release("other", "2" * 32)
    assert swarm.other.limits == own
    free.change(SwarmLimits(), {})
    assert swarm.other.limits == TransferLimits()


async def test_a_content_that_comes_both_ways_shares_its_own_cap(swarm, clock):
    capped = Bandwidth(SwarmLimits(), swarm, clock, {"disk": TransferLimits(download=1000)})
    swarm.other.fetching = True
    capped.want("other", "1" * 32, "disk")
    assert swarm.other.limits.download == 1000
    async with capped.coming("other"):
        assert swarm.other.limits.download == 500
        await capped.take(500, "other")
        assert clock.at == pytest.approx(1)
    assert swarm.other.limits.download == 1000


async def test_what_comes_is_measured(swarm, clock):
    free = Bandwidth(SwarmLimits(), swarm, clock)
    async with free.coming("new"):
        await free.take(3000, "new")
        assert free.rates_by_http() == {"new": 0}  # nothing is known of the first second
        await clock.sleep(1.5)
        assert free.rates_by_http() == {"new": 2000}
        await clock.sleep(3)
        assert free.rates_by_http() == {"new": 0}
    assert free.rates_by_http() == {}


@settings(max_examples=50)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.integers(1, 5000)),
            st.tuples(st.just("rate"), st.sampled_from([0, 10, 1000, 10**6])),
            st.tuples(st.just("wait"), st.integers(0, 20)),
        ),
        max_size=30,
    )
)
def test_no_order_of_bytes_and_changes_gets_more_than_the_rates_allowed(steps):
    async def play():
        clock = StillClock()
        pace = Throttle(100, clock)
        allowed, came = 0.0, 0
        for what, figure in steps:
            before = clock.at
            if what == "take":
                came += figure
                await pace.paid(pace.owe(figure))
                allowed = came if not pace.rate else allowed + (clock.at - before) * pace.rate
                assert came <= allowed + 1
                allowed = came
            elif what == "rate":
                pace.change(figure)
            else:
                await clock.sleep(figure)

    asyncio.run(play())


# Which caps count -----------------------------------------------------------------------------------------------------

CAP = st.sampled_from([0, 1, 5, 10**9])
LIMITS = st.builds(TransferLimits, upload=CAP, download=CAP, connections=CAP)
KEYS = ["disk", "tools", "1" * 32, "2" * 32]


@given(
    caps=st.dictionaries(st.sampled_from(KEYS), LIMITS),
    wanted=st.sets(st.sampled_from([("1" * 32, "disk"), ("2" * 32, "tools"), ("3" * 32, "disk")])),
)
def test_a_content_is_under_the_tightest_caps_of_the_data_that_want_it(caps, wanted):
    data = DataCaps({})
    for uid, name in wanted:
        data.want("root", uid, name)
    told = data.replace(caps)
    named = [caps[key] for key in {key for pair in wanted for key in pair} if key in caps]
    for side in ("upload", "download", "connections"):
        assert getattr(data.of("root"), side) == min((c for one in named if (c := getattr(one, side))), default=0)
    assert told == (["root"] if data.of("root") != TransferLimits() else [])
    for uid, _ in wanted:
        data.release("root", uid)
    assert data.of("root") == TransferLimits()


# What goes out over HTTP: the results of jobs


def rate_of_results(capped):
    return capped._outlet.rate


async def test_results_have_the_whole_cap_while_no_swarm_sends_and_half_of_it_otherwise(swarm, clock):
    capped = Bandwidth(SwarmLimits(upload=10_001, download=7), swarm, clock)
    assert swarm.limits == SwarmLimits()
    with capped.sending():
        assert rate_of_results(capped) == 10_001
        assert swarm.limits == SwarmLimits(upload=5000, download=7)
        swarm.other.usage = Usage(upload=1)
        await clock.sleep(bandwidth.LOOK_SECONDS)
        await passing(0)
        assert rate_of_results(capped) == 5000
    assert swarm.limits == SwarmLimits(upload=10_001, download=7)


async def test_a_cap_on_results_is_changed_while_they_are_sent(swarm, clock):
    capped = Bandwidth(SwarmLimits(), swarm, clock)
    with capped.sending():
        assert parts(bytes(10**6)) == [bytes(10**6)]
        capped.change(SwarmLimits(upload=1024), {})
        sending = asyncio.create_task(passing(10**9))  # 11 days
        await asyncio.sleep(0)
        assert len(parts(bytes(10**6))) > 1
        assert not sending.done()
        capped.change(SwarmLimits(), {})
        async with asyncio.timeout(10):
            await sending


async def test_results_keep_the_cap_of_an_owner_who_is_at_work_and_stand_still_where_he_says_so(swarm, clock):
    capped = Bandwidth(SwarmLimits(upload=10_000), swarm, clock)
    with capped.sending():
        capped.restrict(bandwidth.Restriction(upload=2000))
        assert rate_of_results(capped) == 2000
        capped.restrict(bandwidth.Restriction(stopped=True))
        assert is_held()
        going_on = asyncio.create_task(released())
        await asyncio.sleep(0)
        assert not going_on.done()
        capped.restrict(bandwidth.Restriction())
        await going_on
        assert rate_of_results(capped) == 10_000


async def test_what_else_is_sent_does_not_pass_the_cap_on_results(swarm, clock):
    capped = Bandwidth(SwarmLimits(upload=1), swarm, clock)
    with capped.sending():
        assert rate_of_results(capped) == LOWEST
    async with asyncio.timeout(10):
        await passing(10**9)
