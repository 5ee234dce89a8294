"""Data come, are verified, stay, and go, as ordered and not otherwise."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime

import pytest
from bitdew.worker.entries import PlacementEntry
from bitdew.worker.journal import Journal

from bitdew.core.errors import error
from bitdew.core.host import Endpoint
from bitdew.core.states import PlacementState
from bitdew.swarm.session import Swarm
from bitdew.swarm.settings import SwarmLimits

MIB = 2**20


def sha(content):
    return hashlib.sha256(content).hexdigest()


async def test_an_order_reaches_an_idle_worker_at_once_and_the_copy_is_held(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(3 * MIB))
    async with start_worker():
        await service.until(lambda: any(sync.wait > 0 for sync in service.syncs))
        service.place(data)
        assert await service.until_state(data.uid, "assigned", "fetching", "held") < 1
        await service.until_state(data.uid, "held")
        report = service.placements[data.uid]
        assert sha((home / "copies" / data.root).read_bytes()) == sha(data.content)
        assert report.done == report.size == data.size
        assert report.from_repository >= data.size
        assert report.from_peers == 0
        assert 0 < report.seconds < 15
        assert report.reason is None


async def test_the_first_report_says_everything_of_the_host(service, start_worker):
    async with start_worker(labels={"site": "orsay"}, quota=MIB):
        await service.until(lambda: service.syncs)
        first = service.syncs[0]
        assert first.full
        assert first.host.name == "pc-7"
        assert first.host.quota == MIB
        assert first.host.used == 0
        assert first.host.labels["site"] == "orsay"
        assert [(s.name, s.version) for s in first.host.sharings] == [("mock", "1.0")]


async def test_a_swarm_on_every_address_announces_the_one_that_leads_to_the_service(service, start_worker):
    async with start_worker(listen="0.0.0.0:0") as started:
        await service.until(lambda: service.syncs)
        assert service.syncs[0].host.swarm == f"127.0.0.1:{started.worker.swarm.endpoint.port}"


async def test_dropped_data_frees_its_bytes_and_the_drop_is_reported(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(MIB))
    async with start_worker():
        service.place(data)
        await service.until_state(data.uid, "held")
        service.drop(data)
        await service.until_state(data.uid, "gone")
        assert list((home / "copies").iterdir()) == []
        assert service.repository is not None
        service.place(data)  # and it can come again
        await service.until_state(data.uid, "held")


async def test_data_in_transit_can_be_dropped(service, start_worker, disk_bytes, home):
    service.repository.set_limits(SwarmLimits(upload=MIB))
    data = await service.publish(disk_bytes(4 * MIB))
    async with start_worker():
        service.place(data)
        await service.until(lambda: service.state(data.uid) == "fetching" and service.placements[data.uid].done > 0)
        service.drop(data)
        await service.until_state(data.uid, "gone")
        assert list((home / "copies").iterdir()) == []


async def test_data_beyond_the_quota_are_refused_with_figures(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(2 * MIB))
    async with start_worker(quota=MIB):
        service.place(data)
        await service.until_state(data.uid, "failed")
        reason = service.placements[data.uid].reason
        assert reason.key == "storage.full"
        assert reason.fields["quota"] == MIB
        assert reason.fields["size"] == 2 * MIB


async def test_two_data_with_the_same_bytes_are_one_file(service, start_worker, disk_bytes, home):
    content = disk_bytes(MIB)
    one, two = await service.publish(content, "one"), await service.publish(content, "two")
    async with start_worker(quota=MIB + 1):
        service.place(one)
        service.place(two)
        await service.until(lambda: service.state(one.uid) == service.state(two.uid) == "held")
        fetched = [service.placements[uid].from_repository for uid in (one.uid, two.uid)]
        assert min(fetched) == 0
        service.drop(one)
        await service.until_state(one.uid, "gone")
        assert (home / "copies" / one.root).read_bytes() == content
        service.drop(two)
        await service.until_state(two.uid, "gone")
        assert list((home / "copies").iterdir()) == []


async def test_files_that_nobody_knows_are_reported_and_stay(service, start_worker, home):
    copies = home / "copies"
    copies.mkdir(parents=True)
    strange = [copies / ("a" * 64), copies / "photos.zip"]
    for path in strange:
        path.write_bytes(b"mine")
    async with start_worker() as started:
        await service.until(lambda: service.syncs)
        told = {event.subject for event in started.events if event.kind == "unknown-file"}
    assert told == {str(path) for path in strange}
    assert [path.read_bytes() for path in strange] == [b"mine", b"mine"]


async def test_a_held_copy_is_held_at_once_after_a_restart_and_seeded(service, start_worker, disk_bytes, tmp_path):
    data = await service.publish(disk_bytes(2 * MIB))
    async with start_worker():
        service.place(data)
        await service.until_state(data.uid, "held")
    service.placements.clear()
    await service.repository.close()
    async with start_worker() as started:
        await service.until_state(data.uid, "held")
        assert service.placements[data.uid].from_repository >= data.size  # it is remembered
        other = await Swarm.start(Endpoint("127.0.0.1", 0), service.swarm_credentials("other"))
        transfer = await other.add(data.metainfo, tmp_path / "fetched", peers=[started.worker.swarm.endpoint])
        await asyncio.wait_for(transfer.wait_held(), 10)
        await other.close()
    assert (tmp_path / "fetched").read_bytes() == data.content


async def test_a_held_file_that_changed_is_checked_and_repaired(service, start_worker, disk_bytes, home):
    data = await service.publish(disk_bytes(2 * MIB))
    async with start_worker():
        service.place(data)
        await service.until_state(data.uid, "held")
    path = home / "copies" / data.root
    spoilt = bytearray(data.content)
    spoilt[MIB] ^= 1
    path.write_bytes(spoilt)
    service.history.clear()
    async with start_worker():
        await service.until(lambda: (data.uid, "held") in service.history)
        assert (data.uid, "fetching") in service.history
    assert path.read_bytes() == data.content


async def test_a_copy_on_its_way_goes_on_where_it_was_after_a_crash(service, start_worker, disk_bytes, home):
    service.repository.set_limits(SwarmLimits(upload=4 * MIB))
    data = await service.publish(disk_bytes(12 * MIB))
    have = home / "copies" / f"{data.root}.have"
    async with start_worker() as started:
        service.place(data)
        await service.until(lambda: have.exists() and service.placements[data.uid].done > 2 * MIB)
        await started.crash()
    before = service.placements[data.uid].from_repository
    service.repository.set_limits(SwarmLimits())
    service.history.clear()
    async with start_worker():
        await service.until_state(data.uid, "held")
        report = service.placements[data.uid]
    assert (home / "copies" / data.root).read_bytes() == data.content
    assert report.from_repository < data.size + 6 * MIB  # not fetched anew
    assert before > 0


async def test_a_service_that_is_away_stops_neither_the_fetch_nor_the_report(service, start_worker, disk_bytes, until):
    service.repository.set_limits(SwarmLimits(upload=2 * MIB))
    data = await service.publish(disk_bytes(2 * MIB))
    async with start_worker() as started:
        service.place(data)
        await service.until_state(data.uid, "fetching")
        await service.down()
        await until(lambda: started.worker.placements.entries[data.uid].state == "held")
        assert service.state(data.uid) != "held"
        await service.up()
        await service.until_state(data.uid, "held")

        def said():
            kinds = [str(event.kind) for event in started.events]
            return [kind for kind in kinds if kind in {"joined", "service-lost"}]

        await until(lambda: len(said()) == 3)
        assert said() == ["joined", "service-lost", "joined"]


async def test_wrong_pieces_are_reported_and_another_source_is_used(service, start_worker, disk_bytes, tmp_path, home):
    data = await service.publish(disk_bytes(2 * MIB))
    wrong = bytearray(data.content)
    for at in range(0, len(wrong), 65536):
        wrong[at] ^= 1
    (tmp_path / "wrong").write_bytes(wrong)
    # The repository lends no bytes at first, so that the bad peer is asked.
    await service.repository.remove(next(iter(service.repository.transfers.values())))
    bad = await Swarm.start(Endpoint("127.0.0.1", 0), service.swarm_credentials("bad"))
    await bad.add(data.metainfo, tmp_path / "wrong", complete=True)
    async with start_worker():
        service.place(data, peers=[bad.endpoint])
        await service.until(lambda: data.uid in service.placements and service.placements[data.uid].reason)
        assert service.placements[data.uid].reason.key == "swarm.corrupt"
        assert service.state(data.uid) == "fetching"
        await service.repository.add(data.metainfo, service.folder / data.root, complete=True)
        await bad.close()
        await service.until_state(data.uid, "held", seconds=30)
        assert service.placements[data.uid].corrupt > 0
    assert (home / "copies" / data.root).read_bytes() == data.content


class QuickClock:
    """Real time, forty times as fast."""

    def __init__(self):
        from bitdew.clock import SystemClock

        self.real = SystemClock()

    def now(self):
        return self.real.now()

    def monotonic(self):
        return self.real.monotonic() * 40

    async def sleep(self, seconds):
        await asyncio.sleep(seconds / 40)


async def test_a_silent_swarm_is_asked_about_and_then_given_up(service, start_worker, disk_bytes):
    data = await service.publish(disk_bytes(MIB))
    await service.repository.close()
    service.refusal = error("data.not-found", "The repository has no bytes of it")
    async with start_worker(clock=QuickClock()):
        service.place(data)
        await service.until_state(data.uid, "failed")
        assert service.placements[data.uid].reason.key == "swarm.stalled"
        assert service.announces > 5


async def test_peers_that_the_service_names_later_are_used(service, start_worker, disk_bytes, tmp_path):
    data = await service.publish(disk_bytes(MIB))
    await service.repository.remove(next(iter(service.repository.transfers.values())))
    other = await Swarm.start(Endpoint("127.0.0.1", 0), service.swarm_credentials("other"))
    (tmp_path / "there").write_bytes(data.content)
    await other.add(data.metainfo, tmp_path / "there", complete=True)
    service.peers = [other.endpoint]
    service.refusal = error("data.not-found", "The repository has no bytes of it")
    async with start_worker(clock=QuickClock()):
        service.place(data)
        await service.until_state(data.uid, "held")
        report = service.placements[data.uid]
        assert report.from_peers >= data.size
        assert report.from_repository == 0
    await other.close()


@pytest.mark.parametrize("orderly", [True, False])
async def test_a_failed_copy_stays_failed_until_it_is_ordered_anew(service, start_worker, disk_bytes, orderly):
    data = await service.publish(disk_bytes(2 * MIB))
    async with start_worker(quota=MIB) as started:
        service.place(data)
        await service.until_state(data.uid, "failed")
        if not orderly:
            await started.crash()
    service.placements.clear()
    async with start_worker(quota=4 * MIB):
        await service.until_state(data.uid, "failed")
        service.place(data)
        await service.until_state(data.uid, "held")


async def test_a_journal_that_can_not_be_written_during_a_fetch_ends_nothing(
    service, start_worker, disk_bytes, until, monkeypatch
):
    monkeypatch.setattr("bitdew.worker.journal.RETRY_SECONDS", 0.2)
    service.repository.set_limits(SwarmLimits(upload=2 * MIB))
    data = await service.publish(disk_bytes(2 * MIB))
    async with start_worker() as started:
        journal = started.worker._journal

        async def pragma(statement):
            await journal._run(lambda: journal._database.execute(statement).fetchall())

        service.place(data)
        await service.until_state(data.uid, "fetching")
        await pragma("PRAGMA query_only = ON")
        await service.until_state(data.uid, "held")
        assert not started.task.done()
        assert [event.fields["key"] for event in started.events if event.kind == "trouble"] == ["storage.failed"]
        await pragma("PRAGMA query_only = OFF")
        await until(lambda: not journal._behind.is_set())
        await started.crash()
    service.repository.set_limits(SwarmLimits())
    service.history.clear()
    service.placements.clear()
    async with start_worker():
        await service.until_state(data.uid, "held")
    assert {state for uid, state in service.history if uid == data.uid} == {"held"}


async def test_pieces_that_changed_between_two_starts_are_not_taken_for_held(service, start_worker, disk_bytes, home):
    service.repository.set_limits(SwarmLimits(upload=4 * MIB))
    data = await service.publish(disk_bytes(8 * MIB))
    path = home / "copies" / data.root
    have = home / "copies" / f"{data.root}.have"
    async with start_worker() as started:
        service.place(data)
        await service.until(lambda: have.exists() and service.placements[data.uid].done > 2 * MIB)
        await started.crash()
    field, length = have.read_bytes(), data.metainfo.content.piece_length
    number = next(n for n in range(len(field) * 8) if field[n // 8] & (0x80 >> n % 8))
    with path.open("r+b") as file:
        file.seek(number * length)
        byte = file.read(1)
        file.seek(number * length)
        file.write(bytes([byte[0] ^ 1]))
    service.repository.set_limits(SwarmLimits())
    service.placements.clear()
    async with start_worker():
        await service.until_state(data.uid, "held")
        assert path.read_bytes() == data.content


async def test_an_address_that_can_not_be_read_fails_its_datum_and_nothing_else(
    service, start_worker, disk_bytes, home
):
    good = await service.publish(disk_bytes(MIB))
    bad, worse, better = [await service.publish(disk_bytes(MIB, seed)) for seed in (2, 3, 4)]
    spoilt, nowhere = {}, {"repository": "nowhere"}
    for datum in (bad, worse, better):
        order = service.place(datum)
        change = {"peers": ["nowhere", "127.0.0.1:5"]} if datum is better else nowhere
        spoilt[datum.uid] = order.model_copy(update={"place": order.place.model_copy(update=change)})
    service.orders.clear()
    home.mkdir(mode=0o700)
    journal = Journal(home / "journal.db")
    await journal.open()
    await journal.accept(list(spoilt.values()), service.generation)
    order = spoilt[bad.uid]
    await journal.save_placement(
        PlacementEntry(bad.uid, order.generation, order.place, PlacementState.FETCHING, datetime.now(UTC))
    )
    await journal.close()
    for _ in range(2):
        service.placements.clear()
        async with start_worker() as started:
            await service.until(lambda: {service.state(bad.uid), service.state(worse.uid)} == {"failed"})
            assert service.placements[bad.uid].reason.key == "input.invalid"
            await service.until_state(better.uid, "held")
            if not service.orders:
                service.place(good)
            await service.until_state(good.uid, "held")
            assert not started.task.done()
