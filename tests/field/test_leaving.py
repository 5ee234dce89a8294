"""Hosts are drained and leave, as real processes: copies and machines go on elsewhere, and nothing is left behind."""

from __future__ import annotations

import psutil
import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]


def processes_of(uid):
    """The hypervisor's processes of a machine."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(uid in word for word in process.info["cmdline"] or ())
    ]


def test_a_drained_hosts_machine_runs_on_elsewhere_and_then_the_host_leaves_without_a_trace(site, tmp_path):
    site.serve()
    workers = {f"host{number}": site.worker(number) for number in (1, 2)}
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", "it stays", "--size", "2MB", "--stay")
    site.run("disk", "add", disk, "--name", "stay", "--replica", 2, "--requires", "sharing=qemu")
    site.until(lambda: site.where("stay")["data"]["held"] == 2)
    deployment = site.run("vm", "deploy", "stay", "--restart", "always", "--wait")["uid"]
    (old,) = site.run("vm", "show", deployment)["machines"]
    leaving, (other,) = old["host_name"], set(workers) - {old["host_name"]}

    drained = site.run("host", "drain", leaving)
    assert (drained["host"]["state"], drained["machines"]) == ("drained", 1)
    assert site.run("host", "show", leaving)["drain"] == "keep"

    def moved():
        machines = site.run("vm", "show", deployment)["machines"]
        return [one for one in machines if one["state"] == "running" and one["host_name"] == other]

    (heir,) = site.until(moved)
    site.until(lambda: not processes_of(old["uid"]))
    assert processes_of(heir["uid"])

    home = site.folder / leaving
    (home / "notes.txt").write_text("the owner's")
    left = site.run("worker", "leave", "--home", home)
    assert (left["left"], left["revoked"], left["lost"], left["kept"]) == (True, True, [], [str(home / "notes.txt")])
    assert left["freed"] > 0
    assert [path.name for path in home.rglob("*")] == ["notes.txt"]
    assert workers[leaving].wait() == 0
    assert site.run("host", "show", leaving)["state"] == "banned"
    assert site.run("worker", "leave", "--home", home, code=5)["error"]["key"] == "profile.missing"
    assert moved()
    site.run("vm", "stop", deployment)
    site.until(lambda: not processes_of(heir["uid"]))
