#!/usr/bin/python3
"""Run as a guest's own script, as root: a kernel with the controllers of version 2, which not every host of tests has.

What the worker does with control groups is done here as it does it; what came of it is printed, for the test outside.
"""

import sys

sys.path.insert(0, "/opt/bitdew")

import os
import subprocess
import time
from pathlib import Path

from bitdew.worker.hypervisors import cgroup

from bitdew.core.ids import new_uid

MIB = 2**20
EATS = "import sys\nsys.stdin.read(1)\nx = b'x' * (200 << 20)\nprint(len(x))\n"
SPINS = "import sys\nsys.stdin.read(1)\nwhile True: pass\n"
TOP = Path("/sys/fs/cgroup")


def child(code: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def eat(groups: cgroup.Groups, memory: int) -> None:
    uid, process = new_uid(), child(EATS)
    refusal = groups.confine(uid, process.pid, memory=memory * MIB, cpus=1)
    process.communicate(b"g")
    ran_out = groups.ran_out(uid)
    groups.forget(uid)
    print(f"ate in {memory} MiB: {refusal!r} {process.returncode} {ran_out} {list(TOP.rglob(f'*{uid}'))}", flush=True)


def spin(groups: cgroup.Groups) -> None:
    uid, both = new_uid(), [child(SPINS), child(SPINS)]
    for process in both:
        refusal = groups.confine(uid, process.pid, memory=64 * MIB, cpus=1)
        assert not refusal, refusal
        process.stdin.write(b"g")
        process.stdin.flush()
    group = TOP / "unit" / f"bitdew-{uid}"

    def used() -> float:
        return int((group / "cpu.stat").read_text().split()[1]) / 1e6

    time.sleep(1)
    before, began = used(), time.monotonic()
    time.sleep(5)
    share = (used() - before) / (time.monotonic() - began)
    groups.forget(uid)
    stays = group.is_dir()
    for process in both:
        process.kill()
        process.communicate()
    groups.forget(uid)
    print(f"spun: {share:.2f} {stays} {group.exists()}", flush=True)


def main() -> None:
    subprocess.run(["mount", "-t", "cgroup2", "none", TOP], check=True)
    (TOP / "cgroup.subtree_control").write_text("+memory +cpu")
    # What systemd makes of Delegate=cpu memory and DelegateSubgroup=worker.
    (TOP / "unit/worker").mkdir(parents=True)
    (TOP / "unit/worker/cgroup.procs").write_text(f"{os.getpid()}\n")
    groups = cgroup.find_groups()
    print(f"groups: {groups}", flush=True)
    cgroup.SPARE = 0
    eat(groups, 64)
    eat(groups, 256)
    spin(groups)


main()
