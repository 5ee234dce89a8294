"""A host that has VirtualBox and no other hypervisor, with real processes: announced, chosen, booted, found again."""

from __future__ import annotations

import hashlib
import json
import socket

import psutil
import pytest
from small_guests import datagram_sender, label_reader, write_disk
from virtualbox_host import INTERPRETED, virtualbox_host

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
LINE = "a disk of the grid says hello from VirtualBox"


@pytest.fixture
def host(site, tmp_path):
    """A service, and a worker that may use VirtualBox alone."""
    with virtualbox_host(tmp_path) as program:
        site.environment["PATH"] = f"{program.parent}:{site.environment['PATH']}"
        site.serve()
        site.worker(1).stop()
        settings = tmp_path / "host1" / "worker.json"
        kept = json.loads(settings.read_text()) | {"hypervisors": ["virtualbox"], "extra_modifyvm": INTERPRETED}
        settings.write_text(json.dumps(kept))
        yield site.worker(1)
        for daemon in reversed(site.daemons):  # the worker ends its machines, for which it needs VirtualBox
            daemon.stop()


def machines(site):
    return {machine["uid"]: machine for machine in site.run("vm", "ls")["machines"]}


def front_ends(uid):
    return {p.pid for p in psutil.process_iter(["cmdline"]) if f"bitdew-{uid}" in (p.info["cmdline"] or ())}


def test_a_disk_boots_where_virtualbox_is_and_outlives_a_killed_worker(site, host, tmp_path):
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", LINE, "--size", "2MB", "--stay")
    requires = 'sharing = "virtualbox 7.2"'
    root = site.run("disk", "add", disk, "--name", "stay", "--replica", 1, "--requires", requires)["root"]
    uids = [machine["uid"] for machine in site.run("vm", "deploy", "stay", "--count", 1)["machines"]]
    uids += [machine["uid"] for machine in site.run("vm", "deploy", "stay", "--count", 1)["machines"]]
    for uid in uids:
        site.until(lambda uid=uid: LINE in site.run("vm", "logs", uid)["text"])
    assert {machines(site)[uid]["hypervisor"] for uid in uids} == {"virtualbox"}
    before = [front_ends(uid) for uid in uids]
    assert [len(found) for found in before] == [1, 1]

    host.kill()
    site.worker(1)
    site.until(lambda: all(machines(site)[uid]["state"] == "running" for uid in uids))
    assert [front_ends(uid) for uid in uids] == before, "they were found again, not started again"

    for uid in uids:
        site.run("vm", "stop", uid)
    site.until(lambda: all(machines(site)[uid]["state"] == "stopped" for uid in uids))
    site.until(lambda: list((tmp_path / "host1" / "machines").iterdir()) == [])
    assert hashlib.sha256(site.copy(1, root).read_bytes()).digest() == hashlib.sha256(disk.read_bytes()).digest()


def test_machines_in_virtualbox_read_their_seeds_and_reach_their_host(site, host, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.settimeout(120)
        port = service.getsockname()[1]
        for name, sector in (("reads", label_reader()), ("sends", datagram_sender(port, b"hello from a machine"))):
            disk = write_disk(tmp_path / f"{name}.raw", sector)
            site.run("disk", "add", disk, "--name", name, "--replica", 1, "--requires", 'sharing = "virtualbox 7.2"')
        script = tmp_path / "script"
        script.write_text("#!/bin/sh\necho hello\n")
        told = site.run("vm", "deploy", "reads", "--count", 1, "--user-data", script)["machines"][0]["uid"]
        site.run("vm", "deploy", "sends", "--count", 1, "--network", "user")
        assert service.recv(100) == b"hello from a machine"
        site.until(lambda: site.run("vm", "logs", told)["text"].startswith("cidata "))
    assert {machine["hypervisor"] for machine in machines(site).values()} == {"virtualbox"}


def test_a_machine_in_virtualbox_is_pictured_saved_and_goes_on_after_it_crashed(site, host, tmp_path):
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", LINE, "--size", "2MB", "--stay")
    site.run("disk", "add", disk, "--name", "stay", "--requires", "sharing=virtualbox")
    uid = site.run("vm", "deploy", "stay", "--restart", "never", "--wait")["machines"][0]["uid"]
    assert site.run("vm", "pause", uid)["state"] == "done"
    site.run("vm", "screenshot", uid, "-o", tmp_path / "screen.png")
    assert (tmp_path / "screen.png").read_bytes().startswith(b"\x89PNG")
    site.run("vm", "snapshot", uid, "good")
    (crashing,) = front_ends(uid)
    psutil.Process(crashing).kill()
    site.until(lambda: machines(site)[uid]["state"] == "failed")
    heir = site.run("vm", "restore", uid, "good")["machine"]
    site.until(lambda: machines(site)[heir]["state"] == "running")
    assert front_ends(uid) not in (set(), {crashing})
