"""The boot disk: what is in it, what is refused, that no half-written file is left. The hypervisors' tests boot it."""

from __future__ import annotations

import errno
import os
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew import bootdisk
from bitdew.bootdisk import LONGEST_LINE, boot_sector, write_boot_disk
from bitdew.core.errors import BitDewError

MIB = 1024 * 1024


def test_the_disk_has_the_size_asked_for_and_the_signature_of_a_bootable_disk(tmp_path):
    write_boot_disk(tmp_path / "d.img", line="hello", size=MIB + 512)
    content = (tmp_path / "d.img").read_bytes()
    assert len(content) == MIB + 512
    assert content[510:512] == b"\x55\xaa"
    assert content[:512] == boot_sector("hello", size=MIB + 512)


def test_one_active_partition_covers_all_but_the_first_sector():
    entry = boot_sector("hello", size=4 * MIB)[446:462]
    active, *_chs, kind, _a, _b, _c, start, sectors = struct.unpack("<B3BB3BII", entry)
    assert (active, kind, start, sectors) == (0x80, 0xDA, 1, 4 * MIB // 512 - 1)
    assert boot_sector("hello", size=4 * MIB)[462:510] == bytes(48)


def test_a_disk_larger_than_a_partition_table_can_say_still_has_one():
    entry = boot_sector("hello", size=4 * 1024**4)[446:462]
    assert struct.unpack("<I", entry[12:]) == (0xFFFF_FFFF,)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=LONGEST_LINE), st.booleans())
def test_every_printable_line_fits_and_stands_in_the_sector(line, power_off):
    sector = boot_sector(line, size=MIB, power_off=power_off)
    assert len(sector) == 512
    assert line.encode() + b"\r\n\0" in sector[:440]


@pytest.mark.parametrize("line", ["", "x" * 201, "two\nlines", "tab\t", "grüezi", "nul\0", "\x7f"])
def test_a_line_that_a_bios_could_not_show_is_refused(tmp_path, line):
    with pytest.raises(BitDewError) as caught:
        write_boot_disk(tmp_path / "d.img", line=line, size=MIB)
    assert caught.value.key == "input.invalid"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [-512, 0, 512, MIB - 512, MIB + 1])
def test_a_size_that_no_disk_has_is_refused(tmp_path, size):
    with pytest.raises(BitDewError) as caught:
        write_boot_disk(tmp_path / "d.img", line="hello", size=size)
    assert caught.value.key == "input.invalid"
    assert list(tmp_path.iterdir()) == []


def test_the_filling_can_not_be_compressed_and_differs_each_time(tmp_path):
    for name in ("a", "b"):
        write_boot_disk(tmp_path / name, line="hello", size=MIB)
    first, second = ((tmp_path / name).read_bytes() for name in ("a", "b"))
    assert len(zlib.compress(first)) > 0.99 * MIB
    assert first[512:] != second[512:]


def test_a_seed_makes_the_same_disk_again(tmp_path):
    for name, seed in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        write_boot_disk(tmp_path / name, line="hello", size=3 * MIB, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a", "b", "c"))
    assert a == b != c


def test_progress_tells_the_bytes_written_and_ends_with_all(tmp_path):
    seen: list[int] = []
    write_boot_disk(tmp_path / "d.img", line="hello", size=3 * MIB + 512, progress=seen.append)
    assert seen == sorted(set(seen))
    assert seen[-1] == 3 * MIB + 512
    assert len(seen) >= 3


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path):
    path = tmp_path / "d.img"
    path.write_bytes(b"precious")
    with pytest.raises(BitDewError, match="exists already") as caught:
        write_boot_disk(path, line="hello", size=MIB)
    assert caught.value.key == "input.invalid"
    assert path.read_bytes() == b"precious"
    write_boot_disk(path, line="hello", size=MIB, overwrite=True)
    assert path.stat().st_size == MIB
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "key"), [(errno.ENOSPC, "storage.full"), (errno.EDQUOT, "storage.full"), (errno.EIO, "storage.failed")]
)
def test_a_disk_that_can_not_be_finished_leaves_nothing(tmp_path, monkeypatch, number, key):
    def fail(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(bootdisk.os, "fsync", fail)
    with pytest.raises(BitDewError, match=r"d\.img") as caught:
        write_boot_disk(tmp_path / "d.img", line="hello", size=MIB)
    assert caught.value.key == key
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(BitDewError) as caught:
        write_boot_disk(tmp_path / "nowhere" / "d.img", line="hello", size=MIB)
    assert caught.value.key == "storage.failed"


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupt(_written):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_boot_disk(tmp_path / "d.img", line="hello", size=2 * MIB, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_looked_into_is_a_clear_error(tmp_path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for name in ("exists", "open", "unlink"):
        monkeypatch.setattr(bootdisk.Path, name, refuse)
    with pytest.raises(BitDewError, match=r"d\.img") as caught:
        write_boot_disk(tmp_path / "d.img", line="hello", size=MIB)
    assert (caught.value.key, caught.value.why) == ("storage.failed", os.strerror(errno.EACCES))
