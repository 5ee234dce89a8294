"""A swarm under way when the service is gone: it completes, and who restarts meanwhile finds back into it."""

from __future__ import annotations

import hashlib
import random
import socket

import pytest

MB = 2**20
SIZE = 40 * MB
RATE = "3MB"
"""What each host takes at most: the spreading lasts some fourteen seconds."""


def is_whole(site, number: int, root: str, sha256: str) -> bool:
    path = site.copy(number, root)
    return path.stat().st_size == SIZE and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def has_come(line: dict) -> bool:
    return line.get("event") == "progress" and line["fields"]["done"] > SIZE // 5


def is_held(line: dict) -> bool:
    return line.get("event") == "placement" and line["fields"]["state"] == "held"


@pytest.mark.field
@pytest.mark.timeout(300)
def test_a_swarm_completes_without_its_service_and_a_killed_worker_finds_back_into_it_at_another_port(site):
    disk = site.folder / "disk.raw"
    disk.write_bytes(random.Random(21).randbytes(SIZE))
    sha256 = hashlib.sha256(disk.read_bytes()).hexdigest()
    site.serve()
    first = site.worker(1)
    others = {number: site.worker(number, "--download", RATE) for number in (2, 3, 4)}
    site.run("attr", "set", "spreading", "--pin", "host1", "--replica", 1, "--protocol", "bittorrent")
    root = site.run("data", "put", disk, "--name", "disk", "--attr", "spreading")["root"]
    assert is_held(first.wait_for(is_held))
    site.run("attr", "set", "spreading", "--replica", 4, "--protocol", "bittorrent")
    for worker in others.values():
        assert has_come(worker.wait_for(has_come))

    site.service.kill()
    others[3].kill()
    assert not is_whole(site, 3, root, sha256)
    host, _, port = others[3].ready["swarm"].rpartition(":")
    with socket.create_server((host, int(port))):  # else it would listen there again
        again = site.worker(3)
    assert again.ready["swarm"] != others[3].ready["swarm"]
    for number, worker in {**others, 3: again}.items():
        assert is_held(worker.wait_for(is_held))
        assert is_whole(site, number, root, sha256)
    assert site.service.process.returncode is not None

    site.serve()
    where = site.until(lambda: (now := site.where("disk"))["data"]["held"] == 4 and now)
    # What the killed worker had is not fetched a second time, but for the last second.
    took = {p["host_name"]: p["from_peers"] + p["from_repository"] for p in where["placements"]}
    assert took["host3"] < 1.3 * SIZE
