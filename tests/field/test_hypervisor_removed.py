"""What becomes of real machines when the volunteer removes the hypervisor, and puts it back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
PROGRAMS = ("qemu-system-x86_64", "qemu-img")


@pytest.fixture
def programs(site, tmp_path) -> Path:
    """QEMU in a folder of its own, and nowhere else on the path."""
    system, own = tmp_path / "system", tmp_path / "qemu"
    for folder in (system, own):
        folder.mkdir()
    for name in ("sh", "env", "ionice", "nice"):
        (system / name).symlink_to(shutil.which(name) or pytest.fail(f"{name} is missing"))
    site.environment["PATH"] = f"{own}:{system}"
    install(own)
    return own


def install(folder: Path) -> None:
    for name in PROGRAMS:
        there = shutil.which(name)
        if there is None:
            pytest.skip(f"{name} is not installed")
        (folder / name).write_text(f'#!/bin/sh\nexec {there} "$@"\n')
        (folder / name).chmod(0o755)


def test_what_runs_goes_on_and_what_is_asked_for_waits_until_it_is_back(site, tmp_path, programs):
    site.serve()
    site.worker(1)
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", "it stays", "--size", "2MB", "--stay")
    site.run("disk", "add", disk, "--name", "stay")
    site.run("vm", "deploy", "stay", "--memory", "64MB", "--wait")

    def shared() -> list[str]:
        return [one["name"] for host in site.run("host", "ls")["hosts"] for one in host["sharings"]]

    assert "qemu" in shared()
    for name in PROGRAMS:
        (programs / name).unlink()
    site.until(lambda: "qemu" not in shared())
    (first,) = site.run("vm", "ls")["machines"]
    assert first["state"] == "running"
    made = site.run("vm", "deploy", "stay", "--memory", "64MB")
    told = site.run("vm", "explain", made["uid"])
    assert (told["running"], told["missing"]) == (0, 1)
    assert any("hypervisor" in line for line in [*told["machines"], *told["next"]]), told

    install(programs)
    site.until(lambda: site.run("vm", "explain", made["uid"])["running"] == 1)
    site.run("vm", "stop", first["uid"])
    site.until(lambda: site.run("vm", "show", first["deployment"])["machines"][0]["state"] == "stopped")
