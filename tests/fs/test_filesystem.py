"""`bitdew://name` in fsspec, on a real grid: ranges on demand, writing, listing, chains, and nothing left open."""

from __future__ import annotations

import os
import tarfile

import fsspec
import pytest

from bitdew import Attribute
from bitdew.blocking.portal import Portal
from bitdew.fs import BitDewFileSystem
from bitdew.fs.filesystem import BitDewFile
from bitdew.testing.grid import Grid

RAW = os.urandom(9_000_001)


@pytest.fixture
def fs():
    with Portal() as portal:
        grid = Grid(hosts=0)
        portal.call(grid.__aenter__())
        # By a path it is a profile's folder; fsspec keeps instances by their arguments, and this one is not kept.
        found = BitDewFileSystem(grid.folder / "operator", skip_instance_cache=True)
        found.dew.put(RAW, name="raw")
        yield found
        found.close()
        portal.call(grid.__aexit__())


def test_the_protocol_is_known_to_fsspec() -> None:
    assert fsspec.get_filesystem_class("bitdew") is BitDewFileSystem


def test_a_file_is_read_from_anywhere_and_only_what_is_asked_for_comes(fs, monkeypatch) -> None:
    fetched = []
    real = BitDewFile._fetch_range
    monkeypatch.setattr(BitDewFile, "_fetch_range", lambda s, a, b: fetched.append((a, b)) or real(s, a, b))
    with fs.open("bitdew://raw", block_size=100_000) as file:
        assert file.seek(-10, os.SEEK_END) == len(RAW) - 10
        assert file.read() == RAW[-10:]
        file.seek(1_000_000)
        assert file.read(1000) == RAW[1_000_000:1_001_000]
    assert 0 < sum(end - start for start, end in fetched) < 500_000
    assert fs.cat_file("raw", 5, 9) == RAW[5:9]
    assert fs.cat_file("raw", -9) == RAW[-9:]
    assert fs.cat("bitdew://raw") == RAW


def test_data_are_listed_and_looked_at(fs) -> None:
    fs.dew.put(b"x", name="other")
    assert fs.ls("", detail=False) == ["other", "raw"]
    assert (fs.info("bitdew://raw")["size"], fs.exists("raw"), fs.exists("none")) == (len(RAW), True, False)
    assert fs.isfile("raw")
    assert fs.isdir("")
    assert fs.glob("bitdew://o*") == ["other"]
    assert fs.ukey("raw") == fs.info("raw")["root"] != fs.ukey("other")
    assert fs.modified("raw") == fs.created("raw")


def test_a_file_is_written_as_a_whole_when_it_is_closed(fs) -> None:
    with fs.open("lines", "wb", attribute=Attribute(replica=2)) as file:
        file.write(b"one\n")
        assert not fs.exists("lines")
        file.write(b"two\n")
    with fs.open("lines", "rt") as file:
        assert list(file) == ["one\n", "two\n"]
    assert fs.dew.find("lines").view.wanted == 2
    with fs.open("text", "wt") as file:
        file.write("three")
    assert fs.cat("text") == b"three"
    with fs.open("empty", "wb"):
        pass
    assert fs.cat("empty") == b""


def test_nothing_is_made_of_a_block_that_failed(fs) -> None:
    def fail() -> None:
        with fs.open("half", "wb") as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not fs.exists("half")


def test_files_go_there_and_come_back_and_end(fs, tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    fs.put(str(tmp_path / "a"), "bitdew://a")
    fs.get("bitdew://a", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == b"abc"
    fs.rm("a")
    assert not fs.exists("a")
    for work in (lambda: fs.open("a"), lambda: fs.info("a"), lambda: fs.rm_file("a"), lambda: fs.cat_file("../x")):
        with pytest.raises(FileNotFoundError):
            work()
    with pytest.raises(NotImplementedError):
        fs.open("raw", "ab")


def test_a_file_in_a_folder_is_read_through_its_archive(fs, tmp_path) -> None:
    (tmp_path / "inputs/deep").mkdir(parents=True)
    (tmp_path / "inputs/deep/a.txt").write_bytes(b"deep down")
    fs.dew.put(tmp_path / "inputs")
    with fs.open("inputs") as file, tarfile.open(fileobj=file) as archive:
        name = next(one for one in archive.getnames() if one.endswith("a.txt"))
        inner = archive.extractfile(name)
        assert inner is not None
        assert inner.read() == b"deep down"


def test_what_was_read_once_is_cached_by_its_content(fs, tmp_path) -> None:
    cached = fsspec.filesystem("simplecache", fs=fs, cache_storage=str(tmp_path), skip_instance_cache=True)
    assert cached.cat("raw") == RAW
    assert any(path.stat().st_size == len(RAW) for path in tmp_path.iterdir())


def test_a_closed_file_system_connects_again(fs) -> None:
    fs.close()
    assert fs.cat_file("raw", 0, 3) == RAW[:3]


def test_what_only_its_publisher_has_is_read_in_ranges_and_nothing_stays_when_the_file_is_closed(fs, tmp_path) -> None:
    own = os.urandom(9_000_001)
    (tmp_path / "own").write_bytes(own)
    readers = fs.dew.twin.grid._readers
    with fs.dew.seeding(tmp_path / "own", Attribute(replica=0)) as offer:
        with fs.open("own", block_size=100_000) as file:
            file.seek(5_000_000)
            assert file.read(10) == own[5_000_000:5_000_010]
            assert offer.sent < 500_000
            assert len(readers) == 1
            file.seek(0)
            assert file.read() == own
        fs.dew.portal.do(lambda: None)
        assert not readers
        assert fs.dew.read("own", 7, 9) == own[7:9]
        assert b"".join(fs.dew.stream("own")) == own
        assert not readers
