"""The benches on which drivers are tried: one for the mock, one for the real QEMU, one for the real VirtualBox."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from bitdew.worker.hypervisors import QemuHypervisor, VirtualBoxHypervisor
from virtualbox_host import INTERPRETED, PYTHON, UNHURRIED, virtualbox_host

from bitdew.bootdisk import write_boot_disk
from bitdew.core.ids import Uid, new_uid
from bitdew.hypervisor import Handle, Hypervisor, MachineSpec
from bitdew.testing.mock_hypervisor import MockHost, MockHypervisor

LINE = "bitdew boot disk says hello"
MIB = 1024 * 1024


@dataclass
class Bench:
    """A host with images, on which worker after worker makes a driver of its own."""

    folder: Path
    drivers: list[Hypervisor] = field(default_factory=list)

    @property
    def machines(self) -> Path:
        return self.folder / "machines"

    def image(self, *, stays: bool = False) -> Path:
        return self.folder / ("stays.img" if stays else "ends.img")

    def spec(self, *, stays: bool = False, image: Path | None = None, **changes: Any) -> MachineSpec:
        uid = new_uid()
        return MachineSpec(uid, image or self.image(stays=stays), self.machines / uid, memory=32 * MIB, **changes)

    def iso(self) -> Path:
        """An ISO as far as its first volume descriptor."""
        path = self.folder / "seed.iso"
        path.write_bytes(bytes(16 * 2048) + b"\x01CD001\x01" + bytes(2041) + b"\xffCD001\x01" + bytes(2041))
        return path

    def driver(self, *, stays: bool = False) -> Hypervisor:
        driver = self.make(stays=stays)
        self.drivers.append(driver)
        return driver

    def make(self, *, stays: bool) -> Hypervisor:
        raise NotImplementedError

    def crash(self, handle: Handle) -> None:
        raise NotImplementedError

    def running(self, uid: Uid) -> int:
        raise NotImplementedError

    async def close(self) -> None:
        for driver in self.drivers:
            await driver.close()


@dataclass
class MockBench(Bench):
    host: MockHost = field(default_factory=MockHost)

    def make(self, *, stays: bool) -> Hypervisor:
        return MockHypervisor(console_line=LINE, ends=not stays, host=self.host)

    def crash(self, handle: Handle) -> None:
        self.host.kill(handle.uid)

    def running(self, uid: Uid) -> int:
        machine = self.host.machines.get(uid)
        return self.host.starts[uid] if machine is not None and machine.status.state == "running" else 0


@dataclass
class QemuBench(Bench):
    def make(self, *, stays: bool = False) -> QemuHypervisor:
        return QemuHypervisor(accelerator="tcg")

    def crash(self, handle: Handle) -> None:
        os.kill(int(handle.data["pid"]), signal.SIGKILL)

    def running(self, uid: Uid) -> int:
        return len(processes_with(f"bitdew-{uid}"))

    async def close(self) -> None:
        await super().close()
        for process in processes_below(self.machines):  # a failed test must not leave machines behind
            process.kill()


@dataclass
class VirtualBoxBench(Bench):
    program: str = "VBoxManage"
    python: str = ""

    def make(self, *, stays: bool = False) -> VirtualBoxHypervisor:
        home, extra = self.folder / "virtualbox", UNHURRIED if stays else INTERPRETED
        return VirtualBoxHypervisor(home, program=self.program, extra_modifyvm=extra, python=self.python)

    def crash(self, handle: Handle) -> None:
        os.kill(int(handle.data["pid"]), signal.SIGKILL)

    def running(self, uid: Uid) -> int:
        return len(processes_with(f"bitdew-{uid}"))


def processes_with(marker: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if marker in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def processes_below(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if Path(process.cwd()).is_relative_to(folder) and process.pid != os.getpid():
                found.append(process)
    return found


def require_qemu() -> None:
    missing = [name for name in ("qemu-system-x86_64", "qemu-img") if shutil.which(name) is None]
    if missing:
        reason = f"*** QEMU IS NOT TESTED: {', '.join(missing)} not found (apt install qemu-system-x86 qemu-utils)"
        if os.environ.get("BITDEW_REQUIRE_QEMU") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def images(tmp_path):
    """A folder with two disks: one that powers its machine off, one that stays."""
    for name, power_off in (("ends.img", True), ("stays.img", False)):
        write_boot_disk(tmp_path / name, line=LINE, size=MIB, power_off=power_off, seed=b"bench")
    return tmp_path


VIRTUALBOX, BOUND = (
    pytest.param(name, marks=[pytest.mark.field, pytest.mark.timeout(300)]) for name in ("virtualbox", "bindings")
)


@pytest.fixture(params=["mock", "qemu", VIRTUALBOX, BOUND])
async def bench(request, images):
    if request.param in {"virtualbox", "bindings"}:
        made = request.getfixturevalue("virtualbox_bench")
        made.python = str(made.folder / PYTHON) if request.param == "bindings" else ""
        yield made
        await made.close()
        return
    if request.param == "qemu":
        require_qemu()
    made = MockBench(images) if request.param == "mock" else QemuBench(images)
    yield made
    await made.close()


@pytest.fixture(params=["qemu", VIRTUALBOX])
def real_bench(request):
    """A bench whose machines run what is on their disks."""
    return request.getfixturevalue(f"{request.param}_bench")


@pytest.fixture
def virtualbox_bench(images):
    with virtualbox_host(images) as program:
        yield VirtualBoxBench(images, program=str(program))


@pytest.fixture
async def qemu_bench(images):
    require_qemu()
    made = QemuBench(images)
    yield made
    await made.close()
