"""A real machine is paused, pictured, saved, and goes on on its host after that crashed."""

from __future__ import annotations

import psutil
import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]


def process_of(uid):
    """The hypervisor's process of a machine, if it runs."""
    found = [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE and f"bitdew-{uid}" in (process.info["cmdline"] or ())
    ]
    return found[0] if found else None


def test_a_machine_is_paused_pictured_saved_and_goes_on_after_its_host_crashed(site, tmp_path):
    site.serve()
    worker = site.worker(1)
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", "it stays", "--size", "2MB", "--stay")
    site.run("disk", "add", disk, "--name", "stay", "--requires", "sharing=qemu")
    deployed = site.run("vm", "deploy", "stay", "--memory", "64MB", "--restart", "never", "--wait")
    uid = deployed["machines"][0]["uid"]

    def shown(machine=uid):
        return next(one for one in site.run("vm", "ls")["machines"] if one["uid"] == machine)

    site.until(lambda: "it stays" in site.run("vm", "logs", uid)["text"])
    assert site.run("vm", "pause", uid)["state"] == "done"
    site.until(lambda: (shown()["state"], shown()["reason"]["key"]) == ("paused", "machine.paused"))
    picture = tmp_path / "screen.png"
    site.run("vm", "screenshot", uid, "-o", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    site.run("vm", "resume", uid)
    site.until(lambda: shown()["state"] == "running")

    site.run("vm", "snapshot", uid, "good")
    assert [one["name"] for one in site.run("vm", "snapshots", uid)["snapshots"]] == ["good"]
    assert site.run("vm", "snapshot", uid, "good", code=2)["error"]["key"] == "input.invalid"
    site.run("vm", "restore", uid, "good")
    assert shown()["state"] == "running"

    worker.kill()
    process_of(uid).kill()
    site.worker(1)
    site.until(lambda: shown()["state"] == "failed")
    heir = site.run("vm", "restore", uid, "good")["machine"]
    site.until(lambda: shown(heir)["state"] == "running")
    assert process_of(uid), "it goes on in the body of the one that ended"
    assert site.run("vm", "restore", uid, "good", code=2)["error"]["key"] == "input.invalid"
    site.run("vm", "stop", heir)
    site.until(lambda: not process_of(uid))
