"""The main job with real processes, as the guide tells it: place, verify, boot, and go on after any kill."""

from __future__ import annotations

import asyncio
import hashlib

import psutil
import pytest

from bitdew.core.host import Endpoint
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.metainfo import read_metainfo
from bitdew.swarm.session import Swarm
from bitdew.trust.identity import IdentityFolder

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
MB = 2**20
LINE = "the line that was chosen when the disk was made"


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def all_held(site, name, count):
    return site.until(lambda: (where := site.where(name))["data"]["held"] == count and where)


async def fetch_from(holder: str, metainfo, identity, target):
    """Fetch a content from one peer alone, as the host that has `identity`."""
    pair = SwarmCredentials(identity.ca, identity.swarm.certificate, identity.swarm.private_key)
    async with await Swarm.start(Endpoint("127.0.1.99", 0), pair) as swarm:
        transfer = await swarm.add(metainfo, target, peers=[Endpoint.parse(holder)])
        async with asyncio.timeout(60):
            await transfer.wait_held()


def test_a_disk_is_placed_verified_booted_and_its_holders_go_on_seeding(site, tmp_path):
    site.serve()
    workers = {number: site.worker(number) for number in range(1, 5)}
    disk = tmp_path / "hep.raw"
    site.run("disk", "make", disk, "--line", LINE, "--size", "64MB")
    original = sha256(disk)
    added = site.run("disk", "add", disk, "--name", "hep", "--replica", 3, "--requires", "sharing=qemu")
    where = all_held(site, "hep", 3)
    holders = [int(p["host_name"].removeprefix("host")) for p in where["placements"] if p["state"] == "held"]
    assert [sha256(site.copy(number, added["root"])) for number in holders] == [original] * 3
    assert sum(p["from_peers"] for p in where["placements"]) > 0, "the hosts gave each other something"

    uid = site.run("vm", "deploy", "hep", "--count", 1)["machines"][0]["uid"]
    site.until(lambda: site.run("vm", "ls")["machines"][0]["state"] == "stopped")
    logs = site.run("vm", "logs", uid)
    assert LINE in logs["text"]
    assert [sha256(site.copy(number, added["root"])) for number in holders] == [original] * 3

    (stranger,) = set(workers) - set(holders)
    assert workers[stranger].stop() == 0
    site.service.kill()  # whoever answers now is a holder, not the repository
    identity = IdentityFolder(site.folder / f"host{stranger}" / "identity").load()
    for number in holders:
        target = tmp_path / f"from-{number}"
        metainfo = read_metainfo(site.copy(number, added["root"]).with_suffix(".torrent").read_bytes())
        asyncio.run(fetch_from(workers[number].ready["swarm"], metainfo, identity, target))
        assert sha256(target) == original


def test_a_worker_killed_half_way_resumes_with_what_it_had(site, tmp_path):
    site.serve()
    slow = site.worker(1, "--download", "8MB")
    disk = tmp_path / "hep.raw"
    site.run("disk", "make", disk, "--line", LINE, "--size", "64MB")
    root = site.run("disk", "add", disk, "--name", "hep", "--replica", 1)["root"]
    half = 28 * MB
    slow.wait_for(lambda line: line.get("event") == "progress" and line["fields"]["done"] >= half)
    slow.kill()
    have = site.copy(1, root).with_suffix(".have")
    assert have.exists(), "what it had was written down before the kill"
    again = site.worker(1)
    first = again.wait_for(lambda line: line.get("event") == "progress")
    assert first["fields"]["done"] >= 16 * MB, "it begins with the pieces that it had"
    all_held(site, "hep", 1)
    placement = site.placement("hep", 1)
    received = placement["from_repository"] + placement["from_peers"]
    assert received <= 1.2 * 64 * MB, "no piece that it had was fetched again, but for a second's worth"
    assert sha256(site.copy(1, root)) == sha256(disk)


def test_a_service_killed_while_a_disk_spreads_goes_on_where_it_was(site, tmp_path):
    site.serve()
    workers = [site.worker(number, "--download", "8MB") for number in (1, 2)]
    disk = tmp_path / "hep.raw"
    site.run("disk", "make", disk, "--line", LINE, "--size", "32MB")
    root = site.run("disk", "add", disk, "--name", "hep", "--replica", 2)["root"]
    workers[0].wait_for(lambda line: line.get("event") == "progress" and line["fields"]["done"] >= 6 * MB)
    site.service.kill()
    site.serve()
    all_held(site, "hep", 2)
    assert [sha256(site.copy(number, root)) for number in (1, 2)] == [sha256(disk)] * 2


def test_a_machine_outlives_its_killed_worker_and_is_stopped_by_the_next(site, tmp_path):
    site.serve()
    worker = site.worker(1)
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", LINE, "--size", "2MB", "--stay")
    site.run("disk", "add", disk, "--name", "stay", "--replica", 1, "--requires", "sharing=qemu")
    uid = site.run("vm", "deploy", "stay")["machines"][0]["uid"]

    def machine():
        return next(m for m in site.run("vm", "ls")["machines"] if m["uid"] == uid)

    def emulators():
        return {p.pid for p in psutil.process_iter(["cmdline"]) if f"bitdew-{uid}" in " ".join(p.info["cmdline"] or ())}

    site.until(lambda: machine()["state"] == "running" and LINE in site.run("vm", "logs", uid)["text"])
    before = emulators()
    assert len(before) == 1
    worker.kill()
    assert emulators() == before
    site.worker(1)
    site.until(lambda: machine()["state"] == "running")
    assert emulators() == before, "it was found again, not started again"
    site.run("vm", "stop", uid)
    site.until(lambda: machine()["state"] == "stopped")
    assert not emulators()
