"""A publisher offers its file from where it is, with real processes: the repository never has a byte of it."""

from __future__ import annotations

import json
import random
import tarfile

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
MB = 2**20


def offered(site, disk, *options):
    """The publisher's process, which ends when the copies are held."""
    return site.start("disk", "add", disk, "--name", "hep", "--seed", "--listen", "127.0.1.77:0", *options, log="seed")


def lines_of(publisher):
    return publisher.wait_for(lambda line: line.get("event") == "held")


def held(site, count):
    return site.until(lambda: (where := site.where("hep"))["data"]["held"] == count and where)


def in_repository(site, root):
    return list((site.folder / "home").glob(f"**/repository/**/{root}"))


def test_the_copies_come_from_the_publisher_and_then_from_each_other(site, tmp_path):
    site.serve()
    for number in (1, 2, 3):
        site.worker(number)
    disk = tmp_path / "hep.raw"
    site.run("disk", "make", disk, "--size", "32MB")
    original = disk.read_bytes()
    publisher = offered(site, disk, "--replica", 3)
    done = lines_of(publisher)
    assert publisher.wait() == 0
    assert (done["data"]["held"], done["data"]["egress"]) == (3, 0)
    root = done["data"]["root"]
    assert [site.copy(number, root).read_bytes() == original for number in (1, 2, 3)] == [True] * 3
    disk.unlink()
    site.worker(4)
    site.run("data", "attr", "hep", "--replica", 4)
    where = held(site, 4)
    assert site.copy(4, root).read_bytes() == original
    assert where["data"]["egress"] == 0
    assert sum(p["from_repository"] for p in where["placements"]) == 0
    assert in_repository(site, root) == []


def test_a_folder_is_offered_as_its_archive_and_leaves_nothing_where_it_was_packed(site, tmp_path):
    site.serve()
    site.worker(1)
    folder, scratch = tmp_path / "inputs", tmp_path / "scratch"
    (folder / "deep").mkdir(parents=True)
    scratch.mkdir()
    (folder / "deep" / "noise").write_bytes(random.Random(4).randbytes(3 * MB))
    (folder / "small").write_bytes(b"small")
    options = ("--name", "hep", "--replica", 1, "--seed", "--listen", "127.0.1.77:0")
    site.environment["TMPDIR"] = str(scratch)
    publisher = site.start("data", "put", folder, *options, log="seed")
    done = lines_of(publisher)
    assert publisher.wait() == 0
    assert (done["data"]["kind"], done["data"]["held"], done["data"]["egress"]) == ("folder", 1, 0)
    with tarfile.open(site.copy(1, done["data"]["root"])) as tar:
        assert tar.extractfile("deep/noise").read() == (folder / "deep" / "noise").read_bytes()
        assert tar.extractfile("small").read() == b"small"
    assert list(scratch.iterdir()) == []
    assert in_repository(site, done["data"]["root"]) == []


def test_a_publisher_killed_half_way_is_waited_for_and_the_same_command_goes_on(site, tmp_path):
    site.serve()
    for number in (1, 2, 3):
        site.worker(number)
    disk = tmp_path / "hep.raw"
    site.run("disk", "make", disk, "--size", "32MB")
    publisher = offered(site, disk, "--replica", 3, "--upload", "4MB")
    publisher.wait_for(lambda line: line.get("event") == "copy" and line["done"] >= 4 * MB)
    publisher.kill()

    def waits():
        return "waits for its publisher" in json.dumps(site.run("disk", "explain", "hep")["next"])

    site.until(waits, 40)
    assert site.where("hep")["data"]["held"] < 3
    publisher = offered(site, disk)
    assert lines_of(publisher)["data"]["egress"] == 0
    assert publisher.wait() == 0
    root = site.where("hep")["data"]["root"]
    assert [site.copy(number, root).read_bytes() == disk.read_bytes() for number in (1, 2, 3)] == [True] * 3


def test_a_service_killed_half_way_stops_neither_publisher_nor_hosts(site, tmp_path):
    service = site.serve()
    for number in (1, 2, 3):
        site.worker(number)
    disk = tmp_path / "hep.raw"
    site.run("disk", "make", disk, "--size", "32MB")
    publisher = offered(site, disk, "--replica", 3, "--upload", "6MB")
    publisher.wait_for(lambda line: line.get("event") == "copy" and line["done"] >= 4 * MB)
    service.kill()
    site.serve()
    done = lines_of(publisher)
    assert (done["data"]["held"], done["data"]["egress"]) == (3, 0)
    assert publisher.wait() == 0
