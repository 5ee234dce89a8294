"""What a machine's own system sees of its seed and its network, in the real QEMU and the real VirtualBox."""

from __future__ import annotations

import asyncio
import hashlib
import socket

import pycdlib
import pytest
from small_guests import LABEL_LENGTH, datagram_sender, label_reader, write_disk

from bitdew.core.errors import BitDewError


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def launch(driver, spec):
    await driver.prepare(spec)
    return await driver.start(spec)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def seed(tmp_path):
    path = tmp_path / "seeds" / "seed.iso"
    path.parent.mkdir()
    iso = pycdlib.PyCdlib()
    iso.new(vol_ident="cidata")
    iso.write(str(path))
    iso.close()
    return path


async def test_a_machine_reads_its_seed_and_two_share_one(real_bench, seed, tmp_path):
    image, before = write_disk(tmp_path / "reads.img", label_reader()), digest(seed)
    driver, specs = real_bench.driver(), [real_bench.spec(image=image, seed=seed) for _ in range(2)]
    handles = [await launch(driver, spec) for spec in specs]
    for spec in specs:
        async with asyncio.timeout(60):
            while len(told := driver.console(spec.folder).read_bytes()) < LABEL_LENGTH:
                await asyncio.sleep(0.05)
        assert told == b"cidata".ljust(LABEL_LENGTH)
    for spec, handle in zip(specs, handles, strict=True):
        await driver.destroy(spec, handle)
    assert digest(seed) == before
    third = real_bench.spec(image=image, seed=seed)  # nothing of the others is in its way
    await driver.destroy(third, await launch(driver, third))


async def test_a_machine_on_a_network_reaches_a_service_on_the_hosts_loopback(real_bench, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.setblocking(False)
        sender = datagram_sender(service.getsockname()[1], b"a machine says hello")
        driver = real_bench.driver()
        spec = real_bench.spec(image=write_disk(tmp_path / "sends.img", sender), network="user")
        handle = await launch(driver, spec)
        async with asyncio.timeout(60):
            text, (sender_address, _) = await asyncio.get_running_loop().sock_recvfrom(service, 100)
        assert (text, sender_address) == (b"a machine says hello", "127.0.0.1")
        await driver.destroy(spec, handle)


async def test_a_machines_ports_are_open_on_the_loopback_alone_and_only_while_it_runs(real_bench):
    port = free_port()
    driver = real_bench.driver(stays=True)
    spec, other = (real_bench.spec(stays=True, network="user", ports=((port, 22),)) for _ in range(2))
    handle = await launch(driver, spec)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.2", port)
    await driver.prepare(other)
    with pytest.raises(BitDewError, match=str(port)) as caught:
        await driver.start(other)
    assert caught.value.key == "hypervisor.failed"
    assert real_bench.running(other.uid) == 0
    await driver.destroy(spec, handle)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    again = await driver.start(other)  # the port is free now
    assert await driver.recover(again)
    await driver.destroy(other, again)
