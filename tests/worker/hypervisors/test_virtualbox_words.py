"""What VirtualBox's driver says to VBoxManage, and how it reads the answers. Nothing is run."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from bitdew.worker.hypervisors import virtualbox_command as command
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid, new_uid
from bitdew.hypervisor import MachineSpec, MachineStatus

UIDS = st.uuids().map(lambda found: Uid(found.hex))
RUNNING = (
    'name="x"\nCfgFile="/m/x.vbox"\nVMState="running"\nSessionName="headless"\n'
    'SnapshotName="one"\nSnapshotName-1="two"\n'
)


def spec(**changes) -> MachineSpec:
    uid = new_uid()
    return MachineSpec(uid, Path("/images/hep.raw"), Path("/machines") / uid, **changes)


@given(UIDS)
def test_a_machine_is_recognized_by_the_command_line_of_its_process(uid):
    line = ["/usr/lib/virtualbox/VBoxHeadless", "--comment", f"bitdew-{uid}", "--startvm", str(uuid.UUID(uid))]
    assert command.machine_of(line) == uid


@given(UIDS, UIDS, st.lists(st.text(max_size=10), max_size=5))
def test_no_other_process_is_taken_for_a_machine(uid, other, words):
    assert command.machine_of(words) is None
    assert command.machine_of(["VBoxHeadless", "--comment", "my own", "--startvm", str(uuid.UUID(uid))]) is None
    if uid != other:
        assert command.machine_of(["--comment", f"bitdew-{other}", "--startvm", str(uuid.UUID(uid))]) is None


@given(UIDS)
def test_a_machine_in_the_list_is_found_whatever_it_is_named(uid):
    told = f'"my {{}} machine" {{{uuid.UUID(uid)}}}\n<inaccessible> {{{uuid.UUID(int=7)}}}\n'
    assert command.parse_machines(told) == {uid, Uid(uuid.UUID(int=7).hex)}


def test_a_view_has_what_showvminfo_tells():
    assert command.parse_view(RUNNING) == command.View("running", True, Path("/m/x.vbox"), ("one", "two"))


@pytest.mark.parametrize(
    ("state", "busy", "settled"),
    [
        ("running", True, True),
        ("paused", True, True),
        ("starting", True, False),
        ("saving", True, False),
        ("poweroff", True, False),
        ("poweroff", False, True),
        ("aborted", False, True),
        ("gurumeditation", True, True),
    ],
)
def test_a_machine_is_settled_when_its_process_has_let_go_of_it(state, busy, settled):
    assert command.View(state, busy).settled is settled


@given(st.text(max_size=400))
def test_whatever_is_told_can_be_read(told):
    assert command.parse_view(told).snapshots is not None
    assert isinstance(command.parse_machines(told), set)
    assert len(command.last_error(told)) <= 400
    command.parse_version(told)
    command.parse_media(told)


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("7.2.22_Debianr175245\n", (7, 2, 22)),
        ("WARNING: The vboxdrv kernel module is not loaded.\n7.0.8r156879\n", (7, 0, 8)),
        ("no version", None),
        ("", None),
    ],
)
def test_the_version_is_read_also_behind_a_warning(told, version):
    assert command.parse_version(told) == version


def test_of_an_error_the_words_for_people_are_kept():
    told = (
        "0%...10%\nVBoxManage: error: Already paused\n"
        "VBoxManage: error: Details: code VBOX_E_INVALID_VM_STATE (0x80bb0002), component ConsoleWrap\n"
        'VBoxManage: error: Context: "Pause()" at line 388 of file VBoxManageControlVM.cpp\n'
    )
    assert command.last_error(told) == "Already paused"


def test_the_descriptor_shows_the_whole_image_and_has_its_uuids():
    own = uuid.uuid4()
    lines = command.descriptor(Path("/images/hep image.raw"), 5 * 2**30, own).splitlines()
    assert f'RW {5 * 2**30 // 512} FLAT "/images/hep image.raw" 0' in lines
    assert f'ddb.uuid.image="{own}"' in lines
    assert sum(line.startswith("ddb.uuid.") for line in lines) == 4  # VirtualBox opens the image for writing to add any


@pytest.mark.parametrize("name", ['a"b.raw', "a\nb.raw", "a\\b.raw"])
def test_an_image_whose_path_would_break_the_descriptor_is_refused(name):
    with pytest.raises(BitDewError) as caught:
        command.descriptor(Path("/images") / name, 512, uuid.uuid4())
    assert caught.value.key == "hypervisor.failed"


def test_a_machine_is_addressed_by_its_uid_and_never_attached_to_the_image_itself():
    made = spec(memory=512 * 2**20 + 5, cpus=3)
    commands = command.creation(made, ("--vm-execution-engine", "recompiler"))
    words = [word for line in commands for word in line]
    assert str(made.image) not in words
    assert words[words.index("--memory") + 1] == "512"
    assert words[words.index("--cpus") + 1] == "3"
    for line in commands:
        if line[0] in {"modifyvm", "storagectl", "storageattach"}:
            assert line[1] == str(uuid.UUID(made.uid))
    assert ("modifyvm", str(uuid.UUID(made.uid)), "--vm-execution-engine", "recompiler") in commands


def test_a_seed_is_attached_as_a_cd_and_a_machine_without_one_has_no_drive():
    words = command.creation(spec(seed=Path("/seeds/one.iso")), ())[-1]
    assert words[words.index("--type") + 1 :] == ("dvddrive", "--medium", "/seeds/one.iso")
    assert not any("dvddrive" in line for line in command.creation(spec(), ()))


@given(
    st.lists(st.tuples(st.integers(1024, 65535), st.integers(1, 65535)), max_size=16, unique_by=lambda pair: pair[0])
)
def test_a_network_is_given_where_it_is_wanted_and_ports_lead_in_from_the_loopback_alone(ports):
    quiet = [word for line in command.creation(spec(), ()) for word in line]
    assert quiet[quiet.index("--nic1") + 1] == "none"
    assert "--nat-pf1" not in quiet
    words = [word for line in command.creation(spec(network="user", ports=tuple(ports)), ()) for word in line]
    assert words[words.index("--nic1") + 1] == "nat"
    rules = [words[place + 1] for place, word in enumerate(words) if word == "--nat-pf1"]
    assert rules == [f"port-{outer},tcp,127.0.0.1,{outer},,{inner}" for outer, inner in ports]


def test_what_a_snapshot_brings_back_of_ports_is_changed_to_what_they_are_now():
    told = (
        'VMState="running"\nForwarding(0)="port-2000,tcp,127.0.0.1,2000,,22"\n'
        'Forwarding(1)="port-2001,tcp,127.0.0.1,2001,,80"\n'
    )
    now = spec(network="user", ports=((2001, 80), (2002, 22)))
    assert command.forwarding_changes(command.parse_view(told), now) == [
        ("natpf1", "delete", "port-2000"),
        ("natpf1", "port-2002,tcp,127.0.0.1,2002,,22"),
    ]
    elsewhere = spec(network="user", ports=((2000, 22), (2001, 80)), ports_address="192.0.2.7")
    changes = command.forwarding_changes(command.parse_view(told), elsewhere)
    assert changes[:2] == [("natpf1", "delete", "port-2000"), ("natpf1", "delete", "port-2001")]
    assert changes[2] == ("natpf1", "port-2000,tcp,192.0.2.7,2000,,22")


def test_a_port_that_virtualbox_could_not_listen_at_is_read_from_the_log():
    log = "VMSetError: NAT#0: configuration error: failed to set up redirection of 44969 to 22. Probably a conflict"
    assert command.failed_port(log) == 44969
    assert command.failed_port("NAT: DNS settings changed") is None


@pytest.mark.parametrize(
    ("view", "asked", "status"),
    [
        (command.View("poweroff"), False, MachineStatus("stopped", "its system powered it off")),
        (command.View("poweroff"), True, MachineStatus("stopped", "the worker ended it")),
        (command.View("aborted"), True, MachineStatus("stopped", "the worker ended it")),
        (None, False, MachineStatus("stopped", "it was removed")),
    ],
)
def test_a_machine_that_ended_in_an_orderly_way_is_stopped(view, asked, status):
    assert command.ending(view, asked=asked) == status


@pytest.mark.parametrize("state", ["aborted", "aborted-saved", "saved", "gurumeditation", ""])
def test_a_machine_that_ended_otherwise_has_failed(state):
    status = command.ending(command.View(state), asked=False)
    assert status.state == "failed"
    assert status.reason


BY_ITSELF = """
00:00:00.606054 Changing the VM state from 'POWERING_ON' to 'RUNNING'
00:00:00.606102 Console: Machine state changed to 'Running'
00:00:00.829096 Changing the VM state from 'RUNNING' to 'POWERING_OFF'
00:00:00.831898 Console: Machine state changed to 'Stopping'
00:00:00.836284 Console: Machine state changed to 'PoweredOff'
"""
FROM_OUTSIDE = """
00:00:00.517850 Console: Machine state changed to 'Running'
00:00:02.797676 Console: Machine state changed to 'Stopping'
00:00:02.799469 Changing the VM state from 'RUNNING' to 'POWERING_OFF'
"""
LOST = "00:00:15.030672 VBoxHeadless: VBoxSVC became unavailable, exiting.\n" + FROM_OUTSIDE
LOSING = "00:00:00.606102 Console: Machine state changed to 'Running'\n"


@pytest.mark.parametrize(
    ("log", "state", "reason"),
    [
        (BY_ITSELF, "stopped", "its system powered it off"),
        (FROM_OUTSIDE, "failed", "somebody else"),
        (LOST, "failed", "service went away"),
        (LOSING, "failed", "lost VirtualBox's service"),
    ],
)
def test_the_log_says_who_powered_a_machine_off(log, state, reason):
    status = command.ending(command.View("poweroff"), asked=False, log=log)
    assert status.state == state
    assert reason in status.reason
    assert command.ending(command.View("poweroff"), asked=True, log=log).reason == "the worker ended it"


@pytest.mark.parametrize(
    ("log", "name"),
    [
        ("HM: HMR3Init: Falling back on IEM: Driverless mode", "interpreter"),
        ("HM: Using VT-x implementation 3.0", "vt-x"),
        ("HM: Using AMD-V implementation 2.0", "amd-v"),
        ("", "hardware"),
    ],
)
def test_the_log_says_what_runs_the_guest(log, name):
    assert command.accelerator_in(log) == name
