"""What becomes of a machine that is to begin on a host whose disk is full: a real file system of a few megabytes."""

from __future__ import annotations

import os
import subprocess

import pytest

pytestmark = [
    pytest.mark.field,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system"),
]
LEFT = 128 * 1024


@pytest.fixture
def small(site):
    """The worker's home, on 48 MB of its own."""
    home = site.folder / "host1"
    home.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", home], check=True)
    yield home
    for daemon in reversed(site.daemons):
        if daemon.process.returncode is None:
            daemon.stop()
    subprocess.run(["umount", "--lazy", home], check=True)


def test_it_is_told_and_another_takes_its_place_when_there_is_room_again(site, tmp_path, small):
    site.serve()
    site.worker(1, "--quota", "20MB")
    disk = tmp_path / "stay.raw"
    site.run("disk", "make", disk, "--line", "it stays", "--size", "2MB", "--stay")
    site.run("disk", "add", disk, "--name", "stay", "--wait")
    filler = small / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
                file.flush()
        except OSError:
            file.truncate(file.tell() // 65536 * 65536 - LEFT)  # enough for the order, too little for the machine
    made = site.run("vm", "deploy", "stay", "--memory", "64MB")

    def machines() -> list[dict]:
        return site.run("vm", "show", made["uid"])["machines"]

    site.until(lambda: machines()[0]["state"] == "failed")
    assert machines()[0]["reason"]["key"] in {"storage.full", "host.full"}
    filler.unlink()
    site.until(lambda: machines()[-1]["state"] == "running", 120)
    assert len(machines()) > 1
