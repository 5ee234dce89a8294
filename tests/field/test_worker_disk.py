"""The disk of a worker, built from its recipe and booted in the real QEMU: its worker joins a real service.

What Debian and Python's index deliver is kept between runs, in the folder that BITDEW_DISKS names. Without the network,
or without the programs that build, nothing is tested here, and the reason is told.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pycdlib
import pytest

from bitdew.core.errors import BitDewError
from bitdew.disks.packages import fetch_packages
from bitdew.disks.programs import check_tools
from bitdew.disks.recipe import read_recipe

pytestmark = [
    pytest.mark.field,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the guest's Python is 3.11, and so the wheels are"),
]

CACHE = Path(os.environ.get("BITDEW_DISKS", "/var/cache/bitdew-test/disks"))
RECIPES = Path(__file__).parent.parent.parent / "examples/disks"
JOINED_WITHIN = 300.0
ENDED_WITHIN = 60.0


def bitdew(*words: object, **environment: str) -> dict:
    """What a command prints with --json."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "bitdew", *map(str, words), "--json"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def build(target: Path) -> dict:
    return bitdew("disk", "build", RECIPES / "worker.toml", target, "--cache", CACHE)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The worker's disk, built once for all tests here."""
    try:
        check_tools()
    except BitDewError as fault:
        pytest.skip(fault.message)
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        fetch_packages(read_recipe(RECIPES / "worker.toml"), CACHE)
    except (BitDewError, OSError) as fault:
        pytest.skip(f"Debian's packages are not kept in {CACHE}, and can't be fetched: {fault}")
    path = tmp_path_factory.mktemp("disk") / "worker.raw"
    build(path)
    return path


def kill_machine(uid: str) -> None:
    """End the process that runs it, as a crash would."""
    for process in psutil.process_iter(["cmdline"]):
        if any(uid in word for word in process.info["cmdline"] or ()):
            process.kill()


def write_seed(path: Path, **files: str) -> None:
    """A seed as cloud-init's NoCloud wants it: a CD labelled cidata."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for number, (name, text) in enumerate(files.items()):
        content, name = text.encode(), name.replace("_", "-")
        iso.add_fp(io.BytesIO(content), len(content), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}")
    iso.write(str(path))
    iso.close()


class Machine:
    """A QEMU with the disk, a seed, and a network from which 10.0.2.2 is this host."""

    def __init__(self, folder: Path, disk: Path, bus: str = "virtio", cpus: int = 1) -> None:
        self.console_file = folder / "console.log"
        overlay = folder / "overlay.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay], check=True)
        self.process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
                *("-machine", "pc", "-accel", "tcg", "-m", "512M", "-smp", f"{cpus}", "-monitor", "stdio"),
                *("-drive", f"file={overlay},if={bus}"),
                *("-drive", f"file={folder / 'seed.iso'},if=ide,index=2,media=cdrom,readonly=on"),
                *("-nic", "user,model=virtio-net-pci", "-serial", f"file:{self.console_file}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    @property
    def console(self) -> str:
        return self.console_file.read_text("utf-8", "replace") if self.console_file.exists() else ""

    def press_power(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"system_powerdown\n")
        self.process.stdin.flush()

    def until(self, found, seconds: float = JOINED_WITHIN) -> None:
        limit = time.monotonic() + seconds
        while not found():
            assert self.process.poll() is None, f"the machine ended: {self.console}"
            assert time.monotonic() < limit, f"it never came true: {self.console}"
            time.sleep(0.5)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def boot(tmp_path: Path, disk: Path):
    if shutil.which("qemu-system-x86_64") is None:
        assert os.environ.get("BITDEW_REQUIRE_QEMU") != "1"
        pytest.skip("QEMU is not installed")
    machines = []

    def start(**options: Any) -> Machine:
        machines.append(Machine(tmp_path, disk, **options))
        return machines[-1]

    yield start
    for machine in machines:
        machine.end()


def test_the_worker_inside_joins_a_service_and_powers_off_when_the_power_button_is_pressed(site, tmp_path, boot):
    port = site.serve().ready["url"].rpartition(":")[2]
    token = site.run("token", "create", "--role", "worker")["token"]
    told = f"instance-id: 1\nlocal-hostname: guest-one\nbitdew-url: 'https://10.0.2.2:{port}'\nbitdew-token: {token}\n"
    write_seed(tmp_path / "seed.iso", meta_data=told, user_data="#!/bin/sh\necho the script runs on $(hostname)\n")
    machine = boot()

    def joined() -> bool:
        return any(one["name"] == "guest-one" and one["state"] == "alive" for one in site.run("host", "ls")["hosts"])

    machine.until(joined)
    machine.until(lambda: "guest-one works for" in machine.console)
    (host,) = [one for one in site.run("host", "ls")["hosts"] if one["name"] == "guest-one"]
    assert [(one["name"], one["version"][:4]) for one in host["sharings"]] == [("python3", "3.11")]
    machine.press_power()
    assert machine.process.wait(ENDED_WITHIN) == 0
    assert "the script runs on guest-one" in machine.console
    assert "bitdew-guest: the power button was pressed" in machine.console
    assert token not in machine.console


def test_a_machine_of_a_deployment_enrols_by_its_own_token_goes_on_after_a_crash_and_ends_in_order(site, disk):
    site.serve()
    site.worker(1)
    site.run("disk", "add", disk, "--name", "worker", "--replica", 1, "--requires", "sharing=qemu")
    script = site.folder / "script.sh"
    script.write_text("#!/bin/sh\necho the script runs on $(hostname)\n")
    options = ["--memory", "512MB", "--network", "user", "--user-data", script, "--restart", "never"]
    made = site.run("vm", "deploy", "worker", *options, "--wait")
    uid = made["machines"][0]["uid"]
    name = f"vm-{uid[:8]}"

    def state() -> str:
        return next((one["state"] for one in site.run("host", "ls")["hosts"] if one["name"] == name), "not there")

    site.until(lambda: state() == "alive", JOINED_WITHIN)
    site.until(lambda: f"the script runs on {name}" in site.run("vm", "logs", uid)["text"])
    assert site.run("token", "ls")["tokens"] == [], "the machine's token is spent"
    seed = site.folder / "host1" / "machines" / uid / "seed.iso"
    assert seed.exists()

    def shown(machine: str) -> dict:
        return next(one for one in site.run("vm", "show", made["uid"])["machines"] if one["uid"] == machine)

    inner, told = shown(uid)["inner"], seed.read_bytes()
    site.run("vm", "snapshot", uid, "joined")
    kill_machine(uid)
    site.until(lambda: shown(uid)["state"] == "failed")
    heir = site.run("vm", "restore", uid, "joined")["machine"]
    site.until(lambda: shown(heir)["state"] == "running")
    submitted = ["job", "submit", "--needs", "python3>=3.9", "--memory", "64MB", "--", "python3", "-c", "print('on')"]
    job = site.run(*submitted)["jobs"][0]["uid"]
    site.until(lambda: site.run("job", "show", job)["state"] in {"done", "failed"}, JOINED_WITHIN)
    # One that was given to the machine before it went back is lost, and nothing else is.
    *lost, run = site.run("job", "show", job)["runs"]
    assert (run["state"], run["host"]) == ("done", inner), "it is the host that it was, and works on"
    assert {(one["state"], one["host"]) for one in lost} <= {("lost", inner)}
    assert (shown(heir)["inner"], shown(heir)["inner_state"]) == (inner, "alive")
    assert seed.read_bytes() != told
    assert [one["note"] for one in site.run("token", "ls")["tokens"]] == [f"machine {heir}"]
    site.run("vm", "stop", heir)
    site.until(lambda: shown(heir)["state"] == "stopped")
    assert "bitdew-guest: the power button was pressed" in site.run("vm", "logs", heir)["text"]
    site.run("vm", "rm", made["uid"])
    site.until(lambda: not seed.exists())


def test_a_job_waits_for_a_machine_runs_in_it_and_outlives_one_that_is_killed(site, disk):
    site.serve()
    site.worker(1)
    site.run("disk", "add", disk, "--name", "worker", "--replica", 1, "--requires", "sharing=qemu")
    script = site.folder / "sum.py"
    script.write_text("print(open('result', 'w').write(str(sum(range(10)))), 'written')\n")
    asked = ["--needs", "python3>=3.9", "--memory", "64MB", "--out", "result"]

    def submitted(*words: object) -> str:
        return site.run("job", "submit", *asked, *words)["jobs"][0]["uid"]

    def job(uid: str) -> dict:
        return site.run("job", "show", uid)

    first = submitted("--in", script, "--", "python3", "sum.py")
    told = site.run("job", "explain", first)
    assert told["job"]["state"] == "queued"
    assert any("none can run it now" in line for line in told["why"])
    made = site.run("vm", "deploy", "worker", "--memory", "512MB", "--network", "user", "--wait")
    site.until(lambda: job(first)["state"] in {"done", "failed"}, JOINED_WITHIN)
    assert job(first)["state"] == "done", site.run("job", "logs", first)
    assert job(first)["runs"][0]["host_name"] == f"vm-{made['machines'][0]['uid'][:8]}"
    site.run("job", "results", first, "-o", site.folder / "results")
    assert (site.folder / "results/result").read_text() == "45"
    assert site.run("job", "logs", first)["text"] == "2 written\n"

    slow = "import time; print('up', flush=True); time.sleep(15); open('result', 'w').write('whole')"
    second = submitted("--", "python3", "-c", slow)
    site.until(lambda: "up" in site.run("job", "logs", second)["text"])
    kill_machine(made["machines"][0]["uid"])
    site.until(lambda: job(second)["state"] in {"done", "failed"}, 2 * JOINED_WITHIN)
    ended = job(second)
    assert ended["state"] == "done", ended
    assert [run["state"] for run in ended["runs"]] == ["lost", "done"]
    assert len(ended["results"]) == 1


def test_a_script_alone_is_run_on_an_ide_disk_and_the_machine_powers_off_after_it(tmp_path, boot):
    script = "#!/usr/bin/python3\nimport sqlite3, ssl, os\nprint('python', os.uname().nodename, sum(range(10)))\n"
    write_seed(tmp_path / "seed.iso", meta_data="local-hostname: guest-two\n", user_data=script)
    machine = boot(bus="ide")
    assert machine.process.wait(JOINED_WITHIN) == 0
    assert "python guest-two 45" in machine.console
    assert "bitdew-guest: the user's script ended with 0" in machine.console


def test_control_groups_of_version_2_hold_memory_and_processors_on_a_real_kernel(tmp_path, boot):
    script = (Path(__file__).parent / "groups_in_guest.py").read_text()
    write_seed(tmp_path / "seed.iso", meta_data="local-hostname: guest-three\n", user_data=script)
    machine = boot(cpus=2)
    assert machine.process.wait(JOINED_WITHIN) == 0
    console = machine.console
    assert "the user's script ended with 0" in console, console
    assert "groups: memory and processors are held by control groups (version 2)" in console
    assert "ate in 64 MiB: '' -9 True []" in console, "ended by the kernel, known for it, and forgotten"
    assert "ate in 256 MiB: '' 0 False []" in console
    spun = re.search(r"spun: (\S+) (\S+) (\S+)", console)
    assert spun, console
    assert 0 < float(spun[1]) <= 1.2, "two that would use two processors share one"
    assert spun.groups()[1:] == ("True", "False"), "a group that is not empty stays, and an empty one goes"


def test_the_same_inputs_give_the_same_disk_bit_for_bit(disk, tmp_path):
    again = build(tmp_path / "again.raw")
    assert again["size"] == disk.stat().st_size
    with disk.open("rb") as first, (tmp_path / "again.raw").open("rb") as second:
        while block := first.read(1024 * 1024):
            assert block == second.read(len(block))
