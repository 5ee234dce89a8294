"""Orders and reports cross a wire that loses things, and nothing is lost by it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from bitdew.worker import sync
from bitdew.worker.link import can_wait, is_final

from bitdew.core.errors import BitDewError, error
from bitdew.trust.authority import Authority
from bitdew.wire.models import Order, SyncReply

MIB = 2**20


async def test_an_idle_host_costs_one_cheap_request_a_period(service, start_worker):
    service.period = 1.0
    async with start_worker():
        await service.until(lambda: len(service.syncs) >= 2)
        await asyncio.sleep(2.2)
    polls = [request for request in service.syncs if request.wait]
    assert 2 <= len(polls) <= 4
    assert all(not request.placements and request.host is None for request in polls)
    assert len(service.syncs) - len(polls) <= 2


async def test_a_repeated_and_a_stale_order_change_nothing(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker() as started:
        placed = service.place(data)
        await service.until_state(data.uid, "held")
        inode = (home / "copies" / data.root).stat().st_ino
        service.placements.clear()
        # The same order again, and an older one that would drop.
        stale = Order(uid="d" * 32, generation=0, kind="drop", subject=data.uid, cause="of yesterday")
        sync_of = started.worker._sync
        reply = SyncReply(generation=placed.generation, orders=[placed, stale], period=5.0)
        assert await sync_of._take(reply) == 0
        await service.until_state(data.uid, "held")  # told again, as the service seems not to know
        assert (home / "copies" / data.root).stat().st_ino == inode
        assert service.placements[data.uid].generation == placed.generation


async def test_a_lost_reply_loses_no_order(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker():
        await service.until(lambda: any(request.wait for request in service.syncs))
        service.lose_replies = 3
        service.place(data)
        await service.until_state(data.uid, "held")
        assert service.lose_replies == 0
        await service.until(lambda: service.syncs[-1].generation == service.generation)


async def test_a_report_is_told_again_until_the_service_confirms_it(service, start_worker, disk_bytes, until):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker() as started:
        service.place(data)
        await service.until_state(data.uid, "held")
        outbox = started.worker._sync._outbox
        await until(lambda: not outbox.placements.latest)
        await service.down()
        outbox.mark_placement(data.uid, urgent=True)
        await asyncio.sleep(0.3)
        assert data.uid in outbox.placements.latest
        service.placements.clear()
        await service.up()
        await service.until_state(data.uid, "held")


async def test_the_service_can_ask_for_everything(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(MIB))
    service.period = 1.0
    async with start_worker():
        service.place(data)
        await service.until_state(data.uid, "held")
        count = len(service.syncs)
        service.ask_full = True
        await service.until(lambda: any(request.full for request in service.syncs[count:]))
        told = next(request for request in service.syncs[count:] if request.full)
        assert [(p.uid, str(p.state)) for p in told.placements] == [(data.uid, "held")]
        assert told.host is not None


async def test_an_order_is_kept_before_it_is_acted_on(service, start_worker, disk_bytes, monkeypatch):
    data = await service.publish(disk_bytes(MIB))
    acted = asyncio.Event()

    async def die_instead(self, order):
        acted.set()
        await asyncio.sleep(3600)

    async with start_worker() as started:
        monkeypatch.setattr(sync.Sync, "_carry_out", die_instead)
        service.place(data)
        await asyncio.wait_for(acted.wait(), 5)
        await started.crash()
    monkeypatch.undo()
    service.orders.clear()  # the service will not say it again
    async with start_worker():
        await service.until_state(data.uid, "held")


async def test_a_change_of_another_generation_is_told_with_what_the_host_persisted(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker():
        order = service.place(data)
        await service.until_state(data.uid, "held")
        assert service.placements[data.uid].generation == order.generation
        assert max(request.generation for request in service.syncs) == order.generation


async def test_a_revoked_host_ends_with_the_reason(service, start_worker):
    async with start_worker() as started:
        await service.until(lambda: service.syncs)
        service.revoked = True
        service.order("halt", "1" * 32)  # ends the poll that is held open
        with pytest.raises(BitDewError) as caught:
            await asyncio.wait_for(asyncio.shield(started.task), 10)
        assert caught.value.key == "certificate.revoked"


async def test_a_worker_can_start_while_the_service_is_away(service, start_worker):
    await service.down()
    async with start_worker() as started:
        await asyncio.sleep(0.3)
        assert not started.task.done()
        await service.up()
        await service.until(lambda: service.syncs)


async def test_a_worker_that_is_asked_to_stop_returns(service, start_worker):
    async with start_worker() as started:
        await service.until(lambda: service.syncs)
        started.worker.stop()
        assert await asyncio.wait_for(started.task, 5) is None


async def test_a_stranger_at_the_address_of_the_service_ends_nothing(service, start_worker, tmp_path, until):
    ours = service.authority
    async with start_worker() as started:
        await service.until(lambda: service.syncs)
        await service.down()
        service.authority = await asyncio.to_thread(
            Authority.open, tmp_path / "stranger", now=datetime.now(UTC), name="captive portal"
        )
        await service.up()
        await until(lambda: any(event.kind == "service-lost" for event in started.events))
        await asyncio.sleep(1)
        assert not started.task.done()
        lost = [event.fields["key"] for event in started.events if event.kind == "service-lost"]
        assert lost in (["certificate.foreign"], ["service.unreachable"])  # told once
        await service.down()
        service.authority = ours
        service.syncs.clear()
        await service.up()
        await service.until(lambda: service.syncs)
        assert not started.task.done()


@pytest.mark.parametrize(("own", "ends"), [(False, False), (True, True)])
def test_an_expired_certificate_is_final_only_where_it_is_the_hosts_own(own, ends):
    talk = sync.Sync.__new__(sync.Sync)
    talk._has_expired = lambda: own
    fault = error("certificate.expired", "It can't be trusted now")
    assert talk._may_wait(fault) is not ends


@pytest.mark.parametrize("key", ["certificate.revoked", "certificate.role", "host.banned"])
def test_what_an_authenticated_reply_says_of_this_host_is_final(key):
    assert is_final(error(key, "No"))
    assert not can_wait(error(key, "No"))


def test_a_full_disk_of_the_host_is_not_told_as_the_services_refusal(capsys):
    assert can_wait(error("storage.full", "No space"))
    assert can_wait(error("input.invalid", "What?"))
    host, service = capsys.readouterr().out.splitlines()
    assert "the service refuses" not in host
    assert "the service refuses" in service


async def test_a_report_that_is_cut_is_never_called_full(service, start_worker, disk_bytes, monkeypatch):
    data = [await service.publish(disk_bytes(64 * 1024, seed), f"disk{seed}") for seed in range(3)]
    async with start_worker():
        for datum in data:
            service.place(datum)
        await service.until(lambda: all(service.state(datum.uid) == "held" for datum in data))
    monkeypatch.setattr("bitdew.wire.limits.PLACEMENTS", 2)
    service.placements.clear()
    service.syncs.clear()
    async with start_worker():
        await service.until(lambda: all(service.state(datum.uid) == "held" for datum in data))
    assert not any(request.full for request in service.syncs)
    assert service.syncs[0].host is not None
