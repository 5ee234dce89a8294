"""A host is looked over: each thing is fine, or it is said what to do about it."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from bitdew.worker.checking import check as module
from bitdew.worker.checking import disk, host, network
from bitdew.worker.checking.check import check
from bitdew.worker.hypervisors import Probed
from bitdew.worker.jobs.runs import Isolation
from bitdew.worker.settings import WorkerSettings
from bitdew.worker.sharings.declaration import Declaration

from bitdew.clock import SystemClock
from bitdew.core.errors import UserError
from bitdew.core.host import Sharing
from bitdew.hypervisor import Fingerprint
from bitdew.testing.mock_hypervisor import MockHost, MockHypervisor

GB = 2**30


class ShiftedClock(SystemClock):
    """A clock that was set wrongly."""

    def __init__(self, seconds):
        self.shift = timedelta(seconds=seconds)

    def now(self):
        return super().now() + self.shift


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    """Hypervisors are tried by tests of their own; here the mock stands for them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(module, "QemuHypervisor", lambda: MockHypervisor(host=MockHost()))
    monkeypatch.setattr(disk, "WRITTEN", 2**21)


@pytest.fixture
def lent(tmp_path):
    return lambda **values: WorkerSettings(
        **{"home": tmp_path / "host", "name": "pc", "memory": GB, "cpus": 1, **values}
    )


def states(view):
    return {one.what: one.state for one in view.findings}


# A whole host ---------------------------------------------------------------------------------------------------------


async def test_a_host_that_has_not_joined_is_looked_over_with_a_url_and_nothing_is_made(service, home):
    view = await check(home, service.url)
    found = states(view)
    assert (view.ready, view.running, view.url) == (True, False, service.url)
    assert found["service"] == found["clock"] == found["disk"] == found["mock"] == "fine"
    assert not home.exists()


async def test_a_host_without_a_service_is_told_to_join_one(home):
    view = await check(home)
    (found,) = [one for one in view.findings if one.what == "service"]
    assert (found.state, view.ready) == ("warning", True)
    assert "bitdew worker check https://" in found.do


async def test_a_joined_host_is_known_to_its_service_and_its_certificates_are_dated(service, home):
    await asyncio.to_thread(service.identity, home)
    await asyncio.to_thread(WorkerSettings(home=home, name="pc-7").save)
    view = await check(home)
    assert view.ready
    assert {name for name in states(view) if name.startswith("certificate")} == {
        "certificate: identity",
        "certificate: swarm",
        "certificate: CA",
    }
    assert any("knows this host" in one.found for one in view.findings)


async def test_a_running_worker_is_looked_over_beside_it(service, home, start_worker, programs):
    programs("tool", "echo 1.0")
    declared = {"tool": Declaration(command=("tool",)), "gone": Declaration(command=("not-there-at-all",))}
    await asyncio.to_thread(WorkerSettings(home=home, name="pc-7", sharings=declared).save)
    async with start_worker(sharings=declared):
        view = await check(home)
    found = states(view)
    assert view.running
    assert (found["worker"], found["sharing: tool"], found["sharing: gone"]) == ("fine", "fine", "warning")
    assert any(one.found.startswith("the worker listens at port ") for one in view.findings)


async def test_a_service_that_does_not_answer_is_a_problem_with_its_cause(home):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    view = await check(home, f"https://127.0.0.1:{port}")
    (found,) = [one for one in view.findings if one.what == "service"]
    assert (found.state, view.ready) == ("problem", False)
    assert "does not answer" in found.found


@pytest.mark.parametrize(
    ("seconds", "state", "words"),
    [(0, "fine", ""), (90, "warning", "ahead of"), (-90, "warning", "behind"), (1000, "problem", "ahead of")],
)
async def test_a_clock_that_differs_from_the_services_is_told(service, home, seconds, state, words):
    view = await check(home, service.url, ShiftedClock(seconds))
    (found,) = [one for one in view.findings if one.what == "clock"]
    assert found.state == state
    assert words in found.found


async def test_certificates_that_end_are_told_in_time(service, home):
    identity = await asyncio.to_thread(service.identity, home)
    end = identity.subject.expires
    soon = {f.what: f.state for f in network.certificates(identity, end - timedelta(days=1), running=False)}
    assert soon == {"certificate: identity": "warning", "certificate: swarm": "warning", "certificate: CA": "fine"}
    renewed = {f.state for f in network.certificates(identity, end - timedelta(days=1), running=True)}
    assert renewed == {"fine"}
    over = {f.what: f.state for f in network.certificates(identity, end, running=True)}
    assert over["certificate: identity"] == "problem"


async def test_settings_that_can_not_be_read_stop_no_other_check(home):
    home.mkdir(mode=0o700)
    (home / "worker.json").write_text('{"quotta": 5}')
    view = await check(home)
    assert (states(view)["settings"], states(view)["disk"], view.ready) == ("problem", "fine", False)


async def test_whether_jobs_can_be_confined_is_told(home):
    view = await check(home)
    (found,) = [one for one in view.findings if one.what == "jobs"]
    assert found.state == ("warning" if found.do else "fine")
    (found,) = host.jobs(Isolation(frozenset(), why="Operation not permitted"))
    assert (found.state, bool(found.do)) == ("warning", True)
    assert "read the volunteer's files" in found.found
    (found,) = host.jobs(Isolation(frozenset({"own-user", "pids"}), root=True))
    assert (found.state, found.found) == ("fine", "can be confined, by own-user, pids")


async def test_a_check_that_breaks_is_a_problem_of_its_own(home, monkeypatch):
    def broken():
        raise ValueError("no such thing")

    monkeypatch.setattr(host, "kvm", broken)
    view = await check(home)
    (found,) = [one for one in view.findings if one.what == "KVM"]
    assert (found.state, found.found) == ("problem", "could not be checked: ValueError: no such thing")
    assert states(view)["memory"] in {"fine", "warning"}


async def test_what_is_no_url_is_refused(home):
    with pytest.raises(UserError):
        await check(home, "http://grid")


# Single checks --------------------------------------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_a_problem(lent):
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        settings = lent(listen=f"127.0.0.1:{taken.getsockname()[1]}")
        (found,) = [one async for one in network.port(settings, "", listening="")]
    assert (found.state, "can't be had" in found.found) == ("problem", True)
    (found,) = [one async for one in network.port(lent(listen="127.0.0.1:0"), "", listening="")]
    assert found.state == "fine"


def test_more_than_there_is_can_not_be_lent(lent):
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert next(f.state for f in host.memory(lent(memory=there))) == "warning"
    assert next(f.state for f in host.memory(lent(memory=2**20))) == "warning"
    assert [f.state for f in host.memory(lent(cpus=60000))][1] == "warning"
    assert [f.state for f in disk.room(lent(quota=2**53))] == ["warning"]
    assert [f.state for f in disk.room(lent(quota=0))] == ["warning"]
    assert [f.state for f in disk.room(lent(quota=1))] == ["fine"]


@pytest.mark.parametrize(
    ("soft", "hard", "state", "words"),
    [
        (-1, -1, "fine", ""),
        (1024, 4096, "fine", ""),
        (500, 4096, "warning", "ulimit -n 756"),
        (64, 4096, "problem", "ulimit -n 756"),
        (500, 500, "warning", "limits.conf"),
    ],
)
def test_limits_of_open_files_are_told_with_the_way_to_raise_them(lent, soft, hard, state, words):
    (found,) = host.open_files(lent(), soft, hard)
    assert (found.state, words in found.do) == (state, True)


def test_kvm_is_told_with_what_is_missing(tmp_path):
    cpuinfo, device = tmp_path / "cpuinfo", tmp_path / "kvm"
    cpuinfo.write_text("flags: fpu sse")
    assert "firmware" in next(host.kvm(device, cpuinfo)).do
    cpuinfo.write_text("flags: fpu vmx")
    assert "modprobe" in next(host.kvm(device, cpuinfo)).do
    device.touch()
    assert next(host.kvm(device, cpuinfo)).state == "fine"


def test_one_hypervisor_is_enough_and_none_is_told_with_how_to_get_one():
    there = Probed(MockHypervisor(host=MockHost()), Fingerprint(Sharing("mock", "1.0"), "none"), "")
    ill = Probed(there.hypervisor, Fingerprint(Sharing("mock", "1.0"), "none", health="no sandbox"), "")
    missing = Probed(there.hypervisor, None, "mock not found. Install it")
    assert [f.state for f in host.hypervisors([there, missing], None)] == ["fine", "fine"]
    assert [f.state for f in host.hypervisors([missing], None)] == ["warning"]
    assert [f.state for f in host.hypervisors([ill], None)] == ["warning"]
    assert [f.found for f in host.hypervisors([missing], ["qemu"])] == ["its owner does not let it be used"]


def test_a_home_that_others_can_read_is_told(lent):
    settings = lent()
    assert [f.state for f in disk.closed(settings)] == ["fine"]
    settings.home.mkdir()
    settings.home.chmod(0o755)
    (found,) = disk.closed(settings)
    assert (found.state, found.do) == ("warning", f"Close it: chmod 700 {settings.home}")
    settings.home.chmod(0o700)
    assert [f.state for f in disk.closed(settings)] == ["fine"]


def test_a_home_that_can_not_be_made_is_told(lent, tmp_path, monkeypatch):
    settings = lent(home=tmp_path / "closed" / "home")
    monkeypatch.setattr(disk.os, "access", lambda path, _mode: path != tmp_path)  # root may write everywhere
    (found,) = disk.closed(settings)
    assert found.state == "problem"
    assert f"{tmp_path} can't be written" in found.found
    assert not (tmp_path / "closed").exists()


def test_a_disk_that_can_not_be_written_or_is_slow_is_told(lent, tmp_path, monkeypatch):
    settings = lent(home=tmp_path)
    monkeypatch.setattr(disk, "SLOW", 0)  # whatever else keeps this disk busy now
    assert [f.state for f in disk.speed(settings)] == ["fine"]
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(disk, "SLOW", 2**60)
    assert [f.state for f in disk.speed(settings)] == ["warning"]
    assert [f.state for f in disk.speed(lent(home=Path("/proc")))] == ["problem"]


def test_what_is_held_already_counts_as_there(lent):
    settings = lent()
    (settings.home / "copies").mkdir(parents=True)
    (settings.home / "copies" / "a").write_bytes(b"x" * 2**20)
    (found,) = disk.room(settings)
    assert "1.0 MB of 20.0 GB lent are taken" in found.found


def test_rules_that_nobody_here_can_judge_are_told(lent, monkeypatch):
    from bitdew.worker.activity.rules import Observations, Rules
    from bitdew.worker.activity.senses import local_now

    class Blind:
        def observe(self, rules):
            return Observations(local=local_now())

    monkeypatch.setattr(host, "SystemSenses", Blind)
    (found,) = host.activity(lent(activity=Rules(when="idle")))
    assert (found.state, "--witness" in found.do) == ("warning", True)
    assert [f.state for f in host.activity(lent())] == ["fine"]
