"""What the scheduler stores, on each kind of database: records come back as they were, sums are those of the rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bitdew.catalog.attribute_store import AttributeRecord
from bitdew.catalog.data_store import DataStore, Datum
from bitdew.catalog.database import Database
from bitdew.scheduler.progress import Step
from bitdew.scheduler.records import DeploymentRecord, HostRecord, MachineRecord, OrderRecord, PlacementRecord, Totals
from bitdew.scheduler.store import SchedulerStore
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from bitdew.core.attribute import Attribute
from bitdew.core.data import Data
from bitdew.core.draining import Drain
from bitdew.core.ids import ContentRoot, HostId, Uid, new_uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import INTENDED, HostState, MachineState, PlacementState
from bitdew.wire import limits
from bitdew.wire.models import ConsoleChunk, HostReport

NOW = datetime(2026, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
P = PlacementState
TAKEN = INTENDED | {P.HELD}
PC1, PC2, PC3 = (HostId(digit * 32) for digit in "123")


@pytest.fixture
def store(database: Database) -> SchedulerStore:
    return SchedulerStore(database)


@pytest.fixture
def data(database: Database) -> DataStore:
    return DataStore(database)


@pytest.fixture
async def hosts(store: SchedulerStore) -> list[HostId]:
    await store.save_hosts([host(PC1, "pc1"), host(PC2, "pc2"), host(PC3, "pc3")])
    return [PC1, PC2, PC3]


def host(uid: HostId, name: str, **known: Any) -> HostRecord:
    report = HostReport.model_validate(
        {"name": name, "swarm": "127.0.0.1:9", "cpus": 4, "memory": 8, "quota": 9, "used": 0, "free": 9}
    )
    return replace(HostRecord(uid, name, HostState.ALIVE, NOW, NOW, report, 0), **known)


def placement(data: Uid, at: HostId, state: PlacementState = P.HELD, **known: Any) -> PlacementRecord:
    plain = PlacementRecord(data, at, state, NOW, NOW, 1, None, None, 0, None, "it was asked for", 0, None, 0, 0)
    return replace(plain, **known)


async def attribute(data: DataStore, name: str) -> AttributeRecord:
    return await data.attributes.add(
        AttributeRecord(new_uid(), name, Attribute(), None, None, None, (), "ada", NOW, NOW)
    )


async def add(
    data: DataStore, attribute: AttributeRecord, count: int = 1, created: datetime = NOW, **known: Any
) -> list[Uid]:
    """So many new data of 2**40 bytes each, by uid."""
    uids = sorted(new_uid() for _ in range(count))
    await data.add_all(
        [
            Datum(Data(uid, uid, ContentRoot("1" * 64), 2**40, 65536, created, "ada"), "3" * 64, attribute, **known)
            for uid in uids
        ]
    )
    return uids


async def placed(store: SchedulerStore, *placements: PlacementRecord) -> None:
    await store.record(now=NOW, placements=placements)


# Hosts ----------------------------------------------------------------------------------------------------------------


async def test_hosts_come_back_as_they_were_by_name(store: SchedulerStore) -> None:
    records = [host(PC1, "b"), host(PC2, "c", state=HostState.LOST, state_since=LATER), host(PC3, "a", generation=9)]
    await store.save_hosts(records)
    assert await store.hosts() == sorted(records, key=lambda record: record.name)
    assert await store.hosts([PC2, HostId("9" * 32)]) == [records[1]]
    assert await store.hosts([]) == []
    await store.save_hosts([])


async def test_a_hosts_generation_is_never_lowered(store: SchedulerStore) -> None:
    await store.save_host(host(PC1, "pc", generation=7))
    await store.save_host(host(PC1, "renamed", generation=3))
    (found,) = await store.hosts()
    assert (found.name, found.generation) == ("renamed", 7)
    await store.record(now=NOW, orders=[order(PC1, 5)])
    assert (await store.hosts())[0].generation == 7
    await store.record(now=NOW, orders=[order(PC1, 9), order(PC1, 8)])
    assert (await store.hosts())[0].generation == 9


async def test_a_ban_stays_whatever_is_stored_by_who_has_not_heard_of_it(store: SchedulerStore) -> None:
    await store.save_host(host(PC1, "pc", state=HostState.BANNED))
    await store.record(now=NOW, hosts=[host(PC1, "renamed")])
    await store.save_states({PC1: HostState.LOST}, LATER)
    (found,) = await store.hosts()
    assert (found.name, found.state) == ("renamed", HostState.BANNED)


async def test_a_drain_stays_and_is_taken_back_whatever_is_stored_by_who_has_not_heard_of_it(
    store: SchedulerStore,
) -> None:
    await store.save_hosts([host(PC1, "one"), host(PC2, "two")])
    await store.save_drain(host(PC1, "one", state=HostState.DRAINED, drain=Drain.STOP))
    await store.record(now=NOW, hosts=[host(PC1, "renamed"), host(PC2, "two")])
    first, second = await store.hosts()
    assert (first.name, first.state, first.drain) == ("renamed", HostState.DRAINED, Drain.STOP)
    assert (second.state, second.drain) == (HostState.ALIVE, None)
    await store.record(now=NOW, hosts=[host(PC1, "one", state=HostState.LOST)])
    assert (await store.hosts())[0].state is HostState.LOST
    await store.save_drain(host(PC1, "one", state=HostState.LOST))
    await store.record(now=NOW, hosts=[host(PC1, "one", state=HostState.DRAINED, drain=Drain.STOP)])
    assert [(one.state, one.drain) for one in await store.hosts([PC1])] == [(HostState.ALIVE, None)]


async def test_states_that_may_not_be_stored_are_not(store: SchedulerStore, hosts: list[HostId]) -> None:
    async def refuse(_session: AsyncSession) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await store.save_states({PC1: HostState.LOST}, LATER, refuse)
    assert {record.state for record in await store.hosts()} == {HostState.ALIVE}


async def test_progress_prolongs_the_lease_of_a_copy_on_its_way_by_the_same_order(
    store: SchedulerStore, data: DataStore, hosts: list[HostId]
) -> None:
    coming, later, here, again = await add(data, await attribute(data, "a"), 4)
    await placed(
        store,
        placement(coming, PC1, P.FETCHING, lease_until=NOW, generation=3),
        placement(later, PC1, P.FETCHING, lease_until=LATER + timedelta(hours=1)),
        placement(here, PC1, P.HELD),
        placement(again, PC1, P.ASSIGNED, lease_until=NOW, generation=4),
    )
    step = Step(done=7, from_repository=5, from_peers=2, corrupt=0, lease_until=LATER, generation=3)
    unknown = Uid("0" * 32)
    await store.save_steps({(uid, PC1): step for uid in (coming, later, here, again, unknown)})
    await store.save_steps({})
    found = await store.placements_on(PC1)
    assert found[coming] == placement(
        coming, PC1, P.FETCHING, lease_until=LATER, generation=3, done=7, from_repository=5, from_peers=2
    )
    assert {uid: found[uid].done for uid in (later, here, again)} == {later: 0, here: 0, again: 0}
    assert (found[later].lease_until, found[again].lease_until) == (LATER + timedelta(hours=1), NOW)
    assert unknown not in found


async def test_states_and_times_are_stored_in_bulk(store: SchedulerStore, hosts: list[HostId]) -> None:
    await store.save_states({PC3: HostState.LOST, PC1: HostState.SUSPECT}, LATER)
    await store.save_heard({PC3: LATER, PC2: LATER + timedelta(seconds=5)})
    await store.save_heard({PC2: NOW, PC1: NOW})  # what was heard before is no news
    found = {record.host: (record.state, record.state_since, record.last_seen) for record in await store.hosts()}
    assert found == {
        PC1: (HostState.SUSPECT, LATER, NOW),
        PC2: (HostState.ALIVE, NOW, LATER + timedelta(seconds=5)),
        PC3: (HostState.LOST, LATER, LATER),
    }
    assert await store.heard_since(NOW) == {PC2: LATER + timedelta(seconds=5), PC3: LATER}
    assert await store.heard_since(LATER) == {PC2: LATER + timedelta(seconds=5)}
    await store.save_heard({})


# Placements -----------------------------------------------------------------------------------------------------------


async def test_placements_come_back_as_they_were(store: SchedulerStore, data: DataStore, hosts: list[HostId]) -> None:
    plain = await attribute(data, "plain")
    a, b, c = await add(data, plain, 3)
    full = placement(
        a,
        PC1,
        P.FAILED,
        since=LATER,
        generation=2**40,
        lease_until=LATER,
        retry_at=LATER + timedelta(1),
        failures=3,
        reason={"key": "storage.full", "fields": {"free": 0}},
        done=2**39,
        seconds=1.5,
        from_repository=2**38,
        from_peers=7,
        history=["assigned", "fetching"],
        freed=2**40,
        reused=2**41,
    )
    others = [placement(a, PC2, assigned=LATER), placement(b, PC1, P.ASSIGNED)]
    await placed(store, full, *others)
    assert await store.placements_of([a, b, c]) == {a: [full, others[0]], b: [others[1]], c: []}
    assert await store.placements_on(PC1) == {a: full, b: others[1]}
    pairs = [(a, PC1), (b, PC2), (a, PC2), (c, PC3)]
    assert await store.placements_at(pairs) == {(a, PC1): full, (a, PC2): others[0]}
    assert (await store.placements_of([]), await store.placements_at([])) == ({}, {})
    assert (await store.placements_at([*((new_uid(), PC1) for _ in range(40_000)), (a, PC2)])).keys() == {(a, PC2)}
    changed = replace(full, state=P.HELD, reason=None, retry_at=None, history=["failed"])
    await placed(store, changed)
    assert (await store.placements_on(PC1))[a] == changed


async def test_a_page_tells_of_living_data_and_of_dead_ones_that_are_still_somewhere(
    store: SchedulerStore, data: DataStore, hosts: list[HostId]
) -> None:
    uids = await add(data, await attribute(data, "plain"), 12)
    living, dead_held, dead_gone, dead, dead_runs, dead_ran = uids[:7], uids[7], uids[8], uids[9], uids[10], uids[11]
    await placed(store, placement(dead_held, PC1, P.DROPPING), placement(dead_gone, PC1, P.GONE))
    for uid, state in ((dead_runs, MachineState.REQUESTED), (dead_ran, MachineState.STOPPED)):
        (machine,) = await deployed(store, uid)
        await store.record(now=NOW, machines=[replace(machine, state=state)])
    for uid in uids[7:]:
        await data.end(uid, NOW, "removed")
    told, after = list[Uid](), None
    while page := await store.page(after, 2):
        told += page
        after = page[-1]
    assert told == [*living, dead_held, dead_runs]
    assert dead not in told
    assert await store.placed() == {dead_held}


async def test_sums_are_those_of_the_placements(store: SchedulerStore, data: DataStore, hosts: list[HostId]) -> None:
    dice = random.Random(4)
    attributes = [await attribute(data, name) for name in ("one", "two", "three")]
    of = {uid: known.uid for known in attributes for uid in await add(data, known, 8)}
    states = [(uid, at, dice.choice(list(P))) for uid in of for at in (PC1, PC2) if dice.random() < 0.9]
    await placed(store, *(placement(uid, at, state) for uid, at, state in states))

    size = 2**40
    totals: dict[HostId, Totals] = {}
    for _uid, at, state in states:
        if state in TAKEN | {P.DROPPING}:
            so_far = totals.get(at, Totals())
            totals[at] = Totals(so_far.committed + size, so_far.transfers + (state in INTENDED))
    assert await store.host_totals() == totals
    assert await store.host_totals([PC2, PC3]) == {PC2: totals[PC2]}
    assert await store.committed() == {at: known.committed for at, known in totals.items()}
    whole = Counter(at for _uid, at, state in states if state is P.HELD)
    assert await store.held_counts([PC1, PC2, PC3]) == whole
    assert await store.held_counts([PC2, PC3]) == {PC2: whole[PC2]}

    taken = Counter((of[uid], at) for uid, at, state in states if state in TAKEN)
    held = Counter((of[uid], at) for uid, at, state in states if state is P.HELD)
    counted = [(kind, at, count, held[kind, at]) for (kind, at), count in taken.items()]

    def some(kinds: Iterable[Uid], hosts: Iterable[HostId]) -> list[tuple[Uid, HostId, int, int]]:
        return sorted(row for row in counted if row[0] in kinds and row[1] in hosts)

    kinds = [known.uid for known in attributes]
    assert sorted(await store.census()) == some(kinds, hosts)
    assert sorted(await store.census(hosts=[PC1])) == some(kinds, [PC1])
    assert sorted(await store.census(attributes=kinds[:2])) == some(kinds[:2], hosts)
    assert sorted(await store.census(attributes=kinds[2:], hosts=[PC2, PC3])) == some(kinds[2:], [PC2])
    assert await store.census(hosts=[]) == await store.census(attributes=[]) == []


async def test_data_are_found_by_host_and_attribute(
    store: SchedulerStore, data: DataStore, hosts: list[HostId]
) -> None:
    one, two, three = [await attribute(data, name) for name in ("one", "two", "three")]
    a, b, c, d = await add(data, one, 4)
    (e,), (f,) = await add(data, two), await add(data, three)
    (awaited,) = await add(data, one, awaited=True)
    await data.end(d, NOW, "removed")
    await placed(store, placement(a, PC1), placement(b, PC1, P.GONE), placement(c, PC1, P.LOST))
    await placed(store, placement(d, PC1, P.DROPPING), placement(e, PC1, P.FAILED), placement(f, PC2))
    assert set(await store.data_on(PC1)) == {a, c, d, e}
    assert set(await store.data_on(PC1, [one.uid, three.uid])) == {a, c, d}
    assert await store.data_on(PC1, []) == await store.data_on(PC3) == []

    kinds = [one.uid, two.uid, three.uid]
    assert await store.lacking(PC1, kinds) == sorted([b, c, f])
    assert await store.lacking(PC1, kinds, limit=2) == sorted([b, c, f])[:2]
    assert await store.lacking(PC1, kinds, after=min(b, c, f)) == sorted([b, c, f])[1:]
    assert await store.lacking(PC1, [two.uid]) == await store.lacking(PC3, []) == []
    assert await store.lacking(PC3, [one.uid]) == sorted([a, b, c])
    assert awaited not in await store.lacking(PC3, kinds)


async def test_beyond_the_cap_are_the_youngest_data(
    store: SchedulerStore, data: DataStore, hosts: list[HostId]
) -> None:
    one, two = await attribute(data, "one"), await attribute(data, "two")
    (young,) = await add(data, one, created=LATER + timedelta(1))
    old = await add(data, one, 2)
    (middle,) = await add(data, one, created=LATER)
    (other,) = await add(data, two)
    (lost,) = await add(data, one, created=NOW - timedelta(1))
    here = [placement(uid, PC1, state) for uid, state in zip([young, *old], [P.ASSIGNED, P.HELD, P.HELD], strict=True)]
    await placed(store, *here, placement(middle, PC1), placement(other, PC1), placement(lost, PC1, P.LOST))
    assert await store.excess(one.uid, PC1, 2) == {middle, young}
    assert await store.excess(one.uid, PC1, 1) == {old[1], middle, young}
    assert await store.excess(one.uid, PC1, 0) == {*old, middle, young}
    assert await store.excess(one.uid, PC1, 4) == await store.excess(one.uid, PC2, 0) == set()


# Peers ----------------------------------------------------------------------------------------------------------------


async def test_peers_are_those_who_hold_a_datum_before_those_who_are_to(
    store: SchedulerStore, data: DataStore, hosts: list[HostId]
) -> None:
    one, other = await add(data, await attribute(data, "a"), 2)
    await placed(
        store, placement(one, PC1, P.FETCHING), placement(one, PC2), placement(one, PC3), placement(other, PC1)
    )
    told = await store.peers_of([one, other], HostId("9" * 32), 9)
    assert told == {one: {PC1: False, PC2: True, PC3: True}, other: {PC1: True}}
    assert list(told[one]) == [PC2, PC3, PC1]
    assert await store.peers_of([one], PC2, 9) == {one: {PC1: False, PC3: True}}
    assert await store.peers_of([], PC2, 9) == {}


async def test_no_peers_are_those_who_have_nothing_of_a_datum_any_more(
    store: SchedulerStore, data: DataStore, hosts: list[HostId]
) -> None:
    (uid,) = await add(data, await attribute(data, "a"))
    await placed(store, placement(uid, PC1, P.DROPPING), placement(uid, PC2, P.FAILED), placement(uid, PC3, P.GONE))
    assert await store.peers_of([uid], HostId("9" * 32), 9, near=[PC1, PC2, PC3]) == {uid: {}}


async def test_of_many_holders_each_host_is_told_of_others(store: SchedulerStore, data: DataStore) -> None:
    circle = [HostId(f"{number:032x}") for number in range(10)]
    await store.save_hosts([host(uid, uid) for uid in circle])
    (uid,) = await add(data, await attribute(data, "a"))
    await placed(store, *(placement(uid, at) for at in circle))
    told = {at: list((await store.peers_of([uid], at, 2))[uid]) for at in circle}
    assert told[circle[3]] == [circle[4], circle[5], circle[0], circle[1]]
    assert told[circle[8]] == [circle[9], circle[0], circle[1]]
    assert Counter(first for first, *_ in told.values()) == dict.fromkeys(circle, 1)


async def test_near_hosts_are_among_the_peers_however_many_others_there_are(
    store: SchedulerStore, data: DataStore
) -> None:
    circle = [HostId(f"{number:032x}") for number in range(20)]
    await store.save_hosts([host(uid, uid) for uid in circle])
    (uid,) = await add(data, await attribute(data, "a"))
    await placed(store, *(placement(uid, at, P.FETCHING if at == circle[9] else P.HELD) for at in circle[:-1]))
    (told,) = (await store.peers_of([uid], circle[0], 2, near=[circle[0], circle[9], circle[10], circle[19]])).values()
    assert told == {circle[1]: True, circle[2]: True, circle[9]: False, circle[10]: True}


# Orders ---------------------------------------------------------------------------------------------------------------


def order(at: HostId, generation: int, subject: Uid | None = None, kind: OrderKind = OrderKind.PLACE) -> OrderRecord:
    return OrderRecord(new_uid(), at, generation, kind, subject or new_uid(), "it was asked for")


async def test_orders_are_open_until_they_are_done_or_others_follow(store: SchedulerStore, hosts: list[HostId]) -> None:
    first, second, third = order(PC1, 1), order(PC1, 2), order(PC1, 3)
    elsewhere = order(PC2, 8, first.subject)
    await store.record(now=NOW, orders=[third, first, elsewhere, second])
    assert await store.open_orders(PC1) == [first, second, third]
    assert await store.open_orders(PC1, after=1) == [second, third, first]
    assert await store.newest_open() == {PC1: 3, PC2: 8}
    drop = order(PC1, 4, first.subject, OrderKind.DROP)
    await store.record(now=NOW, orders=[drop], done=[(PC1, second.subject)])
    assert await store.open_orders(PC1) == [third, drop]
    assert await store.ordered(PC1) == {third.subject, drop.subject}
    assert await store.open_orders(PC2) == [elsewhere]


async def test_a_reply_has_no_more_orders_than_its_limit(store: SchedulerStore, hosts: list[HostId]) -> None:
    orders = [order(PC1, number) for number in range(1, limits.ORDERS + 6)]
    await store.record(now=NOW, orders=orders)
    assert await store.open_orders(PC1) == orders[: limits.ORDERS]
    assert await store.open_orders(PC1, after=limits.ORDERS) == [*orders[limits.ORDERS :], *orders[: limits.ORDERS - 5]]


async def test_closed_orders_are_forgotten_after_a_while(store: SchedulerStore, hosts: list[HostId]) -> None:
    old, new, still = order(PC1, 1), order(PC1, 2), order(PC1, 3)
    await store.record(now=NOW, orders=[old, new, still])
    await store.record(now=NOW, done=[(PC1, old.subject)])
    await store.record(now=LATER, done=[(PC1, new.subject)])
    assert await store.purge_orders(LATER) == 1
    assert await store.purge_orders(LATER) == 0
    assert await store.purge_orders(LATER + timedelta(seconds=1)) == 1
    assert await store.open_orders(PC1) == [still]


# All or none ----------------------------------------------------------------------------------------------------------


async def test_what_belongs_together_is_stored_together_or_not_at_all(
    store: SchedulerStore, data: DataStore, hosts: list[HostId]
) -> None:
    (uid,) = await add(data, await attribute(data, "plain"))

    async def refuse(_session: AsyncSession) -> None:
        raise LookupError

    changes: dict[str, Any] = {
        "hosts": [host(PC1, "renamed")],
        "placements": [placement(uid, PC1)],
        "orders": [order(PC1, 4)],
    }
    with pytest.raises(LookupError):
        await store.record(now=NOW, check=refuse, **changes)
    stranger = placement(new_uid(), PC1)  # there is no such datum
    with pytest.raises(IntegrityError):
        await store.record(now=NOW, **changes | {"placements": [placement(uid, PC1), stranger]})
    assert await store.hosts() == [host(PC1, "pc1"), host(PC2, "pc2"), host(PC3, "pc3")]
    assert (await store.placements_on(PC1), await store.open_orders(PC1)) == ({}, [])
    await store.record(now=NOW, **changes)
    assert (await store.hosts([PC1]))[0] == host(PC1, "renamed", generation=4)
    assert (await store.placements_on(PC1)).keys() == {uid}
    assert await store.open_orders(PC1) == changes["orders"]


async def test_a_host_and_its_first_copies_are_stored_together(store: SchedulerStore, data: DataStore) -> None:
    uids = await add(data, await attribute(data, "plain"), 3)
    copies = [placement(uid, PC1) for uid in uids]
    await store.record(now=NOW, hosts=[host(PC1, "new")], placements=copies)
    assert await store.placements_on(PC1) == {record.data: record for record in copies}


# Machines -------------------------------------------------------------------------------------------------------------


async def deployed(store: SchedulerStore, uid: Uid, count: int = 1, memory: int = 2**33) -> list[MachineRecord]:
    deployment = DeploymentRecord(new_uid(), uid, count, memory, 2, NOW, "ada")
    await store.add_deployment(deployment, [new_uid() for _ in range(count)])
    assert (await store.deployments([deployment.uid, new_uid()])) == {deployment.uid: deployment}
    return [machine for machine in await store.machines(data=[uid]) if machine.deployment == deployment.uid]


async def test_machines_come_back_as_they_were(store: SchedulerStore, data: DataStore, hosts: list[HostId]) -> None:
    a, b = await add(data, await attribute(data, "plain"), 2)
    first, second = await deployed(store, a, 2)
    (other,) = await deployed(store, b)
    assert (first.state, first.host, first.deployment) == (MachineState.REQUESTED, None, second.deployment)
    runs = replace(
        first, host=PC1, state=MachineState.RUNNING, generation=5, hypervisor="qemu", reason={"key": "x"}, cause="why"
    )
    ended = replace(second, host=PC1, state=MachineState.STOPPED)
    await store.record(now=NOW, machines=[runs, ended])
    assert {m.uid: m for m in await store.machines()} == {first.uid: runs, second.uid: ended, other.uid: other}
    assert await store.machines(data=[a], unfinished=True) == await store.machines(uids=[first.uid]) == [runs]
    assert {m.uid for m in await store.machines(host=PC1)} == {first.uid, second.uid}
    assert await store.machines(prefix=other.uid[:20]) == [other]
    assert await store.machines(data=[]) == await store.machines(uids=[]) == await store.machines(prefix="%") == []
    assert await store.deployments([]) == {}
    await store.want_stop(first.uid)
    await store.record(now=NOW, machines=[replace(runs, cause="later")])  # it does not know of the wish
    assert await store.machines(uids=[first.uid]) == [replace(runs, cause="later", stop_wanted=True)]


async def test_memory_is_summed_over_machines_that_have_a_host_and_have_not_ended(
    store: SchedulerStore, data: DataStore, hosts: list[HostId]
) -> None:
    (uid,) = await add(data, await attribute(data, "plain"))
    small, big = await deployed(store, uid, 4, 2**31), await deployed(store, uid, 2, 2**33)
    at: list[tuple[MachineRecord, HostId | None, MachineState]] = [
        (small[0], PC1, MachineState.RUNNING),
        (small[1], PC1, MachineState.FAILED),
        (small[2], None, MachineState.REQUESTED),
        (small[3], PC2, MachineState.STOPPING),
        (big[0], PC1, MachineState.WAITING),
        (big[1], PC3, MachineState.STOPPED),
    ]
    await store.record(now=NOW, machines=[replace(m, host=where, state=state) for m, where, state in at])
    assert await store.machines_on() == {PC1: (2, 2**31 + 2**33, 4), PC2: (1, 2**31, 2)}
    assert await store.machines_on([PC2, PC3]) == {PC2: (1, 2**31, 2)}


async def test_a_console_keeps_its_end_and_counts_what_is_missing(
    store: SchedulerStore, data: DataStore, hosts: list[HostId]
) -> None:
    (uid,) = await add(data, await attribute(data, "plain"))
    (machine,) = await deployed(store, uid)

    async def write(offset: int, said: str) -> tuple[str, int]:
        chunk = ConsoleChunk(offset=offset, text=said)
        await store.record(now=NOW, consoles=[(machine.uid, chunk), (new_uid(), chunk)])
        return await store.console(machine.uid)

    assert await write(0, "boot\0ing é") == ("boot\N{REPLACEMENT CHARACTER}ing é", 10)
    assert await write(8, " é!") == ("boot\N{REPLACEMENT CHARACTER}ing é!", 11)  # half of it was said before
    kept, end = await write(50, "later")
    assert (kept[-5:], "[39 characters are missing]" in kept, len(kept), end) == ("later", True, 55, 55)
    kept, end = await write(10**9, "x" * 100)
    assert (len(kept), end) == (limits.CONSOLE, 10**9 + 100)
    assert (await store.machines(uids=[machine.uid]))[0].console_end == end


# Speed ----------------------------------------------------------------------------------------------------------------


async def test_sqlite_reads_no_table_whole_for_what_each_sync_and_each_plan_ask(sqlite_url: str) -> None:
    database, asked = Database(sqlite_url), list[tuple[str, Any]]()
    store, uid = SchedulerStore(database), new_uid()

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE")):
            asked.append((statement, parameters[0] if isinstance(parameters, list) else parameters))

    event.listen(database._engine.sync_engine, "before_cursor_execute", note)
    await store.placements_of([uid])
    await store.placements_on(PC1)
    await store.placements_at([(uid, PC1)])
    await store.peers_of([uid], PC1, 9)
    await store.page(uid, 10)
    await store.data_on(PC1, [uid])
    await store.lacking(PC1, [uid], 10)
    await store.excess(uid, PC1, 1)
    await store.host_totals([PC1])
    await store.census(hosts=[PC1])
    await store.census(attributes=[uid])
    await store.machines_on([PC1])
    await store.open_orders(PC1)
    await store.ordered(PC1)
    await store.machines(data=[uid], unfinished=True)
    await store.deployments([uid])
    await store.record(now=NOW, orders=[], done=[(PC1, uid)])
    event.remove(database._engine.sync_engine, "before_cursor_execute", note)
    assert len(asked) == 17
    async with database._engine.connect() as connection:
        for statement, parameters in asked:
            plan = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            steps = [row.detail for row in plan]
            tables = [
                step for step in steps if step.startswith("SCAN") and "json_each" not in step and "anon_" not in step
            ]
            assert not tables, (statement, steps)
            assert any(step.startswith("SEARCH") for step in steps)
    await database.close()
