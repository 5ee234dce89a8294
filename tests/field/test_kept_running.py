"""A deployment keeps as many machines running as are wanted, with real workers and real machines."""

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


def test_a_machine_of_a_killed_worker_runs_again_elsewhere_and_the_old_one_ends_when_its_worker_is_back(site, tmp_path):
    site.serve()
    workers = {f"host{number}": site.worker(number) for number in (1, 2, 3)}
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", "it stays", "--size", "2MB", "--stay")
    site.run("disk", "add", disk, "--name", "stay", "--replica", 3, "--requires", "sharing=qemu")
    site.until(lambda: site.where("stay")["data"]["held"] == 3)
    deployment = site.run("vm", "deploy", "stay", "--count", 2, "--wait")["uid"]

    def running():
        machines = site.run("vm", "show", deployment)["machines"]
        return {machine["uid"]: machine["host_name"] for machine in machines if machine["state"] == "running"}

    before = running()
    assert len(before) == 2
    lost, host = next(iter(before.items()))
    (other,) = set(before) - {lost}
    workers[host].kill()
    after = site.until(lambda: len(found := running()) == 2 and lost not in found and found)
    assert after[other] == before[other]
    (successor,) = set(after) - {other}
    assert after[successor] != host
    shown = {machine["uid"]: machine for machine in site.run("vm", "show", deployment)["machines"]}
    assert (shown[lost]["reason"]["key"], shown[lost]["successor"]) == ("machine.host-lost", successor)
    assert site.run("vm", "explain", deployment)["missing"] == 0

    assert processes_of(lost), "its hypervisor outlived the worker"
    site.worker(int(host.removeprefix("host")))
    site.until(lambda: not processes_of(lost))
    assert running() == after
    site.run("vm", "stop", deployment)
    site.until(lambda: not any(map(processes_of, after)))
    assert running() == {}
