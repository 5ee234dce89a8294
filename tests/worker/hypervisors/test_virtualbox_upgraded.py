"""A VirtualBox that is replaced, breaks or goes is what it is now; and a machine has ended when its process has."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from bitdew.worker.hypervisors import VirtualBoxHypervisor
from bitdew.worker.hypervisors import virtualbox as module
from bitdew.worker.hypervisors import virtualbox_command as command
from bitdew.worker.sharings import drivers as sharings
from bitdew.worker.sharings.drivers import Drivers

from bitdew.clock import SystemClock
from bitdew.core.errors import BitDewError
from bitdew.core.ids import new_uid
from bitdew.hypervisor import Handle, MachineSpec, MachineStatus

WORKS = """
case "$2" in
  --version) echo %sr175245;;
  showvminfo) echo VBOX_E_OBJECT_NOT_FOUND; exit 1;;
esac"""
BREAKS = (
    WORKS
    + """
case "$2" in startvm|createmedium) echo 'VBoxManage: error: no kernel module'; exit 1;; esac"""
)


def lingering(uid) -> subprocess.Popen:
    """A process like a machine's, which ends when its input does."""
    words = ["--comment", f"bitdew-{uid}", "--startvm", command.identity(uid)]
    return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", *words], stdin=subprocess.PIPE)


@pytest.fixture
def drivers():
    return Drivers(SystemClock(), lambda *_: None)


@pytest.fixture
def driver(tmp_path, programs):
    programs("VBoxManage", WORKS % "7.1.4")
    return VirtualBoxHypervisor(tmp_path / "home")


async def test_it_is_asked_again_when_its_program_is_another(driver, drivers, programs):
    await drivers.probe([driver])
    assert drivers.found["virtualbox"].sharing.version == "7.1"
    assert await asyncio.to_thread(drivers._changed) == []

    new = programs("VBoxManage", WORKS % "7.2.22")
    assert await asyncio.to_thread(drivers._changed) == [driver]
    await drivers._ask([driver])
    assert drivers.found["virtualbox"].sharing.version == "7.2"

    await asyncio.to_thread(new.unlink)
    await drivers._ask(await asyncio.to_thread(drivers._changed))
    assert drivers.found == {}
    assert driver.missing
    assert list(drivers.hypervisors) == ["virtualbox"], "its machines are still to be ended"


async def test_one_that_makes_no_machine_any_more_is_withdrawn_with_the_reason(
    driver, drivers, programs, images, monkeypatch
):
    monkeypatch.setattr(sharings, "DOUBT_SECONDS", 0.0)
    await drivers.probe([driver])
    programs("VBoxManage", BREAKS % "7.1.4")
    # What is broken lies elsewhere: the program is the one that it was.
    driver._known._seen = await asyncio.to_thread(sharings.signature, driver._known._files)
    uid = new_uid()
    spec = MachineSpec(uid, images / "ends.img", images / "machines" / uid)
    assert await driver.fingerprint() is not None
    assert not driver.doubtful
    with pytest.raises(BitDewError, match="createmedium"):
        await driver.prepare(spec)
    assert driver.doubtful
    assert drivers._is_doubted(driver)
    await drivers._ask([driver])
    assert drivers.found == {}
    assert "no kernel module" in driver.missing
    assert not driver.doubtful


async def test_a_machine_has_ended_when_its_process_has_and_not_when_virtualbox_says_so(driver, programs, tmp_path):
    uid = new_uid()
    asked = tmp_path / "asked"
    programs("VBoxManage", f"""touch {asked}; echo 'VMState="poweroff"'""")
    (tmp_path / uid).mkdir()
    with lingering(uid) as process:
        waiting = asyncio.create_task(driver.wait(Handle("virtualbox", uid, {"pid": 0, "folder": str(tmp_path / uid)})))
        async with asyncio.timeout(30):
            while not asked.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
        process.stdin.close()
        assert await waiting == MachineStatus("stopped", "its system powered it off")


async def test_what_is_left_of_a_machine_that_has_ended_is_not_waited_for_without_end(
    driver, programs, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_LEFT_WITHIN", 0.1)
    uid = new_uid()
    programs("VBoxManage", """echo 'VMState="poweroff"'""")
    (tmp_path / uid).mkdir()
    with lingering(uid) as process:
        handle = Handle("virtualbox", uid, {"pid": process.pid, "folder": str(tmp_path / uid)})
        assert (await driver.wait(handle)).state == "stopped"
        assert process.wait(10) == -9
