"""Control groups: by the kernel's own, where it gives us some, and by a folder that looks like them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from bitdew.worker.hypervisors import cgroup
from bitdew.worker.hypervisors.cgroup import Groups, find_groups
from bitdew.worker.hypervisors.priority import step_back

from bitdew.core.ids import Uid, new_uid

TOP = os.environ.get("BITDEW_TEST_GROUPS", "")
"""A folder of control groups of version 1 that this process may make groups in and is watched by nobody through: the
kernel ends a process in one. For example: /sys/fs/cgroup."""
GROUPS = Groups(1, {name: Path(TOP) / name for name in ("memory", "cpu")}) if TOP else None
KERNEL = pytest.mark.skipif(GROUPS is None, reason="NOT TESTED on a real kernel: set BITDEW_TEST_GROUPS to a folder")
TOP_2 = os.environ.get("BITDEW_TEST_GROUPS_2", "")
"""The same of version 2, with any controller at all. For example: /sys/fs/cgroup/unified."""
MIB = 2**20
EATS = "import sys\nsys.stdin.read(1)\nx = b'x' * (200 << 20)\nprint(len(x))\n"
SPINS = "import sys\nsys.stdin.read(1)\nwhile True: pass\n"


@pytest.fixture
def uid():
    made = new_uid()
    yield made
    if GROUPS:
        GROUPS.forget(made)
        assert not any(folder.exists() for folder in GROUPS._folders(made))


def child(code):
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@KERNEL
def test_the_kernel_ends_who_takes_more_memory_than_its_group_has(uid, monkeypatch):
    monkeypatch.setattr(cgroup, "SPARE", 0)
    process = child(EATS)
    assert GROUPS.confine(uid, process.pid, memory=64 * MIB, cpus=1) == ""
    assert not GROUPS.ran_out(uid)
    process.communicate(b"g", timeout=60)
    assert process.returncode == -9
    assert GROUPS.ran_out(uid)


@KERNEL
def test_the_spare_is_there_beside_the_memory(uid):
    process = child(EATS)
    assert GROUPS.confine(uid, process.pid, memory=64 * MIB, cpus=1) == ""
    out, _ = process.communicate(b"g", timeout=60)
    assert (process.returncode, int(out)) == (0, 200 * MIB)


@KERNEL
def test_two_that_would_use_two_processors_share_one(uid):
    both = [child(SPINS), child(SPINS)]
    try:
        for process in both:
            assert GROUPS.confine(uid, process.pid, memory=256 * MIB, cpus=1) == ""
        for process in both:
            process.stdin.write(b"g")
            process.stdin.flush()
        seen = [psutil.Process(process.pid) for process in both]
        began, before = time.monotonic(), sum(sum(one.cpu_times()[:2]) for one in seen)
        time.sleep(2)
        used = sum(sum(one.cpu_times()[:2]) for one in seen) - before
        assert used <= 1.15 * (time.monotonic() - began) + 0.1
    finally:
        for process in both:
            process.kill()
            process.communicate()


@KERNEL
def test_a_group_that_is_not_empty_stays_and_one_that_is_goes(uid):
    process = child(SPINS)
    assert GROUPS.confine(uid, process.pid, memory=64 * MIB, cpus=1) == ""
    GROUPS.forget(uid)
    assert all(folder.is_dir() for folder in GROUPS._folders(uid))
    process.kill()
    process.communicate()
    GROUPS.forget(uid)
    assert not any(folder.exists() for folder in GROUPS._folders(uid))


@KERNEL
def test_a_process_that_is_gone_is_no_disaster(uid):
    process = child("pass")
    process.communicate()
    assert "No such process" in GROUPS.confine(uid, process.pid, memory=64 * MIB, cpus=1)


def delegated(tmp_path, controllers="cpuset cpu io memory pids", inside=""):
    """What a unit with DelegateSubgroup=worker makes, as plain files."""
    root, own = tmp_path / "fs", tmp_path / "own"
    parent = root / "unit.service"
    (parent / "worker").mkdir(parents=True)
    (parent / "cgroup.controllers").write_text(controllers)
    (parent / "cgroup.subtree_control").write_text("")
    (parent / "cgroup.procs").write_text(inside)
    own.write_text("0::/unit.service/worker\n")
    return root, own, parent


def test_of_version_2_a_delegated_group_is_used_beside_the_workers_own(tmp_path):
    root, own, parent = delegated(tmp_path)
    groups = find_groups(root, own)
    assert groups == Groups(2, {"memory": parent, "cpu": parent})
    assert (parent / "cgroup.subtree_control").read_text() == "+memory +cpu"
    uid = new_uid()
    assert groups.confine(uid, 42, memory=100 * MIB, cpus=3) == ""
    made = {path.name: path.read_text() for path in (parent / f"bitdew-{uid}").iterdir()}
    assert made == {
        "memory.max": f"{100 * MIB + cgroup.SPARE}\n",
        "memory.oom.group": "1\n",
        "cpu.max": "300000 100000\n",
        "cpu.weight": "1\n",
        "cgroup.procs": "42\n",
    }
    (parent / f"bitdew-{uid}" / "memory.events").write_text("low 0\nhigh 0\noom 1\noom_kill 1\n")
    assert groups.ran_out(uid)


@pytest.mark.skipif(not TOP_2, reason="NOT TESTED on a real kernel: set BITDEW_TEST_GROUPS_2 to a folder")
def test_of_version_2_the_kernel_takes_a_machine_beside_the_worker_and_its_limit(tmp_path, monkeypatch, uid):
    """With whatever controller the kernel has for it, in the place of memory and cpu."""
    top, parent = Path(TOP_2), Path(TOP_2) / f"bitdew-test-{os.getpid()}"
    controller = (top / "cgroup.controllers").read_text().split()[0]
    passed_on = (top / "cgroup.subtree_control").read_text().split()
    (top / "cgroup.subtree_control").write_text(f"+{controller}")
    (parent / "worker").mkdir(parents=True)
    own, machine, worker = tmp_path / "own", child(SPINS), child(SPINS)
    own.write_text(f"0::/{parent.name}/worker\n")
    monkeypatch.setattr(cgroup, "_CONTROLLERS", (controller, controller))
    try:
        (parent / "worker" / "cgroup.procs").write_text(f"{worker.pid}\n")
        groups = find_groups(top, own)
        assert groups == Groups(2, {controller: parent})
        assert (parent / "cgroup.subtree_control").read_text().split() == [controller]
        made = parent / f"bitdew-{uid}"
        monkeypatch.setattr(Groups, "_values", lambda *_: [(made / "pids.max", "7\n")] if controller == "pids" else [])
        assert groups.confine(uid, machine.pid, memory=MIB, cpus=1) == ""
        assert (made / "cgroup.procs").read_text().split() == [str(machine.pid)]
        assert any(path.name.startswith(f"{controller}.") for path in made.iterdir()), "the controller is there"
        groups.forget(uid)
        assert made.is_dir(), "one runs in it"
        assert find_groups(top, own) == groups, "another worker finds it as it is"
    finally:
        for process in (machine, worker):
            process.kill()
            process.communicate()
        for folder in (made, parent / "worker", parent):
            folder.rmdir()
        if controller not in passed_on:
            (top / "cgroup.subtree_control").write_text(f"-{controller}")


@pytest.mark.parametrize("lacks", ["subgroup", "memory", "room of its own"])
def test_of_version_2_nothing_is_used_that_was_not_given(tmp_path, lacks):
    root, own, _ = delegated(
        tmp_path,
        controllers="cpu pids" if lacks == "memory" else "cpu memory",
        inside="77\n" if lacks == "room of its own" else "",
    )
    if lacks == "subgroup":
        own.write_text("0::/unit.service\n")
    assert find_groups(root, own) is None


def test_of_version_1_both_controllers_are_needed(tmp_path):
    root, own = tmp_path / "fs", tmp_path / "own"
    (root / "memory" / "here").mkdir(parents=True)
    (root / "memory" / "here" / "cgroup.procs").write_text(f"{os.getpid()}\n")
    own.write_text("2:memory:/here\n1:cpu,cpuacct:/\n")
    assert find_groups(root, own) is None
    (root / "cpu,cpuacct").mkdir()
    assert find_groups(root, own) is None
    (root / "cpu,cpuacct" / "cgroup.procs").write_text("")
    assert find_groups(root, own) == Groups(1, {"memory": root / "memory/here", "cpu": root / "cpu,cpuacct"})
    assert find_groups(root, tmp_path / "nothing") is None
    (root / "memory" / "here" / "cgroup.procs").write_text(f"{os.getpid()}\n{os.getppid()}\n")
    assert find_groups(root, own) is None  # another is in it too


@pytest.mark.parametrize("name", ["..", "../x", "", "A" * 32])
def test_only_a_uid_names_a_group_that_is_removed(tmp_path, name):
    groups = Groups(1, {"memory": tmp_path / "a", "cpu": tmp_path / "a"})
    (tmp_path / "a" / f"bitdew-{name}").mkdir(parents=True)
    groups.forget(Uid(name))
    assert (tmp_path / "a").is_dir()


def test_a_session_steps_back_where_the_kernel_groups_by_session():
    path = Path("/proc/self/autogroup")
    if not path.exists():
        pytest.skip("NOT TESTED: this kernel does not group processes by session")
    process = subprocess.Popen(["/bin/sleep", "60"], start_new_session=True)
    try:
        step_back(process.pid, 19)
        assert re.search(r"nice 19$", Path(f"/proc/{process.pid}/autogroup").read_text().strip())
    finally:
        process.kill()
        process.wait()
    step_back(process.pid, 19)  # gone: nothing happens
    assert os.getpid()
