"""The boot disk in the real VirtualBox: it boots, says its line, powers itself off, and is not written to."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest
from virtualbox_host import INTERPRETED, virtualbox_host

from bitdew.bootdisk import write_boot_disk

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]

LINE = "bitdew boot disk says hello to VirtualBox"
SIZE = 2 * 1024 * 1024
BOOTED_WITHIN = 120.0


@dataclass
class VirtualBox:
    """VBoxManage inside, and the test's folder outside."""

    program: Path
    folder: Path

    def manage(self, *words: str) -> str:
        run = self.run(*words)
        assert run.returncode == 0, f"VBoxManage {' '.join(words)}: {run.stdout}{run.stderr}{self.logs()}"
        return run.stdout

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.program), "-q", *words]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "VBOX_USER_HOME": str(self.folder / "settings")}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    def logs(self) -> str:
        return "\n".join(path.read_text("utf-8", "replace")[-3000:] for path in self.folder.rglob("VBox*.log"))

    def create(self, name: str, descriptor: str) -> None:
        """A machine with one IDE disk and its first serial port in a file, interpreted: there is no kernel module."""
        self.manage(
            "createvm",
            "--name",
            name,
            "--ostype",
            "Other_64",
            "--basefolder",
            str(self.folder / "machines"),
            "--register",
        )
        self.manage(
            *("modifyvm", name, "--memory", "64", "--cpus", "1", "--nic1", "none"),
            *INTERPRETED,
            *("--firmware-logo-fade-in=off", "--firmware-logo-fade-out=off", "--firmware-logo-display-time=0"),
            *("--uart1", "0x3F8", "4", "--uart-mode1", "file", str(self.folder / "console.log")),
        )
        self.manage("storagectl", name, "--name", "IDE", "--add", "ide", "--controller", "PIIX4")
        self.manage(
            *("storageattach", name, "--storagectl", "IDE", "--port", "0", "--device", "0"),
            *("--type", "hdd", "--medium", str(self.folder / descriptor), "--mtype", "immutable"),
        )

    def state(self, name: str) -> str:
        """ "running", "poweroff", "aborted"; or "changing": VirtualBox refuses to tell, or a session still holds it."""
        told = self.run("showvminfo", name, "--machinereadable")
        found = re.search(r'^VMState="(\w+)"', told.stdout, re.MULTILINE)
        if told.returncode or not found or (found[1] != "running" and "SessionName=" in told.stdout):
            return "changing"
        return found[1]

    def until(self, name: str, state: str) -> None:
        deadline = time.monotonic() + BOOTED_WITHIN
        while (now := self.state(name)) != state:
            assert time.monotonic() < deadline, f"{name} is {now} instead of {state}: {self.logs()}"
            time.sleep(0.3)

    def remove(self, name: str, descriptor: str) -> None:
        self.manage("unregistervm", name, "--delete")
        self.manage("closemedium", "disk", str(self.folder / descriptor))


@pytest.fixture
def virtualbox(tmp_path):
    with virtualbox_host(tmp_path) as program:
        yield VirtualBox(program, tmp_path)


def flat_descriptor(image: Path) -> str:
    """Write a VMDK descriptor beside a raw image, so that VirtualBox takes the image as it is; its name."""
    target = image.with_suffix(".vmdk")
    none = uuid.UUID(int=0)
    target.write_text(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\nRW {image.stat().st_size // 512} FLAT "{image.name}" 0\n#DDB\n'
        'ddb.adapterType = "ide"\nddb.virtualHWVersion = "4"\nddb.geometry.cylinders = "16"\n'
        'ddb.geometry.heads = "16"\nddb.geometry.sectors = "63"\n'
        f'ddb.uuid.image="{uuid.uuid4()}"\nddb.uuid.modification="{uuid.uuid4()}"\n'
        f'ddb.uuid.parent="{none}"\nddb.uuid.parentmodification="{none}"\n',
        "utf-8",
    )
    return target.name


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_boot_disk_says_its_line_and_powers_virtualbox_off(virtualbox, tmp_path):
    image = tmp_path / "base.img"
    write_boot_disk(image, line=LINE, size=SIZE)
    before = digest(image)
    descriptor = flat_descriptor(image)
    virtualbox.create("ends", descriptor)
    virtualbox.manage("startvm", "ends", "--type", "headless")
    virtualbox.until("ends", "poweroff")
    assert (tmp_path / "console.log").read_bytes() == f"{LINE}\r\n".encode()
    log = (tmp_path / "machines/ends/Logs/VBox.log").read_text("utf-8", "replace")
    assert "Changing the VM state from 'RUNNING' to 'POWERING_OFF'" in log  # by itself: nobody told it to
    virtualbox.remove("ends", descriptor)
    assert digest(image) == before
    assert virtualbox.manage("list", "vms").strip() == ""
    assert virtualbox.manage("list", "hdds").strip() == ""
    assert list((tmp_path / "machines").rglob("*.v*")) == []


def test_a_boot_disk_that_stays_runs_in_virtualbox_until_it_is_ended(virtualbox, tmp_path):
    image = tmp_path / "base.img"
    write_boot_disk(image, line=LINE, size=SIZE, power_off=False)
    before = digest(image)
    descriptor = flat_descriptor(image)
    virtualbox.create("stays", descriptor)
    virtualbox.manage("startvm", "stays", "--type", "headless")
    deadline = time.monotonic() + BOOTED_WITHIN
    while LINE.encode() not in (tmp_path / "console.log").read_bytes():
        assert time.monotonic() < deadline, virtualbox.logs()
        time.sleep(0.3)
    time.sleep(1.0)
    assert virtualbox.state("stays") == "running"
    virtualbox.manage("controlvm", "stays", "poweroff")
    virtualbox.until("stays", "poweroff")
    virtualbox.remove("stays", descriptor)
    assert digest(image) == before
