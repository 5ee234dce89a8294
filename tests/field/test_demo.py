"""`bitdew demo` for real: it does what it says, and nothing of it is left, however it ends."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from bitdew.bootdisk import write_boot_disk

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]

HYPERVISOR = shutil.which("qemu-system-x86_64") is not None
INTERRUPTED = 130


class Demo:
    """A demo that runs in `folder`, as from a terminal: in a session of its own."""

    def __init__(self, folder, *arguments, path=None):
        self.folder = folder
        environment = os.environ | {"BITDEW_HOME": str(folder / "untouched")} | ({"PATH": path} if path else {})
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bitdew", "demo", "--dir", folder, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def end(self, seconds=240.0):
        """Its exit code and what it printed, once it has ended."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            for process in self.processes():
                process.kill()
            self.process.kill()
            out, err = self.process.communicate()
            pytest.fail(f"the demo did not end in time: {out}{err}")
        return self.process.returncode, out, err

    def processes(self):
        """Whatever runs in the demo's folder. The demo itself names only the folder above it."""
        mine = f"{self.folder}/bitdew-demo-"
        return [
            process
            for process in psutil.process_iter(["cmdline", "status"])
            if process.info["status"] != psutil.STATUS_ZOMBIE
            and any(mine in part for part in process.info["cmdline"] or ())
        ]

    def left(self):
        """What is there that should not be: processes, files, mounts."""
        with open("/proc/self/mounts") as mounts:
            mounted = [line for line in mounts if str(self.folder) in line]
        return [*self.processes(), *os.listdir(self.folder), *mounted]


@pytest.mark.skipif(not HYPERVISOR, reason="needs QEMU")
def test_the_demo_places_verifies_boots_and_leaves_nothing(tmp_path):
    demo = Demo(tmp_path, "--json", "--workers", "4", "--replicas", "3", "--size", "64MB")
    code, out, err = demo.end()
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert (told["held"], told["verified"], told["booted"], told["clean"]) == (3, 3, True, True)
    assert told["line"] in told["console"]
    assert (told["hypervisor"], told["size"], told["forced"]) == ("qemu", 64 * 2**20, [])
    assert len(told["hosts"]) == 3
    for host in told["hosts"]:
        assert host["verified"]
        assert host["from_repository"] + host["from_peers"] >= told["size"]
    assert 1 <= told["egress_ratio"] < 3.5
    assert demo.left() == []


def test_without_a_hypervisor_it_places_verifies_and_says_what_to_install(tmp_path):
    demo = Demo(tmp_path, "--json", "--workers", "2", "--replicas", "2", "--size", "8", path="/nowhere")
    code, out, _ = demo.end()
    told = json.loads(out)
    assert (code, told["held"], told["verified"], told["booted"], told["clean"]) == (0, 2, 2, False, True)
    assert told["size"] == 8 * 2**20, "a bare number counts megabytes"
    assert "qemu-system-x86" in told["remarks"][0]
    assert demo.left() == []


def test_a_disk_of_ones_own_is_placed_and_kept_to_be_looked_at(tmp_path):
    disk = tmp_path / "own.raw"
    disk.write_bytes(random.Random(5).randbytes(3 * 2**20 + 1))
    folder = tmp_path / "demo"
    folder.mkdir()
    demo = Demo(folder, "--workers", "1", "--replicas", "1", "--disk", disk, "--keep", path="/nowhere")
    code, out, err = demo.end()
    assert code == 0, err
    assert "1 of 1 copies" in out
    assert f"Everything is in {folder}/bitdew-demo-" in err
    assert demo.processes() == []
    (kept,) = folder.iterdir()
    (copy,) = (path for path in (kept / "host-1" / "copies").iterdir() if len(path.name) == 64)
    assert copy.read_bytes() == disk.read_bytes()
    assert (kept / "logs" / "service.log").exists()
    assert not (folder / "untouched").exists()


@pytest.mark.skipif(not HYPERVISOR, reason="needs QEMU")
def test_a_machine_that_stays_on_has_booted_once_it_says_anything(tmp_path):
    disk = tmp_path / "own.raw"
    write_boot_disk(disk, line="hello, I stay", size=4 * 2**20, power_off=False)
    folder = tmp_path / "demo"
    folder.mkdir()
    demo = Demo(folder, "--json", "--workers", "1", "--replicas", "1", "--disk", disk)
    code, out, err = demo.end(seconds=120)
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["booted"], told["line"], told["clean"]) == (True, "", True)
    assert told["console"].strip()
    assert demo.left() == []


def test_who_looks_at_the_demos_log_is_left_alone(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "input()", tmp_path / "x.log"], stdin=subprocess.PIPE) as mine:
        # Not a child of whoever looks, as little as a `tail -f` in another terminal is.
        looking = "import sys, pathlib; from bitdew.cli.demo_processes import end_orphans as end"
        looking += "; print(end(pathlib.Path(sys.argv[1])))"
        command = [sys.executable, "-P", "-c", looking, tmp_path]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
        assert mine.poll() is None


@pytest.mark.parametrize("arguments", [["-m", "bitdew"], ["-name", f"bitdew-{32 * 'a'}"]])
def test_what_the_demo_started_is_found_whoever_its_parent_is(tmp_path, arguments):
    with subprocess.Popen([sys.executable, "-c", "input()", *arguments, tmp_path], stdin=subprocess.PIPE) as mine:
        looking = "import sys, pathlib; from bitdew.cli.demo_processes import end_orphans as end"
        looking += "; print(len(end(pathlib.Path(sys.argv[1]))))"
        command = [sys.executable, "-P", "-c", looking, tmp_path]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"
        assert mine.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize(
    ("earliest", "latest", "twice"), [(0.1, 2, False), (1, 4, True), (3, 6, False), (5, 8, True), (7, 10, False)]
)
def test_a_signal_at_any_moment_leaves_nothing(tmp_path, earliest, latest, twice):
    # Seconds: from the imports to the booting machine.
    moment = random.uniform(earliest, latest)
    number = random.choice([signal.SIGINT, signal.SIGTERM])
    demo = Demo(tmp_path, "--json", "--size", "16MB")
    try:
        demo.process.wait(moment)
    except subprocess.TimeoutExpired:
        demo.process.send_signal(number)
    if twice:
        time.sleep(0.3)
        demo.process.send_signal(number)
    code, out, err = demo.end(seconds=60)
    assert demo.left() == [], (moment, number, out, err)
    # Before it has begun, and after its end, a signal does what it does to every Python program.
    assert code in {0, INTERRUPTED, -number}
    if '"clean"' in out:
        told = json.loads(out)
        assert told["clean"]
        assert code != INTERRUPTED or told["error"]["key"] == "interrupted"


def test_when_the_demo_is_killed_its_processes_end_by_themselves(tmp_path):
    demo = Demo(tmp_path, "--workers", "2", "--replicas", "1", "--size", "16MB")
    try:
        while "Making" not in demo.process.stderr.readline():  # service and workers are there
            assert demo.process.poll() is None
        assert len(demo.processes()) >= 3
        demo.process.kill()
        _, still = psutil.wait_procs(demo.processes(), timeout=30)
        assert still == []
    finally:
        demo.end()
