"""What is QEMU's own: its processes, its lock, its monitor, and what is left when the worker is killed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from bitdew.worker.hypervisors import QemuHypervisor, available, machine_folder, priority, probe, qemu_control
from bitdew.worker.hypervisors import qemu as driver_module

from bitdew.core.errors import BitDewError
from bitdew.hypervisor import Handle, MachineSpec, MachineStatus

KILLED_WORKER = Path(__file__).with_name("killed_worker.py")
LINE = b"bitdew boot disk says hello\r\n"


@pytest.fixture
def bench(qemu_bench):
    return qemu_bench


async def booted(driver, spec):
    async with asyncio.timeout(60):
        console = driver.console(spec.folder)
        while not console.exists() or LINE not in console.read_bytes():
            await asyncio.sleep(0.02)


async def launch(driver, spec):
    await driver.prepare(spec)
    return await driver.start(spec)


def own(bench, **options):
    driver = QemuHypervisor(**{"accelerator": "tcg", **options})
    bench.drivers.append(driver)
    return driver


# A worker that is killed ----------------------------------------------------------------------------------------------

NOTHING_RAN = ("before-intent", "after-intent")
MACHINE_RUNS = ("at-fork", "before-handle", "after-handle", "before-answer", "when-started")


@pytest.fixture
def killed(bench):
    """A machine whose worker was killed at a point of its start."""

    def kill_at(point: str) -> MachineSpec:
        spec = bench.spec(stays=True)
        command = [sys.executable, str(KILLED_WORKER), point, str(spec.image), str(spec.folder)]
        run = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert run.returncode == -signal.SIGKILL, run.stderr.decode()
        return spec

    return kill_at


@pytest.mark.parametrize("point", NOTHING_RAN)
async def test_killed_before_the_fork_nothing_runs_and_the_next_worker_starts_it(bench, killed, point):
    spec = await asyncio.to_thread(killed, point)
    assert bench.running(spec.uid) == 0
    driver = bench.driver()
    handle = await launch(driver, spec)
    assert bench.running(spec.uid) == 1
    await driver.destroy(spec, handle)
    assert bench.running(spec.uid) == 0


@pytest.mark.parametrize("point", MACHINE_RUNS)
async def test_killed_after_the_fork_the_next_worker_finds_the_machine_and_starts_no_second(bench, killed, point):
    spec = await asyncio.to_thread(killed, point)
    driver = bench.driver()
    handle = await driver.start(spec)
    assert bench.running(spec.uid) == 1
    assert await driver.recover(handle)
    waiting = asyncio.create_task(driver.wait(handle))
    await booted(driver, spec)
    await driver.stop(handle, grace=0)
    assert (await waiting) == MachineStatus("stopped", "the worker ended it")
    assert bench.running(spec.uid) == 0


@pytest.mark.parametrize("point", NOTHING_RAN + MACHINE_RUNS)
async def test_killed_at_any_point_a_sweep_leaves_no_process_and_no_file(bench, killed, point):
    spec = await asyncio.to_thread(killed, point)
    assert await bench.driver().sweep(bench.machines, set()) == [spec.uid]
    assert bench.running(spec.uid) == 0
    assert list(bench.machines.iterdir()) == []


async def test_a_machine_whose_folder_was_deleted_under_it_is_swept_too(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    await launch(driver, spec)
    await asyncio.to_thread(shutil.rmtree, spec.folder)
    assert bench.running(spec.uid) == 1
    assert await bench.driver().sweep(bench.machines, set()) == [spec.uid]
    assert bench.running(spec.uid) == 0


async def test_a_sweep_leaves_another_workers_machines_alone(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    assert await bench.driver().sweep(bench.folder / "another home", set()) == []
    assert bench.running(spec.uid) == 1
    await driver.destroy(spec, handle)


async def test_a_start_that_is_cancelled_leaves_a_machine_that_is_found(bench, monkeypatch):
    driver, spec = bench.driver(), bench.spec(stays=True)
    await driver.prepare(spec)
    await driver.fingerprint()
    spawn = driver._spawn
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def spawn_and_tell(*args):
        loop.call_soon_threadsafe(begun.set)
        return spawn(*args)

    monkeypatch.setattr(driver, "_spawn", spawn_and_tell)
    starting = asyncio.create_task(driver.start(spec))
    await begun.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert bench.running(spec.uid) == 1
    handle = await bench.driver().start(spec)
    assert bench.running(spec.uid) == 1
    await driver.destroy(spec, handle)


async def test_a_reused_pid_is_not_taken_for_the_machine(bench):
    driver, spec = bench.driver(), bench.spec()
    handle = await launch(driver, spec)
    await driver.wait(handle)
    reused = Handle(handle.driver, handle.uid, handle.data | {"pid": os.getpid()})
    assert not await driver.recover(reused)
    assert (await driver.status(reused)).state == "stopped"
    await driver.destroy(spec, reused)  # and this process is still here


async def test_a_torn_handle_counts_as_never_started(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    await driver.prepare(spec)
    for torn in ("", "{", "[]", '{"driver": "qemu"}', '{"driver": "qemu", "uid": "x", "data": {"pid": "?"}}'):
        (spec.folder / "handle.json").write_text(torn)
        assert await asyncio.to_thread(machine_folder.read_handle, spec.folder) is None
    handle = await driver.start(spec)
    assert json.loads((spec.folder / "handle.json").read_text())["data"] == handle.data
    await driver.destroy(spec, handle)


async def test_a_foreign_handle_is_refused(bench):
    driver, spec = bench.driver(), bench.spec()
    for data in ({}, {"folder": "/"}, {"folder": str(spec.folder.parent)}):
        with pytest.raises(BitDewError) as caught:
            await driver.stop(Handle("qemu", spec.uid, data), 0)
        assert caught.value.key == "input.invalid"


async def test_a_lock_that_a_stranger_holds_is_said_to_be_one(bench, monkeypatch):
    monkeypatch.setattr(driver_module, "_EXEC", 0.05)
    driver, spec = bench.driver(), bench.spec()
    await driver.prepare(spec)
    with machine_folder.claim(spec.folder) as lock:
        assert lock is not None
        for attempt in (driver.start(spec), driver.destroy(spec, None)):
            with pytest.raises(BitDewError, match="no process runs it") as caught:
                await attempt
            assert caught.value.key == "hypervisor.failed"
    await driver.destroy(spec, None)


# Its end --------------------------------------------------------------------------------------------------------------


async def test_a_machine_killed_while_its_worker_was_away_has_failed(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    await driver.close()
    after = bench.driver()
    waiting = asyncio.create_task(after.wait(handle))
    await booted(after, spec)
    bench.crash(handle)
    assert (await waiting) == MachineStatus("failed", "QEMU ended without shutting it down")


async def test_a_machine_ended_by_a_signal_from_outside_has_failed(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    os.kill(handle.data["pid"], signal.SIGTERM)
    assert await driver.wait(handle) == MachineStatus("failed", "a signal from outside ended it")


async def test_a_machine_that_is_the_only_thing_left_of_a_crashed_pc_has_failed(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    bench.crash(handle)
    await driver.wait(handle)
    (spec.folder / "qemu.log").unlink()
    assert await bench.driver().start(spec) == handle  # started once, never again
    assert (await bench.driver().status(handle)).state == "failed"


async def test_a_hung_qemu_is_killed(bench, monkeypatch):
    monkeypatch.setattr(driver_module, "_QUIT", 0.3)
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    os.kill(handle.data["pid"], signal.SIGSTOP)
    await driver.stop(handle, grace=0.2)
    assert bench.running(spec.uid) == 0
    assert await driver.status(handle) == MachineStatus("stopped", "the worker ended it")


async def test_several_may_wait_for_one_end_and_one_may_give_up(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    waiting = [asyncio.create_task(driver.wait(handle)) for _ in range(3)]
    await booted(driver, spec)
    waiting[0].cancel()
    await driver.stop(handle, grace=0)
    assert {(await task).state for task in waiting[1:]} == {"stopped"}


async def test_without_a_pidfd_the_end_is_seen_as_well(bench, monkeypatch):
    def no_pidfd(_pid):
        raise OSError(errno.ENOSYS, "not on this system")

    monkeypatch.setattr(os, "pidfd_open", no_pidfd)
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    waiting = asyncio.create_task(driver.wait(handle))
    await booted(driver, spec)
    await driver.destroy(spec, handle)
    assert (await waiting).state == "stopped"
    assert bench.running(spec.uid) == 0


async def test_a_machine_outlives_its_closed_driver(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    await driver.close()
    assert bench.running(spec.uid) == 1
    after = bench.driver()
    await after.destroy(spec, handle)
    assert bench.running(spec.uid) == 0


# How it is run --------------------------------------------------------------------------------------------------------


async def test_the_process_stands_apart_from_the_worker_and_steps_back_for_the_volunteer(bench, monkeypatch):
    monkeypatch.delenv(priority.VARIABLE)
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    process = psutil.Process(handle.data["pid"])
    assert os.getsid(process.pid) == process.pid  # Ctrl-C at the worker's terminal does not reach it
    assert process.nice() == 19
    assert process.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
    command = process.cmdline()
    assert command[command.index("-nic") + 1] == "none"
    assert "spawn=deny" in command[command.index("-sandbox") + 1]
    assert process.num_fds() > 0
    confined = await asyncio.to_thread(Path(f"/proc/{process.pid}/status").read_text)
    assert re.search(r"Seccomp:\s*2", confined)
    await driver.destroy(spec, handle)


async def test_the_disk_can_be_attached_by_ide(bench):
    driver, spec = own(bench, disk_bus="ide"), bench.spec()
    handle = await launch(driver, spec)
    assert (await driver.wait(handle)).state == "stopped"
    assert driver.console(spec.folder).read_bytes() == LINE


async def test_a_paused_machine_takes_no_cpu_time(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    process = psutil.Process(handle.data["pid"])
    await driver.pause(handle)
    used = sum(process.cpu_times()[:2])
    await asyncio.sleep(1.0)
    assert sum(process.cpu_times()[:2]) - used < 0.1
    await driver.destroy(spec, handle)


async def test_a_restored_machine_has_the_screen_that_it_was_saved_with(bench, tmp_path):
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    await booted(driver, spec)
    await driver.pause(handle)
    await driver.screenshot(handle, tmp_path / "before.png")
    await driver.snapshot(handle, "1")
    handle = await driver.restore(spec, "1")
    before = (tmp_path / "before.png").read_bytes()
    async with asyncio.timeout(20):
        while True:  # its cursor blinks
            await driver.screenshot(handle, tmp_path / "after.png")
            if (tmp_path / "after.png").read_bytes() == before:
                break
            await asyncio.sleep(0.07)
    assert driver.console(spec.folder).read_bytes() == b""
    await driver.destroy(spec, handle)


async def test_ports_are_open_on_the_loopback_while_the_machine_runs(bench):
    with socket.socket() as probe_port:
        probe_port.bind(("127.0.0.1", 0))
        port = probe_port.getsockname()[1]
    driver, spec = bench.driver(), bench.spec(stays=True, network="user", ports=((port, 22),))
    handle = await launch(driver, spec)
    found = [c for c in psutil.Process(handle.data["pid"]).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert [tuple(connection.laddr) for connection in found] == [("127.0.0.1", port)]
    other = bench.spec(stays=True, network="user", ports=((port, 22),))
    with pytest.raises(BitDewError, match=str(port)) as caught:
        await launch(driver, other)
    assert caught.value.key == "hypervisor.failed"
    await driver.destroy(other, None)
    await driver.destroy(spec, handle)


async def test_a_hung_qemu_is_said_not_to_answer_when_it_is_to_pause(bench, monkeypatch):
    monkeypatch.setattr(qemu_control, "_ANSWER", 0.3)
    monkeypatch.setattr(qemu_control, "_GLANCE", 0.3)
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    os.kill(handle.data["pid"], signal.SIGSTOP)
    with pytest.raises(BitDewError, match="did not answer") as caught:
        await driver.pause(handle)
    assert caught.value.key == "hypervisor.failed"
    assert await driver.status(handle) == MachineStatus("running")
    await driver.destroy(spec, handle)


async def test_a_picture_that_can_not_be_written_leaves_nothing(bench):
    driver, spec = bench.driver(), bench.spec(stays=True)
    handle = await launch(driver, spec)
    with pytest.raises(BitDewError) as caught:
        await driver.screenshot(handle, bench.folder / "absent" / "screen.png")
    assert caught.value.key == "storage.failed"
    assert not list(spec.folder.glob("*.png"))
    await driver.destroy(spec, handle)


async def test_paths_may_be_long_and_strange(bench):
    strange = bench.folder / "a, b=c:d %s 'e' \"f\" é" / ("long" * 30)
    strange.mkdir(parents=True)
    image = strange / "disk, of: mine.img"
    await asyncio.to_thread(shutil.copy, bench.image(stays=True), image)
    uid = bench.spec().uid
    spec = MachineSpec(uid, image, strange / uid, memory=32 * 1024 * 1024)
    driver = bench.driver()
    handle = await launch(driver, spec)
    try:
        await booted(driver, spec)
        await driver.stop(handle, grace=0)
        assert await driver.status(handle) == MachineStatus("stopped", "the worker ended it")
    finally:
        await driver.destroy(spec, handle)


async def test_what_qemu_says_is_in_the_error_and_the_start_may_be_repeated(bench):
    driver, spec = bench.driver(), bench.spec()
    await driver.prepare(spec)
    (spec.folder / "disk.qcow2").write_bytes(b"not a disk")
    with pytest.raises(BitDewError, match="qcow2") as caught:
        await driver.start(spec)
    assert caught.value.key == "hypervisor.failed"
    (spec.folder / "disk.qcow2").unlink()
    handle = await launch(driver, spec)
    assert (await driver.wait(handle)).state == "stopped"


async def test_a_half_made_disk_is_made_again(bench):
    driver, spec = bench.driver(), bench.spec()
    await asyncio.to_thread(spec.folder.mkdir, parents=True)
    (spec.folder / "disk.part").write_bytes(b"half a disk")
    handle = await launch(driver, spec)
    assert (await driver.wait(handle)).state == "stopped"


# Whether it is there --------------------------------------------------------------------------------------------------


async def test_a_missing_qemu_is_named_with_the_way_to_install_it(bench):
    driver = own(bench, binary="qemu-system-nothing")
    assert await driver.fingerprint() is None
    assert "qemu-system-nothing not found" in driver.missing
    assert "apt install" in driver.missing
    with pytest.raises(BitDewError, match="qemu-system-nothing") as caught:
        await driver.prepare(bench.spec())
    assert caught.value.key == "hypervisor.missing"
    assert await available([driver]) == []
    assert (await probe([driver]))[0].missing == driver.missing


async def test_a_qemu_that_does_not_start_is_not_announced(bench):
    broken = bench.folder / "qemu-broken"
    broken.write_text("#!/bin/sh\necho 'no such machine' >&2\nexit 1\n")
    broken.chmod(0o755)
    driver = own(bench, binary=str(broken))
    assert await driver.fingerprint() is None
    assert "no such machine" in driver.missing


async def test_a_qemu_without_a_sandbox_runs_machines_too(bench):
    old = bench.folder / "qemu-old"
    old.write_text(
        '#!/bin/sh\nfor a in "$@"; do [ "$a" = -sandbox ] && { echo "-sandbox: unknown" >&2; exit 1; }; done\n'
        'exec qemu-system-x86_64 "$@"\n'
    )
    old.chmod(0o755)
    driver, spec = own(bench, binary=str(old)), bench.spec()
    found = await driver.fingerprint()
    assert found is not None
    assert found.details["sandbox"] == "unknown to this QEMU"
    handle = await launch(driver, spec)
    assert (await driver.wait(handle)).state == "stopped"


async def test_the_fingerprint_is_what_was_tried(bench):
    (probed,) = await probe([bench.driver()])
    version = await asyncio.to_thread(subprocess.check_output, ["qemu-system-x86_64", "--version"], text=True)
    assert probed.fingerprint is not None
    assert probed.fingerprint.sharing.version in version
    assert probed.fingerprint.accelerator == "tcg"
    assert await available([probed.hypervisor]) == [probed.hypervisor]


async def test_a_qemu_that_vanished_since_is_an_error_not_a_crash(bench):
    gone = bench.folder / "qemu-gone"
    gone.symlink_to(shutil.which("qemu-system-x86_64"))
    driver, spec = own(bench, binary=str(gone)), bench.spec()
    await driver.prepare(spec)
    gone.unlink()
    with pytest.raises(BitDewError, match="qemu-gone") as caught:
        await driver.start(spec)
    assert caught.value.key == "hypervisor.failed"
    with contextlib.suppress(BitDewError):
        await driver.destroy(spec, None)
    assert not spec.folder.exists()
