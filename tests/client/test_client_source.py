"""A file as a source of bytes: read anywhere, its holes known, its changes noticed."""

import hashlib
import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from bitdew.client.image import FileSource
from bitdew.client.source import ByteSource
from bitdew.core.errors import BitDewError

MB = 2**20


@pytest.fixture
def path(tmp_path):
    """A file of three and a half megabytes."""
    path = tmp_path / "file"
    path.write_bytes(random.Random(3).randbytes(3 * MB + MB // 2))
    return path


@pytest.fixture
def source(path):
    """That file, opened."""
    source: ByteSource = FileSource(path)
    yield source
    source.close()


def test_bytes_are_read_at_any_place_by_several_threads_at_once(source, path):
    wanted = [(random.Random(n).randrange(3 * MB), random.Random(-n).randrange(MB // 2)) for n in range(200)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda at: source.read_at(*at), wanted))
    whole = path.read_bytes()
    assert got == [whole[offset : offset + length] for offset, length in wanted]
    assert (source.label, source.size) == (str(path), len(whole))


def test_reading_beyond_the_end_tells_that_the_file_changed(source, path):
    os.truncate(path, MB)
    with pytest.raises(BitDewError, match="ended after") as caught:
        source.read_at(MB // 2, MB)
    assert caught.value.key == "disk.changed"


def test_holes_are_where_nothing_was_written_and_read_as_zeros(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(8 * MB)
        file.seek(2 * MB)
        file.write(b"x" * MB)
    source = FileSource(path)
    try:
        holes = source.holes()
        if not holes:
            pytest.skip("this file system does not tell holes")
        assert holes == [(0, 2 * MB), (3 * MB, 8 * MB)]
        assert source.read_at(2 * MB - 5, 10) == bytes(5) + b"x" * 5
    finally:
        source.close()


def test_a_file_without_holes_and_an_empty_one_have_none(source, tmp_path):
    assert list(source.holes()) == []
    (tmp_path / "empty").touch()
    empty = FileSource(tmp_path / "empty")
    try:
        assert (empty.size, empty.holes(), empty.read_at(0, 0) if empty.size else b"") == (0, [], b"")
        empty.check_unchanged()
    finally:
        empty.close()


def test_the_fingerprint_stays_while_the_file_does_and_tells_others_apart(source, path, tmp_path):
    again = FileSource(path)
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    other = FileSource(copy)
    with path.open("r+b") as file:
        file.write(hashlib.sha256(b"other").digest())
    os.utime(path, ns=(path.stat().st_atime_ns, again._opened.st_mtime_ns))
    rewritten = FileSource(path)  # with the old time of modification put back
    prints = [one.fingerprint for one in (source, again, other, rewritten)]
    for one in (again, other, rewritten):
        one.close()
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
    assert all(len(bytes.fromhex(one)) == 32 for one in prints)


@pytest.mark.parametrize("change", [lambda p: os.utime(p, ns=(1, 1)), lambda p: os.truncate(p, 7), os.unlink])
def test_a_change_is_noticed(source, path, change):
    source.check_unchanged()
    change(path)
    with pytest.raises(BitDewError) as caught:
        source.check_unchanged()
    assert caught.value.key == "disk.changed"


def test_what_is_no_file_of_bytes_is_refused_with_its_own_key(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    refused = {}
    for name in ("missing", "pipe", "file/below", "x" * 300, ""):
        with pytest.raises(BitDewError) as caught:
            FileSource(tmp_path / name)
        refused[name[:10]] = caught.value.key
    assert refused == {
        "missing": "disk.file-missing",
        "pipe": "input.invalid",
        "file/below": "disk.file-unreadable",
        "x" * 10: "disk.file-unreadable",
        "": "input.invalid",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(BitDewError, match="can't be read"):
        FileSource(path)


def replaced(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def test_a_file_that_was_replaced_by_its_like_is_another(source, path):
    replaced(path)
    with pytest.raises(BitDewError, match="inode"):
        source.check_unchanged()
