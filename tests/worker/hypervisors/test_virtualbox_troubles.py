"""VirtualBox in trouble: its service is killed or hangs, it is removed, others end its machines. With the real one."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from bitdew.worker.hypervisors import virtualbox, virtualbox_manage, virtualbox_service, virtualbox_steps
from virtualbox_host import PYTHON

from bitdew.core.errors import BitDewError
from bitdew.hypervisor import MachineStatus

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]


async def launch(driver, spec):
    await driver.prepare(spec)
    return await driver.start(spec)


async def service_of(bench) -> psutil.Process:
    return await asyncio.to_thread(_service_of, bench)


def _service_of(bench) -> psutil.Process:
    found = [p for p in virtualbox_service._processes(bench.folder / "virtualbox") if p.name() == "VBoxSVC"]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def impatient(monkeypatch):
    """VirtualBox has four seconds to answer."""
    for module in (virtualbox, virtualbox_manage, virtualbox_steps):
        monkeypatch.setattr(module, "SOON", 4.0)


@pytest.fixture(params=["VBoxManage", "bindings"])
async def either_bench(request, virtualbox_bench):
    """A bench whose drivers ask VirtualBox in either way."""
    if request.param == "bindings":
        virtualbox_bench.python = str(virtualbox_bench.folder / PYTHON)
    yield virtualbox_bench
    await virtualbox_bench.close()


async def boots(bench) -> None:
    """A further machine boots, ends by itself, and leaves nothing."""
    driver, spec = bench.driver(), bench.spec()
    handle = await launch(driver, spec)
    assert await driver.wait(handle) == MachineStatus("stopped", "its system powered it off")
    await driver.destroy(spec, handle)
    assert not spec.folder.exists()


async def test_machines_whose_service_was_killed_have_failed_and_others_can_be_started(either_bench):
    bench = either_bench
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(driver, spec)
    waiting = asyncio.create_task(driver.wait(handle))
    (await service_of(bench)).kill()
    ended = await waiting
    assert ended.state == "failed"
    assert "service" in ended.reason
    await boots(bench)
    assert await driver.sweep(bench.machines, set()) == [spec.uid]
    assert bench.running(spec.uid) == 0
    assert list(bench.machines.iterdir()) == []


async def test_a_service_that_hangs_keeps_no_machine_from_being_ended_and_is_then_replaced(either_bench, impatient):
    bench = either_bench
    driver, spec = bench.driver(stays=True), bench.spec(stays=True)
    handle = await launch(driver, spec)
    hung = await service_of(bench)
    hung.suspend()
    assert await driver.status(handle) == MachineStatus("running")
    began = time.monotonic()
    with pytest.raises(BitDewError, match="did not pause"):
        await driver.pause(handle)
    assert time.monotonic() - began < 20
    assert hung.is_running(), "a machine depends on it"
    await driver.stop(handle, 0)
    assert bench.running(spec.uid) == 0
    assert await driver.status(handle) == MachineStatus("stopped", "the worker ended it")
    assert not hung.is_running() or hung.status() == psutil.STATUS_ZOMBIE
    await boots(bench)
    await driver.destroy(spec, handle)
    assert list(bench.machines.iterdir()) == []


async def test_a_sweep_ends_an_orphan_while_the_service_hangs(virtualbox_bench, impatient):
    bench = virtualbox_bench
    spec = bench.spec(stays=True)
    await launch(bench.driver(stays=True), spec)
    spec.folder.rename(bench.folder / "elsewhere")  # only its process is left to be found by
    (await service_of(bench)).suspend()
    assert await bench.driver().sweep(bench.machines, set()) == [spec.uid]
    assert bench.running(spec.uid) == 0


async def test_machines_are_followed_and_ended_after_virtualbox_was_removed(either_bench):
    bench = either_bench
    driver, spec, other = bench.driver(stays=True), bench.spec(stays=True), bench.spec(stays=True)
    handle, crashing = await launch(driver, spec), await launch(driver, other)
    program, away = Path(bench.program), bench.folder / "removed"
    os.rename(program, away)
    assert await driver.recover(handle)
    assert await driver.status(handle) == MachineStatus("running")
    bench.crash(crashing)
    assert await driver.wait(crashing) == MachineStatus("failed", "VirtualBox was removed")
    await driver.stop(handle, 0.2)
    assert await driver.status(handle) == MachineStatus("stopped", "the worker ended it")
    with pytest.raises(BitDewError) as caught:
        await launch(driver, bench.spec())
    assert caught.value.key == "hypervisor.missing"
    for gone in (spec, other):
        await driver.destroy(gone, None)
        assert not gone.folder.exists()

    os.rename(away, program)  # it still knows them
    assert set(await driver.sweep(bench.machines, set())) >= {spec.uid, other.uid}
    assert await driver.sweep(bench.machines, set()) == []
    await boots(bench)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda driver, uid: driver._control(uid, "poweroff"), "somebody else ended it through VirtualBox"),
        (lambda driver, uid: driver._control(uid, "savestate"), "VirtualBox saved its state"),
    ],
    ids=["powered off", "saved"],
)
async def test_a_machine_that_others_end_has_failed(virtualbox_bench, end, reason):
    driver, spec = virtualbox_bench.driver(stays=True), virtualbox_bench.spec(stays=True)
    handle = await launch(driver, spec)
    waiting = asyncio.create_task(driver.wait(handle))
    assert await end(driver, spec.uid)
    ended = await waiting
    assert ended.state == "failed"
    assert reason in ended.reason
    await driver.destroy(spec, handle)
    assert not spec.folder.exists()


async def test_a_machine_that_is_told_to_terminate_is_saved_and_has_failed(virtualbox_bench):
    driver, spec = virtualbox_bench.driver(stays=True), virtualbox_bench.spec(stays=True)
    handle = await launch(driver, spec)
    os.kill(int(handle.data["pid"]), signal.SIGTERM)  # as every process is when the host is shut down
    assert "saved" in (await driver.wait(handle)).reason
    await driver.destroy(spec, handle)


async def test_its_processors_step_back_for_the_volunteers_programs(virtualbox_bench):
    driver, spec = virtualbox_bench.driver(stays=True), virtualbox_bench.spec(stays=True)
    handle = await launch(driver, spec)
    threads = await asyncio.to_thread(lambda: list(Path(f"/proc/{handle.data['pid']}/task").iterdir()))
    names = {int(thread.name): await asyncio.to_thread((thread / "comm").read_text) for thread in threads}
    processors = [tid for tid, name in names.items() if name.startswith("EMT")]
    assert processors
    assert min(os.getpriority(os.PRIO_PROCESS, tid) for tid in processors) >= 5
    await driver.destroy(spec, handle)


async def test_the_volunteers_own_service_is_never_ended(virtualbox_bench):
    bench = virtualbox_bench
    await boots(bench)  # its service lasts some seconds
    service = await service_of(bench)
    home = bench.folder / "virtualbox"
    assert not await asyncio.to_thread(virtualbox_service.end_hung_service, bench.folder / "another home")
    assert service.is_running()
    assert await asyncio.to_thread(virtualbox_service.running_machines, home) == set()
    assert await asyncio.to_thread(virtualbox_service.end_hung_service, home)
    await boots(bench)
