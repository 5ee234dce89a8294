"""What becomes of a real machine when its disk is deprecated meanwhile."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]


def test_a_machine_runs_on_marked_when_its_disk_is_deprecated_and_nothing_more_is_launched(site, tmp_path):
    site.serve()
    site.worker(1)
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", "it stays", "--size", "2MB", "--stay")
    site.run("disk", "add", disk, "--name", "stay", "--requires", "sharing=qemu")
    deployed = site.run("vm", "deploy", "stay", "--memory", "64MB", "--restart", "never", "--wait")
    (machine,) = deployed["machines"]
    assert machine["state"] == "running"

    site.run("disk", "deprecate", "stay", "--why", "use stay-2")
    refusal = site.run("vm", "deploy", "stay", "--memory", "64MB", code=4)["error"]
    assert (refusal["key"], refusal["why"]) == ("disk.deprecated", "use stay-2")
    (shown,) = site.run("vm", "ls")["machines"]
    assert (shown["state"], shown["deprecated"]) == ("running", "use stay-2")
    site.run("disk", "deprecate", "stay", "--undo")
