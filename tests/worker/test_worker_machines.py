"""Machines are booted from verified disks, followed, halted and found again; nothing else is ever booted."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.testing.mock_hypervisor import MockHypervisor
from bitdew.wire.models import PortModel

KIB = 1024


@pytest.fixture
async def disk(service, disk_bytes):
    return await service.publish(disk_bytes(256 * KIB))


async def held(service, disk):
    service.place(disk)
    await service.until_state(disk.uid, "held")


async def test_a_machine_boots_from_a_held_disk_and_its_console_is_told(service, start_worker, disk, mock_host):
    async with start_worker(hypervisor=MockHypervisor(host=mock_host, console_line="grüße vom Gast ✓")):
        await held(service, disk)
        uid = service.launch(disk)
        await service.until(lambda: service.consoles.get(uid) == "grüße vom Gast ✓\r\n")
        assert service.machine(uid) == "running"
        assert service.machines[uid].hypervisor == "mock"
        states = [state for subject, state in service.history if subject == uid]
        assert states[-1] == "running"
    assert service.machine(uid) == "stopped"  # the worker ended in an orderly way


async def test_a_machine_waits_for_its_disk(service, start_worker, disk, mock_host):
    async with start_worker():
        uid = service.launch(disk)
        await service.until_state(uid, "waiting-for-disk")
        assert not mock_host.machines
        service.place(disk)
        await service.until_state(uid, "running")


async def test_a_machine_is_halted_by_an_order_and_leaves_nothing(service, start_worker, disk, home, until):
    async with start_worker():
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "running")
        service.order("halt", uid)
        await service.until_state(uid, "stopped")
        assert service.machines[uid].reason is None
        await until(lambda: not (home / "machines" / uid).exists())


async def test_a_machine_that_waits_can_be_halted(service, start_worker, disk):
    async with start_worker():
        uid = service.launch(disk)
        await service.until_state(uid, "waiting-for-disk")
        service.order("halt", uid)
        await service.until_state(uid, "stopped")


async def test_halting_an_unknown_machine_is_confirmed(service, start_worker):
    async with start_worker():
        service.order("halt", "3" * 32)
        await service.until_state("3" * 32, "stopped")


def tampered(service, disk):
    signed = service.record(disk)
    return replace(signed, payload=signed.payload.replace(b'"version":"1"', b'"version":"2"'))


def unsigned(service, disk):
    return replace(service.record(disk), signature=bytes(64))


def of_other_bytes(service, disk):
    return service.record(disk, root="e" * 64)


def of_another_datum(service, disk):
    return service.record(disk, uid=Uid("e" * 32))


def of_another_size(service, disk):
    return service.record(disk, size=disk.size + 1)


def expired(service, disk):
    now = datetime.now(UTC)
    return service.record(disk, issued=now - timedelta(seconds=2), expires=now - timedelta(seconds=1))


@pytest.mark.parametrize("spoil", [tampered, unsigned, of_other_bytes, of_another_datum, of_another_size, expired])
async def test_a_record_that_does_not_hold_is_never_booted(service, start_worker, disk, mock_host, spoil):
    async with start_worker():
        await held(service, disk)
        uid = service.launch(disk, await asyncio.to_thread(spoil, service, disk))
        await service.until_state(uid, "failed", "running")
        assert service.machine(uid) == "failed"
        assert service.machines[uid].reason.key == "disk.signature"
    assert not mock_host.starts


@pytest.mark.parametrize("policy", [{"publishers_deny": ("ada",)}, {"publishers_allow": ("grace",)}])
async def test_a_publisher_whom_the_host_refuses_is_never_booted(service, start_worker, disk, mock_host, policy):
    async with start_worker(**policy):
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "failed", "running")
        assert service.machines[uid].reason.key == "certificate.role"
    assert not mock_host.starts


async def test_machines_get_no_more_memory_than_the_volunteer_lends(service, start_worker, disk):
    async with start_worker(memory=100 * KIB * KIB):
        await held(service, disk)
        first, second = service.launch(disk), service.launch(disk)
        await service.until_state(first, "running")
        await service.until_state(second, "failed")
        assert service.machines[second].reason.key == "host.full"


async def test_without_a_hypervisor_a_machine_fails_and_no_sharing_is_announced(service, start_worker, disk):
    async with start_worker(hypervisor=MockHypervisor(missing="not installed")):
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "failed")
        assert service.machines[uid].reason.key == "hypervisor.missing"
        assert service.syncs[0].host.sharings == []


async def test_a_machine_that_can_not_be_started_fails_with_the_reason(service, start_worker, disk):
    fault = error("hypervisor.failed", "The mock would not start", why="it was told so")
    async with start_worker(hypervisor=MockHypervisor(fail={"start": fault})):
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "failed")
        assert service.machines[uid].reason.message == "The mock would not start"


async def test_a_machine_that_dies_is_reported_with_its_last_words(service, start_worker, disk, mock_host):
    async with start_worker():
        await held(service, disk)
        uid = service.launch(disk)
        await service.until(lambda: service.consoles.get(uid))
        mock_host.kill(uid)
        await service.until_state(uid, "failed")
        assert "signal 9" in service.machines[uid].reason.why
        assert service.consoles[uid] == "booted\r\n"


async def test_a_machine_that_powers_itself_off_is_stopped_with_its_whole_console(
    service, start_worker, disk, mock_host
):
    text = "".join(f"line {n} ✓\n" for n in range(30_000))  # several reports' worth
    async with start_worker(hypervisor=MockHypervisor(host=mock_host, console_line=text, ends=True)):
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "stopped")
        assert service.consoles[uid] == text + "\r\n"


async def test_a_machine_outlives_a_crash_of_the_worker_and_is_found_again(
    service, start_worker, disk, mock_host, home
):
    async with start_worker() as started:
        await held(service, disk)
        uid = service.launch(disk)
        await service.until(lambda: service.machine(uid) == "running" and service.consoles.get(uid))
        await started.crash()
    assert mock_host.machines[uid].status.state == "running"
    with mock_host.machines[uid].folder.joinpath("console.log").open("a") as console:
        console.write("still here\n")
    service.machines.clear()
    async with start_worker():
        await service.until(lambda: service.consoles[uid] == "booted\r\nstill here\n")
        assert service.machine(uid) == "running"
        assert mock_host.starts[uid] == 1
        service.order("halt", uid)
        await service.until_state(uid, "stopped")


async def test_a_machine_that_ended_while_the_worker_was_away_is_told(service, start_worker, disk, mock_host):
    async with start_worker() as started:
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "running")
        await started.crash()
    mock_host.kill(uid)
    async with start_worker():
        await service.until_state(uid, "failed")


async def test_a_worker_that_ends_in_an_orderly_way_stops_its_machines_and_says_so(
    service, start_worker, disk, mock_host
):
    async with start_worker():
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "running")
    assert service.machine(uid) == "stopped"
    assert service.machines[uid].reason.key == "interrupted"
    assert not mock_host.machines  # told, and so removed


async def test_machines_that_nobody_knows_are_swept_away_at_the_start(
    service, start_worker, disk, mock_host, home, until
):
    async with start_worker() as started:
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "running")
        await started.crash()
    (home / "journal.db").unlink()
    async with start_worker():
        await until(lambda: uid not in mock_host.machines)


async def test_a_disk_is_not_dropped_while_a_machine_runs_from_it(service, start_worker, disk, home):
    path = home / "copies" / disk.root
    async with start_worker() as started:
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "running")
        service.drop(disk)
        await service.until_state(disk.uid, "dropping")
        await started.crash()  # and a restart changes nothing in it
    async with start_worker():
        await service.until(lambda: len([s for s in service.syncs if s.full]) == 2)
        await asyncio.sleep(0.3)
        assert path.exists()
        assert service.state(disk.uid) == "dropping"
        service.order("halt", uid)
        await service.until_state(disk.uid, "gone")
        assert not path.exists()


async def test_a_machine_that_ended_never_boots_again(service, start_worker, disk, mock_host, until):
    async with start_worker() as started:
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "running")
        mock_host.kill(uid)
        await service.until_state(uid, "failed")
        await until(lambda: uid not in mock_host.machines)
        await until(lambda: not started.worker.machines.machines)
    service.machines.clear()
    async with start_worker() as started:
        await service.until_state(disk.uid, "held")
        await asyncio.sleep(0.3)
        assert not started.worker.machines.machines
        assert mock_host.starts[uid] == 1


@pytest.mark.parametrize(
    ("bound", "value", "key"), [("CONSOLE_MOST", 100, "hypervisor.failed"), ("FREE_LEAST", 2**60, "storage.full")]
)
async def test_a_machine_that_fills_the_disk_is_stopped_and_fails_with_the_reason(
    service, start_worker, disk, mock_host, monkeypatch, bound, value, key
):
    monkeypatch.setattr(f"bitdew.worker.excess.{bound}", value)
    async with start_worker(hypervisor=MockHypervisor(host=mock_host, console_line="flood" * 100)):
        await held(service, disk)
        uid = service.launch(disk)
        await service.until_state(uid, "failed", "stopped")
        assert service.machine(uid) == "failed"
        assert service.machines[uid].reason.key == key


async def test_a_machine_ends_with_its_deployment_though_the_service_is_away(service, start_worker, disk, mock_host):
    async with start_worker() as started:
        await held(service, disk)
        uid = service.launch(disk, ends=datetime.now(UTC) + timedelta(seconds=3))
        await service.until_state(uid, "running")
        await service.down()
        async with asyncio.timeout(20):
            while started.worker.machines.machines[uid].entry.state != "stopped":
                await asyncio.sleep(0.05)
        await service.up()
        await service.until_state(uid, "stopped")


async def test_a_machine_is_given_ports_that_are_free_and_keeps_them_over_a_restart(
    service, start_worker, disk, mock_host
):
    async with start_worker() as started:
        await held(service, disk)
        uid = service.launch(disk, network="user", seeded=False, ports=[PortModel(host=0, guest=22)])
        await service.until_state(uid, "running")
        (given,) = service.machines[uid].ports
        assert given.guest == 22
        assert given.host >= 1024
        assert started.worker.machines.machines[uid].spec().ports == ((given.host, 22),)
        await started.crash()
    service.machines.clear()
    async with start_worker():
        await service.until_state(uid, "running")
        assert service.machines[uid].ports == [given]


async def test_ports_are_at_the_loopback_unless_the_volunteer_names_another_address(
    service, start_worker, disk, mock_host
):
    async with start_worker(ports_address="127.0.0.2") as started:
        await held(service, disk)
        uid = service.launch(disk, network="user", seeded=False, ports=[PortModel(guest=22, address="192.0.2.7")])
        await service.until_state(uid, "running")
        (given,) = service.machines[uid].ports
        assert (given.guest, given.address) == (22, "127.0.0.2")
        spec = started.worker.machines.machines[uid].spec()
        assert (spec.ports, spec.ports_address) == (((given.host, 22),), "127.0.0.2")
        assert started.worker.sharings.labels()["ports.address"] == "127.0.0.2"


async def test_an_address_that_is_none_of_the_hosts_is_told_as_its_volunteers_to_mend(service, start_worker, disk):
    async with start_worker(ports_address="192.0.2.7"):
        await held(service, disk)
        uid = service.launch(disk, network="user", seeded=False, ports=[PortModel(guest=22)])
        await service.until_state(uid, "failed")
        reason = service.machines[uid].reason
        assert (reason.key, "ports_address" in reason.do) == ("port.address", True)


async def test_a_port_that_is_taken_is_not_given(service, start_worker, disk):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with start_worker():
            await held(service, disk)
            wanted = [PortModel(host=taken.getsockname()[1], guest=22)]
            uid = service.launch(disk, network="user", seeded=False, ports=wanted)
            await service.until_state(uid, "failed")
            assert service.machines[uid].reason.key == "port.in-use"
