"""Not a test: a worker that starts a machine and is killed by SIGKILL at a named point of the start.

Run as: killed_worker.py POINT IMAGE FOLDER
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from bitdew.worker.hypervisors import QemuHypervisor, machine_folder
from bitdew.worker.hypervisors import qemu as driver_module

from bitdew.core.ids import Uid
from bitdew.hypervisor import MachineSpec


def die(*_args, **_kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def set_trap(point: str) -> None:
    write_handle, popen = machine_folder.write_handle, subprocess.Popen

    def write_and_perhaps_die(folder, driver, uid, data):
        if point == ("before-handle" if data else "before-intent"):
            die()
        handle = write_handle(folder, driver, uid, data)
        if point == ("after-handle" if data else "after-intent"):
            die()
        return handle

    def popen_and_die(command, **options):
        child = popen(command, **options)
        if "-name" in command:
            die()
        return child

    machine_folder.write_handle = write_and_perhaps_die
    if point == "at-fork":
        subprocess.Popen = popen_and_die
    if point == "before-answer":
        driver_module.tell = die


async def main(point: str, image: Path, folder: Path) -> None:
    set_trap(point)
    driver = QemuHypervisor(accelerator="tcg")
    spec = MachineSpec(Uid(folder.name), image, folder, memory=32 * 1024 * 1024)
    await driver.prepare(spec)
    await driver.start(spec)
    die()


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
