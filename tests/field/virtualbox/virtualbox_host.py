"""A host with the real VirtualBox, for one test: VBoxManage to run, and a folder that it sees at the same path.

VirtualBox lives in the folder that install.sh fills. It runs in name spaces of its own: its mounts and processes are
seen by nobody else and end with the test, whatever happens. The installation itself is mounted read-only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

FOLDER = Path(os.environ.get("BITDEW_VIRTUALBOX", "/var/cache/bitdew-test/virtualbox"))
ROOT = FOLDER / "root"
INTERPRETED = ("--vm-execution-engine", "recompiler")
"""For modifyvm: there is no kernel module where tests run."""
UNHURRIED = (*INTERPRETED, "--bios-boot-menu", "messageandmenu")
"""For modifyvm: the firmware waits three seconds before it boots, in which tests can do something else first."""

PYTHON = "PythonWithBindings"
"""Beside VBoxManage: the Python that VirtualBox's own bindings were built for."""

SETUP = """
set -e
mount --bind "$1" "$1"
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
mount -t tmpfs tmpfs "$1/run"
mkdir -p "$1$2"
mount --bind "$2" "$1$2"
mount -o remount,bind,ro "$1"
echo ready
exec sleep infinity
"""


def require_virtualbox() -> None:
    """Skip the test loudly where there is no VirtualBox, or fail it where that is demanded."""
    reason = ""
    if not (FOLDER / "ready").is_file():
        reason = f"no VirtualBox in {FOLDER}: run {Path(__file__).with_name('install.sh')} {FOLDER} (root, 3 minutes)"
    elif os.geteuid() != 0:
        reason = "only root can enter its folder"
    elif missing := [tool for tool in ("unshare", "nsenter", "chroot") if shutil.which(tool) is None]:
        reason = f"{', '.join(missing)} not found"
    if reason:
        loud = f"*** VIRTUALBOX IS NOT TESTED: {reason}"
        if os.environ.get("BITDEW_REQUIRE_VIRTUALBOX") == "1":
            pytest.fail(loud)
        pytest.skip(loud)


@contextmanager
def virtualbox_host(folder: Path) -> Iterator[Path]:
    """Let VirtualBox see `folder`; VBoxManage, to be run from outside. What it started ends with the block."""
    require_virtualbox()
    command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    command += ["sh", "-c", SETUP, "sh", str(ROOT), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as spaces:
        try:
            assert spaces.stdout is not None
            assert spaces.stdout.readline() == "ready\n"
            (init,) = psutil.Process(spaces.pid).children()
            space = Path(f"/proc/{init.pid}/ns/pid").readlink()
            _entrance(folder, init.pid, PYTHON, "/usr/bin/python3")
            yield _entrance(folder, init.pid, "VBoxManage", "/usr/lib/virtualbox/VBoxManage")
        finally:
            spaces.kill()  # its child, the first process of the name space, is killed with it, and with that all others
    deadline = time.monotonic() + 10
    while left := _inside(space):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.05)
    assert str(FOLDER) not in Path("/proc/self/mountinfo").read_text("utf-8")


def _entrance(folder: Path, init: int, name: str, inside: str) -> Path:
    """A program that is the one inside for whoever runs it outside; the environment is passed on."""
    program = folder / name
    program.write_text(
        f"#!/bin/sh\nexec nsenter --target {init} --mount --pid chroot '{ROOT}' /usr/bin/env PATH=/usr/bin:/bin "
        f"USER=root LOGNAME=root HOME='{folder}' {inside} \"$@\"\n",
        "utf-8",
    )
    program.chmod(0o755)
    return program


def _inside(space: Path) -> list[int]:
    """The processes in the name space of processes."""
    found = []
    for pid in psutil.pids():
        try:
            if Path(f"/proc/{pid}/ns/pid").readlink() == space:
                found.append(pid)
        except OSError:
            continue
    return found
