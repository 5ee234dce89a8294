"""Probes tell what a system's own files show, and nothing where it shows nothing."""

from __future__ import annotations

import os
import stat
import time
from datetime import UTC, datetime

import pytest
from bitdew.worker.activity import input as input_
from bitdew.worker.activity.input import InputWatch
from bitdew.worker.activity.load import OthersLoad
from bitdew.worker.activity.manual import read_pause, write_pause
from bitdew.worker.activity.power import is_metered, on_battery
from bitdew.worker.activity.programs import ask_program
from bitdew.worker.activity.rules import Pause, Rules
from bitdew.worker.activity.senses import SystemSenses

INTERRUPTS = """           CPU0       CPU1
  1:      {0}          4   IO-APIC   1-edge      i8042
 16:    9{1}99          0   IO-APIC  16-fasteoi   ehci_hcd:usb1
NMI:          0          0   Non-maskable interrupts
"""


class Time:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Time()


@pytest.fixture
def root(tmp_path):
    for folder in ("proc", "sys/bus/usb/devices", "dev/pts"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def watch(root, clock, monkeypatch):
    monkeypatch.setattr(input_, "ask_program", lambda *_: None)
    return InputWatch(root=root, monotonic=clock, wall=clock)


def interface(root, name, kind, protocol, packets):
    folder = root / "sys/bus/usb/devices" / name
    folder.mkdir(parents=True)
    (folder / "bInterfaceClass").write_text(f"{kind}\n")
    (folder / "bInterfaceProtocol").write_text(f"{protocol}\n")
    device = root / "sys/bus/usb/devices" / name.partition(":")[0]
    device.mkdir(exist_ok=True)
    (device / "urbnum").write_text(f"{packets}\n")
    return device / "urbnum"


def test_a_built_in_keyboard_is_seen_by_its_interrupts_and_other_devices_are_not(root, watch, clock):
    (root / "proc/interrupts").write_text(INTERRUPTS.format(7, 1))
    assert watch.idle() == 0
    clock.now += 60
    (root / "proc/interrupts").write_text(INTERRUPTS.format(7, 2))
    assert watch.idle() == 60
    (root / "proc/interrupts").write_text(INTERRUPTS.format(8, 2))
    assert watch.idle() == 0
    clock.now += 1
    assert watch.idle() == 1


def test_a_usb_keyboard_is_seen_by_its_packets_also_when_it_comes_later(root, watch, clock):
    interface(root, "1-1:1.0", "08", "50", 5)
    assert watch.idle() is None
    clock.now += 100
    packets = interface(root, "1-2:1.0", "03", "01", 5)
    assert watch.idle() == 0
    clock.now += 100
    assert watch.idle() == 100
    packets.write_text("6\n")
    assert watch.idle() == 0


def test_who_types_at_a_terminal_is_seen(root, watch, clock):
    terminal = root / "dev/pts/3"
    terminal.touch()
    os.utime(terminal, (clock.now - 40, clock.now))
    assert watch.idle() == 40


def test_a_witness_is_a_sign_of_the_owner(root, watch, clock):
    witness = root / "witness"
    assert watch.idle(str(witness)) is None
    witness.touch()
    os.utime(witness, (clock.now, clock.now - 5))
    assert watch.idle(str(witness)) == 5
    clock.now -= 50  # the clock on the wall was set back
    assert watch.idle(str(witness)) == 0


def test_logind_is_asked_where_nothing_else_tells_and_believed_only_when_it_says_idle(root, watch, clock, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    answers = ["b true\nt 900000000\n", "b false\nt 0\n"]
    monkeypatch.setattr(input_, "ask_program", lambda *_: answers[0])
    assert watch.idle() == 100
    clock.now += 2
    assert watch.idle() == 102
    answers.pop(0)
    clock.now += 5
    assert watch.idle() is None


def test_what_others_use_of_the_processors_is_told_without_what_is_nice_and_without_this_process(tmp_path, clock):
    stat_file, own = tmp_path / "stat", [0.0]

    def ticks(user, nice, idle):
        stat_file.write_text(f"cpu  {user} {nice} 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")

    load = OthersLoad(stat=stat_file, own=lambda: own[0], ticks=100.0, monotonic=clock)
    ticks(100, 100, 100)
    assert load.share() == 0
    clock.now += 5
    own[0] = 0.1  # ten ticks
    ticks(160, 600, 540)
    assert load.share() == pytest.approx(0.05)
    clock.now += 59
    ticks(160, 600, 6340)
    assert load.share() == pytest.approx(0.05)
    clock.now += 2
    assert load.share() == 0


def test_where_the_kernel_counts_otherwise_nobody_can_tell(tmp_path):
    assert OthersLoad(stat=tmp_path / "none").share() is None
    (tmp_path / "stat").write_text("cpu 1 2\n")
    assert OthersLoad(stat=tmp_path / "stat").share() is None


def supply(folder, name, **facts):
    (folder / name).mkdir(parents=True)
    for key, value in facts.items():
        (folder / name / key).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("online", "status", "found"),
    [("1", "Charging", False), ("0", "Discharging", True), ("1", "Discharging", False), ("0", "Full", False)],
)
def test_a_laptop_is_on_battery_when_that_empties_and_nothing_is_plugged_in(tmp_path, online, status, found):
    supply(tmp_path, "AC", type="Mains", online=online)
    supply(tmp_path, "BAT0", type="Battery", status=status)
    assert on_battery(tmp_path) is found


def test_a_host_without_a_battery_of_its_own_is_not_on_battery(tmp_path):
    assert on_battery(tmp_path / "none") is None
    supply(tmp_path, "mouse", type="Battery", status="Discharging", scope="Device")
    assert on_battery(tmp_path) is None


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_networkmanager_is_asked_where_it_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert is_metered(tmp_path / "none") is None
    assert is_metered(tmp_path) is None
    for answer, found in (("u 1", True), ("u 3", True), ("u 2", False), ("u 0", False)):
        program(tmp_path, "busctl", f"echo {answer}")
        assert is_metered(tmp_path) is found


def test_a_program_that_fails_or_hangs_has_said_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("bitdew.worker.activity.programs.ANSWER_SECONDS", 0.2)
    program(tmp_path, "failing", "echo 1; exit 1")
    program(tmp_path, "hanging", "exec sleep 20")
    program(tmp_path, "endless", "head -c 100000 /dev/zero")
    began = time.monotonic()
    assert ask_program("failing") is None
    assert ask_program("hanging") is None
    assert len(ask_program("endless") or "") <= 4096
    assert time.monotonic() - began < 5


def test_this_host_is_observed_as_far_as_rules_ask():
    senses = SystemSenses()
    asked = senses.observe(Rules(when="logged-out", busy_percent=50, battery=True, metered=True))
    assert asked.local.utcoffset() is not None
    assert (asked.idle, asked.on_battery, asked.metered) == (None, None, None)
    assert asked.sessions is not None
    assert asked.busy is None or 0 <= asked.busy <= 1


def test_a_probe_that_breaks_tells_nothing(monkeypatch):
    def broken():
        raise RuntimeError("a driver of the host's")

    monkeypatch.setattr("bitdew.worker.activity.senses.on_battery", broken)
    assert SystemSenses().observe(Rules()).on_battery is None


def test_the_owners_word_is_kept_and_taken_back(tmp_path):
    assert read_pause(tmp_path) is None
    for word in (Pause(), Pause(datetime(2026, 11, 26, tzinfo=UTC)), None, None):
        write_pause(tmp_path, word)
        assert read_pause(tmp_path) == word


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"until": 7}', '{"until": "soon"}'])
def test_a_word_that_can_not_be_read_counts_as_a_pause(tmp_path, text):
    (tmp_path / "paused.json").write_text(text)
    assert read_pause(tmp_path) == Pause()
