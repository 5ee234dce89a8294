"""Holders are called when another host begins to fetch by swarm what they hold, and when a person does."""

from __future__ import annotations

import asyncio

from bitdew.scheduler import calls
from bitdew.scheduler.calls import Calls

from bitdew.core.ids import ContentRoot
from bitdew.core.orders import OrderKind
from bitdew.core.states import PlacementState

S = PlacementState


async def test_a_holder_is_called_at_once_by_the_poll_that_it_holds_open(grid, make_host, add_disk):
    holder = await make_host("holder")
    disk = await add_disk(replica=2)
    await holder.take()
    assert (await holder.sync()).calls == []
    fetching = await make_host("fetching", swarm="127.0.0.7:4000")
    order = await fetching.order(OrderKind.PLACE)
    poll = asyncio.create_task(holder.sync(wait=15.0))
    await asyncio.sleep(0.05)
    assert not poll.done()
    await fetching.tell(fetching.copy(order, S.FETCHING, seeks=True))
    called = (await poll).calls
    assert [(call.root, str(call.peer)) for call in called] == [(disk.root, "127.0.0.7:4000")]
    assert (await holder.sync()).calls == []  # once
    await fetching.tell(fetching.copy(order, S.FETCHING, seeks=True, done=1000))
    assert (await holder.sync()).calls == []  # also while it goes on
    await fetching.tell(fetching.copy(order, S.ASSIGNED))
    await fetching.tell(fetching.copy(order, S.FETCHING, seeks=True))
    assert len((await holder.sync()).calls) == 1  # but again when it begins anew
    assert (await fetching.sync()).calls == []


async def test_nobody_is_called_for_what_waits_or_comes_by_https(grid, make_host, add_disk):
    holder = await make_host("holder")
    await add_disk(replica=2)
    await holder.take()
    fetching = await make_host("fetching")
    order = await fetching.order(OrderKind.PLACE)
    for state in (S.ASSIGNED, S.FETCHING, S.VERIFYING, S.HELD):
        await fetching.tell(fetching.copy(order, state))
        assert (await holder.sync()).calls == []


async def test_what_waits_for_its_turn_elsewhere_is_not_sought_yet(grid, make_host, add_disk):
    holder = await make_host("holder")
    disk = await add_disk(replica=2)
    await holder.take()
    fetching = await make_host("fetching")
    order = await fetching.order(OrderKind.PLACE)
    sought = grid.service.rooms.sought
    reason = {"key": "copy.waiting", "message": "It waits for its turn"}
    await fetching.tell(fetching.copy(order, S.ASSIGNED, reason=reason))
    assert (await sought.at(holder.uid)).roots == []
    told = await grid.client.explain("disk")
    assert "assigned, it waits there for its turn" in next(h.reason for h in told.hosts if h.host_name == "fetching")
    where = await grid.client.where("disk")
    assert next(p.reason.key for p in where.placements if p.host_name == "fetching") == "copy.waiting"
    await fetching.tell(fetching.copy(order, S.FETCHING))
    assert (await sought.at(holder.uid)).roots == [disk.root]
    where = await grid.client.where("disk")
    assert next(p.reason for p in where.placements if p.host_name == "fetching") is None


async def test_a_person_and_the_repository_have_holders_called_too(grid, make_host, add_disk):
    holder = await make_host("holder")
    disk = await add_disk(replica=1)
    await holder.take()
    await grid.service.rooms.sought.seek(ContentRoot(disk.root))
    assert [(call.root, call.peer) for call in (await holder.sync()).calls] == [(disk.root, None)]


async def test_calls_for_hosts_that_never_ask_are_bounded(grid, monkeypatch):
    monkeypatch.setattr(calls, "WAITING", 3)
    monkeypatch.setattr(calls.limits, "CALLS", 2)
    waiting = Calls(grid.service.rooms.sync._known)
    waiting.hear([(f"{number:032x}", ContentRoot("0" * 64), "") for number in range(10)])
    assert [waiting.is_waiting(f"{number:032x}") for number in range(10)] == [False] * 7 + [True] * 3
    host = f"{9:032x}"
    waiting.hear([(host, ContentRoot(f"{number:064x}"), "") for number in range(10)])
    assert len(waiting.of(host)) == 2
    assert not waiting.is_waiting(host)
