"""VirtualBox's driver beyond the contract: where machines are kept, what is left alone, what is said to be missing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from bitdew.worker.hypervisors import VirtualBoxHypervisor, drivers, virtualbox_manage, virtualbox_steps
from bitdew.worker.hypervisors.virtualbox_manage import VBoxManage
from virtualbox_host import INTERPRETED

from bitdew.core.errors import BitDewError
from bitdew.core.ids import new_uid
from bitdew.hypervisor import MachineSpec

LINE = "bitdew boot disk says hello"
VIRTUALBOX = [pytest.mark.field, pytest.mark.timeout(300)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def listens(address: str, port: int) -> bool:
    """Whether anybody listens there: by the system's list, since a guest without a system answers nobody."""
    there = {(one.laddr.ip, one.laddr.port) for one in psutil.net_connections("tcp4") if one.status == "LISTEN"}
    return (address, port) in there


class KilledError(BaseException):
    """Stands for the end of the worker: no `except Exception` of its sees it."""


def program(folder: Path, text: str) -> str:
    """A VBoxManage of our own."""
    path = folder / "VBoxManage"
    path.write_text(f"#!{sys.executable} -P\nimport sys, time\nwords = sys.argv[2:]\n{text}\n", "utf-8")
    path.chmod(0o755)
    return str(path)


async def launch(driver, spec):
    await driver.prepare(spec)
    return await driver.start(spec)


async def booted(driver, spec) -> None:
    async with asyncio.timeout(60):
        while LINE not in driver.console(spec.folder).read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


def manage(bench, home: Path, *words: str) -> str:
    """VBoxManage as the volunteer runs it, with another home."""
    environment = {"PATH": os.environ["PATH"], "VBOX_USER_HOME": str(home)}
    done = subprocess.run([bench.program, "-q", *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def stored(images):
    uid = new_uid()
    return MachineSpec(uid, images / "stays.img", images / "machines" / uid, memory=32 * 2**20)


# Without VirtualBox ---------------------------------------------------------------------------------------------------


def test_both_hypervisors_are_tried_qemu_first(tmp_path):
    assert [driver.name for driver in drivers(tmp_path)] == ["qemu", "virtualbox"]


async def test_a_host_without_virtualbox_is_told_how_to_install_it(tmp_path):
    driver = VirtualBoxHypervisor(tmp_path / "home", program="no-such-VBoxManage")
    assert await driver.fingerprint() is None
    assert "no" in driver.missing
    assert "virtualbox.org" in driver.missing
    assert not (tmp_path / "home").exists()


async def test_a_virtualbox_that_is_too_old_is_not_announced(tmp_path):
    driver = VirtualBoxHypervisor(tmp_path / "home", program=program(tmp_path, 'print("6.1.50r161033")'))
    assert await driver.fingerprint() is None
    assert "6.1.50 is older than 7.0" in driver.missing


async def test_a_virtualbox_that_starts_nothing_is_not_announced_and_says_why(tmp_path):
    text = (
        'if words == ["--version"]: print("7.2.22r175245")\n'
        'elif words[0] == "showvminfo": sys.exit("VBOX_E_OBJECT_NOT_FOUND")\n'
        'elif words[0] == "startvm": sys.exit("VBoxManage: error: AMD-V is disabled in the BIOS (VERR_SVM_DISABLED)")'
    )
    driver = VirtualBoxHypervisor(tmp_path / "home", program=program(tmp_path, text))
    assert await driver.fingerprint() is None
    assert "AMD-V is disabled in the BIOS" in driver.missing


async def test_a_full_disk_is_told_as_one(stored, tmp_path):
    text = (
        'if words[0] == "showvminfo": sys.exit("VBOX_E_OBJECT_NOT_FOUND")\n'
        'if words[0] == "createmedium": sys.exit("VBoxManage: error: Failed to create medium (VERR_DISK_FULL)")'
    )
    driver = VirtualBoxHypervisor(tmp_path / "home", program=program(tmp_path, text))
    with pytest.raises(BitDewError) as caught:
        await driver.prepare(stored)
    assert caught.value.key == "storage.full"


async def test_a_service_that_was_just_ending_is_asked_again(stored, tmp_path):
    tried = tmp_path / "tried"
    text = (
        f"from pathlib import Path\ntried = Path({str(tried)!r})\n"
        'if words[0] == "createmedium" and not tried.exists():\n'
        '    tried.touch()\n    sys.exit("VBoxManage: error: Failed to create the VirtualBox object!")\n'
        'if words[0] == "showvminfo": sys.exit("VBOX_E_OBJECT_NOT_FOUND")'
    )
    driver = VirtualBoxHypervisor(tmp_path / "home", program=program(tmp_path, text))
    await driver.prepare(stored)
    assert tried.exists()


async def test_a_vboxmanage_that_hangs_is_stopped_in_time(stored, tmp_path, monkeypatch):
    monkeypatch.setattr(virtualbox_manage, "SOON", 0.5)
    driver = VirtualBoxHypervisor(tmp_path / "home", program=program(tmp_path, "time.sleep(60)"))
    began = time.monotonic()
    with pytest.raises(BitDewError, match="did not answer within"):
        await driver.prepare(stored)
    assert time.monotonic() - began < 10


# With the real one ----------------------------------------------------------------------------------------------------


class TestWithVirtualBox:
    """Each test has a VirtualBox to itself."""

    pytestmark = VIRTUALBOX

    async def test_it_is_announced_by_its_series_and_its_trial_leaves_nothing(self, virtualbox_bench):
        driver = virtualbox_bench.driver()
        found = await driver.fingerprint()
        assert found is not None
        assert found.sharing.version == ".".join(found.details["version"].split(".")[:2])
        assert found.accelerator == "interpreter"
        home = virtualbox_bench.folder / "virtualbox"
        assert not (home / "trial").exists()
        assert await driver.sweep(virtualbox_bench.machines, set()) == []

    async def test_without_its_kernel_module_it_is_not_announced(self, virtualbox_bench):
        driver = VirtualBoxHypervisor(virtualbox_bench.folder / "plain", program=virtualbox_bench.program)
        assert await driver.fingerprint() is None
        assert "starts no machine" in driver.missing
        assert "vboxdrv" in driver.missing

    async def test_the_volunteers_own_machines_are_neither_seen_nor_shown_ours(self, virtualbox_bench):
        bench, own = virtualbox_bench, virtualbox_bench.folder / "own"
        manage(bench, own, "createvm", "--name", "mine", "--basefolder", str(own / "machines"), "--register")
        manage(bench, own, "modifyvm", "mine", *INTERPRETED)
        manage(bench, own, "startvm", "mine", "--type", "headless")  # their VirtualBox is open while ours runs
        driver, spec = bench.driver(stays=True), bench.spec(stays=True)
        await driver.prepare(spec)
        handle = await driver.start(spec)
        assert spec.uid not in manage(bench, own, "list", "vms")
        assert await driver.sweep(bench.machines, set()) == [spec.uid]
        assert (await driver.status(handle)).state == "stopped"
        assert '"mine"' in manage(bench, own, "list", "runningvms")

    async def test_a_machine_whose_preparation_was_cut_off_is_made_anew(self, virtualbox_bench):
        driver, spec = virtualbox_bench.driver(), virtualbox_bench.spec()
        await driver.prepare(spec)
        (spec.folder / "prepared").unlink()  # as if the worker had been killed before its last step
        await driver.prepare(spec)
        handle = await driver.start(spec)
        assert (await driver.wait(handle)).state == "stopped"

    async def test_a_start_whose_handle_was_lost_is_not_repeated(self, virtualbox_bench):
        driver, spec = virtualbox_bench.driver(), virtualbox_bench.spec()
        await driver.prepare(spec)
        handle = await driver.start(spec)
        ended = await driver.wait(handle)
        (spec.folder / "handle.json").unlink()  # as if the worker had been killed before it wrote it
        again = await driver.start(spec)
        assert again.uid == handle.uid
        assert virtualbox_bench.running(spec.uid) == 0
        assert await driver.status(again) == ended

    async def test_a_machine_whose_folder_is_gone_is_ended_and_forgotten(self, virtualbox_bench):
        bench = virtualbox_bench
        driver, spec = bench.driver(stays=True), bench.spec(stays=True)
        await driver.prepare(spec)
        await driver.start(spec)
        spec.folder.rename(bench.folder / "elsewhere")
        assert await driver.sweep(bench.machines, set()) == [spec.uid]
        assert bench.running(spec.uid) == 0
        assert await driver.sweep(bench.machines, set()) == []

    async def test_an_image_at_a_path_with_spaces_and_letters_of_any_kind_boots(self, virtualbox_bench):
        folder = virtualbox_bench.folder / "Größe, 'zwei' & more"
        folder.mkdir()
        image = virtualbox_bench.image().rename(folder / "ends.img")
        driver, spec = virtualbox_bench.driver(), virtualbox_bench.spec(image=image)
        await driver.prepare(spec)
        handle = await driver.start(spec)
        assert (await driver.wait(handle)).reason == "its system powered it off"
        assert json.loads((spec.folder / "handle.json").read_text())["uid"] == spec.uid

    async def test_a_paused_machine_stands_still_goes_on_and_can_be_ended(self, virtualbox_bench):
        driver, spec = virtualbox_bench.driver(stays=True), virtualbox_bench.spec(stays=True)
        handle = await launch(driver, spec)
        process = psutil.Process(int(handle.data["pid"]))
        began = time.monotonic()
        await driver.pause(handle)
        took = time.monotonic() - began
        await driver.pause(handle)  # again: nothing happens
        assert await driver.recover(handle)
        used = sum(process.cpu_times()[:2])
        await asyncio.sleep(1.0)
        assert sum(process.cpu_times()[:2]) - used < 0.3, "its processors stand still"
        assert driver.console(spec.folder).read_bytes() == b""
        await driver.resume(handle)
        await driver.resume(handle)
        await booted(driver, spec)
        await driver.pause(handle)
        await driver.stop(handle, grace=0)
        assert (await driver.status(handle)).reason == "the worker ended it"
        with pytest.raises(BitDewError, match="poweroff"):
            await driver.pause(handle)
        assert took < 1.0

    async def test_a_screenshot_is_a_picture_of_the_screen(self, virtualbox_bench, tmp_path):
        driver, spec = virtualbox_bench.driver(stays=True), virtualbox_bench.spec(stays=True)
        handle = await launch(driver, spec)
        await driver.screenshot(handle, tmp_path / "screen.png")
        assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        await driver.destroy(spec, handle)
        with pytest.raises(BitDewError):
            await driver.screenshot(handle, tmp_path / "again.png")
        assert not (tmp_path / "again.png").exists()

    async def test_a_machine_saved_at_any_moment_of_its_boot_goes_on_however_it_ended(self, virtualbox_bench):
        """Without its network boot ROM away, those saved in the first third of a second stood still for ever."""
        driver, spec = virtualbox_bench.driver(stays=True), virtualbox_bench.spec(stays=True)
        handle = await launch(driver, spec)
        for name in ("first", "second", "third"):
            await driver.snapshot(handle, name)
        for name, killed in (("first", True), ("second", False), ("third", True), ("first", False)):
            if killed:
                virtualbox_bench.crash(handle)
                await driver.wait(handle)
            handle = await driver.restore(spec, name)
            await booted(driver, spec)
        await driver.destroy(spec, handle)
        assert await driver.sweep(virtualbox_bench.machines, set()) == []

    async def test_a_port_that_is_taken_in_the_last_moment_is_noticed(self, virtualbox_bench, monkeypatch):
        monkeypatch.setattr(virtualbox_steps, "_check_ports", lambda _spec: None)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            ports = ((taken.getsockname()[1], 22),)
            driver, spec = virtualbox_bench.driver(), virtualbox_bench.spec(network="user", ports=ports)
            with pytest.raises(BitDewError, match=f"port {ports[0][0]}"):
                await launch(driver, spec)
            assert virtualbox_bench.running(spec.uid) == 0
        handle = await driver.start(spec)
        assert (await driver.wait(handle)).reason == "its system powered it off"

    async def test_a_machine_that_goes_on_from_a_snapshot_has_the_ports_that_it_has_now(self, virtualbox_bench):
        driver = virtualbox_bench.driver(stays=True)
        before, after = free_port(), free_port()
        spec = virtualbox_bench.spec(stays=True, network="user", ports=((before, 22),))
        await launch(driver, spec)
        assert listens("127.0.0.1", before)
        await driver.snapshot(await driver.start(spec), "a")
        moved = replace(spec, ports=((after, 22),), ports_address="127.0.0.2")
        handle = await driver.restore(moved, "a")
        assert (listens("127.0.0.2", after), listens("127.0.0.1", after), listens("127.0.0.1", before)) == (
            True,
            False,
            False,
        )
        await driver.destroy(moved, handle)

    async def test_a_worker_killed_before_or_after_any_command_is_gone_on_from(self, virtualbox_bench, monkeypatch):
        bench, told = virtualbox_bench, []
        really = VBoxManage.run

        def run(self, *words, within=60.0):
            if left == [0]:
                raise KilledError
            left[:] = [left[0] - 1] if left else []
            told.append(words[0])
            answer = really(self, *words, within=within)
            if words[0] == "startvm" and left == [0]:
                raise KilledError  # it runs, and nobody has its handle
            return answer

        monkeypatch.setattr(VBoxManage, "run", run)
        left: list[int] = []
        await launch(bench.driver(stays=True), spec := bench.spec(stays=True))
        await bench.driver().destroy(spec, None)
        steps = told.index("startvm") + 2  # so that the last one is killed after the start
        for step in range(steps):
            spec, left[:] = bench.spec(stays=True), [step]
            with pytest.raises(KilledError):
                await launch(bench.driver(stays=True), spec)
            left.clear()
            driver = bench.driver(stays=True)
            handle = await launch(driver, spec)
            assert bench.running(spec.uid) == 1, told
            assert await driver.recover(handle)
            await driver.destroy(spec, handle)
            assert bench.running(spec.uid) == 0
        assert await bench.driver().sweep(bench.machines, set()) == []
        assert list(bench.machines.iterdir()) == []
