"""Real machines are drained: a deployment's, and those on a host; none takes their place."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]


def test_drained_machines_end_and_none_takes_their_place_until_more_are_wanted(site, tmp_path):
    site.serve()
    name = site.worker(1).ready["name"]
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", "it stays", "--size", "2MB", "--stay")
    site.run("disk", "add", disk, "--name", "stay", "--requires", "sharing=qemu")
    kept = site.run("vm", "deploy", "stay", "--memory", "64MB", "--restart", "always", "--wait")
    made = site.run("vm", "deploy", "stay", "--count", 2, "--memory", "64MB", "--restart", "always", "--wait")

    def machines(deployment) -> list[str]:
        return sorted(one["state"] for one in site.run("vm", "show", deployment["uid"])["machines"])

    drained = site.run("vm", "drain", made["uid"], "--wait")["machines"]
    assert sorted(one["uid"] for one in drained) == sorted(one["uid"] for one in made["machines"])
    assert [one["state"] for one in drained] == ["stopped", "stopped"]
    assert machines(kept) == ["running"]
    assert machines(made) == ["stopped", "stopped"]

    site.run("vm", "scale", made["uid"], 1)
    site.until(lambda: machines(made) == ["running", "stopped", "stopped"])
    there = site.run("vm", "drain", "--host", name, "--wait", "--timeout", "2m")["machines"]
    assert [one["state"] for one in there] == ["stopped", "stopped"]
    assert machines(kept) == ["stopped"]
    assert machines(made) == ["stopped"] * 3
