"""The pure parts of the QEMU driver: which process is whose, what an end means, when KVM counts."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from bitdew.worker.hypervisors.qemu_command import QemuOptions, ending, machine_command, machine_of
from bitdew.worker.hypervisors.qemu_probe import hardware_virtualization

from bitdew.core.errors import BitDewError
from bitdew.core.ids import new_uid
from bitdew.hypervisor import MachineSpec

OPTIONS = QemuOptions("/usr/bin/qemu", "tcg", sandbox=True, disk_bus="virtio", niceness=10)


def spec_in(home, **changes):
    uid = new_uid()
    return MachineSpec(**{"uid": uid, "image": home / "base.img", "folder": home / uid, **changes})


def test_a_machines_command_line_names_its_machine(tmp_path):
    spec = spec_in(tmp_path)
    assert machine_of(machine_command(spec, OPTIONS, monitor=7)) == spec.uid


@pytest.mark.parametrize(
    "command",
    [[], ["-name"], ["grep", "bitdew-" + "0" * 32], ["qemu", "-name", "bitdew-x"], ["qemu", "-name", "0" * 32]],
)
def test_other_command_lines_name_none(command):
    assert machine_of(command) is None


def test_memory_is_given_in_whole_mebibytes(tmp_path):
    command = machine_command(spec_in(tmp_path, memory=100 * 1024 * 1024 + 5, cpus=3), OPTIONS, monitor=7)
    assert command[command.index("-m") + 1] == "100M"
    assert command[command.index("-smp") + 1] == "3"


def option(command, name):
    return command[command.index(name) + 1]


def test_a_machine_has_the_hosts_processor_or_one_that_todays_programs_are_built_for(tmp_path):
    spec = spec_in(tmp_path)
    assert option(machine_command(spec, OPTIONS, monitor=7), "-cpu") == "Nehalem"
    assert option(machine_command(spec, replace(OPTIONS, accelerator="kvm"), monitor=7), "-cpu") == "host"


def test_a_machine_has_no_network_unless_it_is_given_one(tmp_path):
    assert option(machine_command(spec_in(tmp_path), OPTIONS, monitor=7), "-nic") == "none"


def test_ports_lead_into_the_machine_from_the_hosts_loopback_alone(tmp_path):
    spec = spec_in(tmp_path, network="user", ports=((2222, 22), (8080, 80)))
    assert option(machine_command(spec, OPTIONS, monitor=7), "-nic") == (
        "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80"
    )


def test_ports_are_where_the_volunteer_wants_them(tmp_path):
    spec = spec_in(tmp_path, network="user", ports=((2222, 22),), ports_address="192.0.2.7")
    assert "hostfwd=tcp:192.0.2.7:2222-:22" in option(machine_command(spec, OPTIONS, monitor=7), "-nic")


def test_a_seed_is_a_cd_that_nothing_writes_to(tmp_path):
    spec = spec_in(tmp_path, seed=tmp_path / "a, b.iso")
    command = machine_command(spec, OPTIONS, monitor=7)
    drives = [json.loads(value) for name, value in pairwise(command) if name == "-blockdev"]
    seed = next(drive for drive in drives if drive["node-name"] == "seed")
    assert seed["read-only"]
    assert seed["file"] == {"driver": "file", "filename": str(spec.seed), "read-only": True}
    assert "ide-cd,drive=seed" in command


@pytest.mark.parametrize("name", ["1", "early", "a-b.c"])
def test_a_snapshots_name_is_never_taken_for_its_number(tmp_path, name):
    command = machine_command(spec_in(tmp_path), OPTIONS, monitor=7, load=name)
    assert option(command, "-loadvm") == f"bitdew-{name}"


@pytest.mark.parametrize(
    ("asked", "cause", "exit_code", "state", "reason"),
    [
        (False, 6, 0, "stopped", "its system powered it off"),
        (True, 6, 0, "stopped", "its system powered it off"),
        (True, 2, 0, "stopped", "the worker ended it"),
        (True, None, -9, "stopped", "the worker ended it"),
        (False, 2, 0, "failed", "somebody else ended it through its monitor"),
        (False, 4, 0, "failed", "a signal from outside ended it"),
        (False, 7, 0, "stopped", "its system restarted it, which ends it here"),
        (False, 8, 0, "failed", "its system panicked"),
        (False, None, -9, "failed", "signal 9 killed QEMU: last words"),
        (False, None, 1, "failed", "QEMU ended with exit code 1: last words"),
        (False, None, None, "failed", "QEMU ended without shutting it down: last words"),
    ],
)
def test_an_end_is_told_by_who_asked_why_and_how(asked, cause, exit_code, state, reason):
    status = ending(asked=asked, cause=cause, exit_code=exit_code, last_words="last words")
    assert (status.state, status.reason) == (state, reason)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"uid": "../../etc"}, "not a uid"),
        ({"image_format": "qcow2"}, "raw"),
        ({"memory": 1024}, "memory"),
        ({"cpus": 0}, "CPUs"),
        ({"cpus": 65}, "CPUs"),
        ({"seed": Path("seed.iso")}, "seed"),
        ({"network": "bridge"}, "'none' and 'user'|none and user"),
        ({"ports": ((2222, 22),)}, "without the network"),
        ({"network": "user", "ports": ((22, 22),)}, "port 22 "),
        ({"network": "user", "ports": ((65536, 22),)}, "port 65536"),
        ({"network": "user", "ports": ((2222, 0),)}, "its port 0"),
        ({"ports_address": "localhost"}, "no address of IPv4"),
        ({"ports_address": "0.0.0.0:1,hostfwd=tcp::2-:3"}, "no address of IPv4"),
        ({"network": "user", "ports": ((2222, 22), (2222, 80))}, "one port"),
        ({"network": "user", "ports": tuple((2000 + n, 22) for n in range(17))}, "17 ports"),
    ],
)
def test_what_can_not_be_a_machine_is_refused(tmp_path, changes, why):
    with pytest.raises(BitDewError, match=why) as caught:
        spec_in(tmp_path, **changes)
    assert caught.value.key == "input.invalid"


def test_a_folder_that_is_not_the_machines_own_is_refused(tmp_path):
    with pytest.raises(BitDewError, match="not named after it"):
        spec_in(tmp_path, folder=tmp_path)


def test_an_image_that_would_be_removed_with_the_machine_is_refused(tmp_path):
    uid = new_uid()
    with pytest.raises(BitDewError, match="removed with it"):
        MachineSpec(uid, tmp_path / uid / "base.img", tmp_path / uid)


@pytest.mark.parametrize(
    ("flags", "device", "usable"),
    [("fpu vmx sse", True, True), ("svm", True, True), ("fpu sse", True, False), ("vmx", False, False)],
)
def test_kvm_counts_only_where_the_cpu_helps_it_and_the_user_may_use_it(tmp_path, flags, device, usable):
    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n")
    if device:
        (tmp_path / "kvm").touch()
    assert hardware_virtualization(tmp_path / "cpuinfo", tmp_path / "kvm") is usable
    assert not hardware_virtualization(tmp_path / "absent", tmp_path / "kvm")
