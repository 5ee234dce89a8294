"""Images that somebody made to do harm, or that were cut off: each is refused for what it is, and soon."""

from __future__ import annotations

import io
import os
import shutil
import struct
import tarfile
import time
from pathlib import Path

import pytest

from bitdew.core.errors import BitDewError
from bitdew.disks import convert as converting
from bitdew.disks import formats
from bitdew.disks.formats import disk_in_appliance, format_of

from .test_convert import MIB, needs_qemu, packed, raw, tool, why_refused  # noqa: F401 - a fixture among them

SOON = 60.0
"""Seconds: the time that qemu-img may look at an image. What is refused here takes a tenth of a second."""


@pytest.fixture(autouse=True)
def _soon():
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as made:
        for about, content in members:
            about.size = len(content) if about.isreg() else 0
            made.addfile(about, io.BytesIO(content) if about.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.linkname = kind, target
    return about


# Appliances -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../disk.vmdk", "/etc/disk.vmdk", "a/../../disk.vmdk", "a\\..\\disk.vmdk"])
def test_an_appliance_with_a_name_that_leads_out_of_it_is_refused(tmp_path, name):
    path = archive(tmp_path / "a.ova", (member("a.ovf"), b"<Envelope/>"), (member(name), b"x" * 600))
    assert "leads out of it" in why_refused(path)
    assert [one.name for one in tmp_path.iterdir()] == ["a.ova"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_an_appliance_with_a_link_or_a_device_is_refused(tmp_path, kind):
    path = archive(tmp_path / "a.ova", (member("a.ovf"), b"<Envelope/>"), (member("d.vmdk", kind, "/etc/shadow"), b""))
    assert "no file" in why_refused(path)


def test_an_appliance_whose_disk_is_cut_off_is_refused(tmp_path):
    path = packed(tmp_path / "a.ova", a__ovf=b"<Envelope/>", a__vmdk=b"x" * 100_000)
    os.truncate(path, 50_000)
    assert "cut off" in why_refused(path) or "can't be read" in why_refused(path)


def test_headers_of_an_archive_that_promise_gigabytes_are_not_read_into_memory(tmp_path):
    path = tmp_path / "a.ova"
    about = tarfile.TarInfo("x")
    about.type, about.size = tarfile.XHDTYPE, 8 * 2**30 - 1
    path.write_bytes(about.tobuf(tarfile.USTAR_FORMAT) + bytes(512))
    os.truncate(path, 9 * 2**30)  # a hole
    assert "longer than 4096 bytes" in why_refused(path)


def test_an_archive_of_nothing_but_headers_comes_to_an_end(tmp_path):
    path = tmp_path / "a.ova"
    about = tarfile.TarInfo("x")
    about.type, about.size = tarfile.XHDTYPE, 20
    one = about.tobuf(tarfile.USTAR_FORMAT) + b"20 comment=aaaaaaaa\n".ljust(512, b"\0")
    path.write_bytes(one * 3000)
    assert "can't be read" in why_refused(path)
    many = tarfile.TarInfo("y").tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(many * (formats.MOST_MEMBERS + 1))
    assert "more than 1000 files" in why_refused(path)


def test_a_size_below_zero_leads_an_archive_round_in_no_circle(tmp_path):
    path = tmp_path / "a.ova"
    about = bytearray(tarfile.TarInfo("a.vmdk").tobuf(tarfile.USTAR_FORMAT))
    about[124:136] = b"\xff" * 11 + b"\xfe"  # -2 in base 256
    about[148:156] = b"%06o\0 " % (256 + sum(about[:148]) + sum(about[156:512]))
    path.write_bytes(bytes(about) * 3 + bytes(1024))
    with pytest.raises(BitDewError) as caught:
        disk_in_appliance(path)
    assert caught.value.key == "disk.format"


# Files ----------------------------------------------------------------------------------------------------------------


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(BitDewError, match="can't be a disk") as caught:
            format_of(path)
        assert "no regular file" in caught.value.why


@needs_qemu
@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("qcow2", ()),
        ("qcow2", ("-c",)),
        ("vmdk", ()),
        ("vmdk", ("-o", "subformat=streamOptimized")),
        ("vdi", ()),
        ("vdi", ("-o", "static=on")),
        ("vpc", ("-o", "force_size=on")),
    ],
)
@pytest.mark.parametrize("kept", [0.4, 0.9])
def test_an_image_that_was_cut_off_is_not_filled_up_with_zeros(tmp_path, driver, options, kept):
    whole, cut = tmp_path / "whole.raw", tmp_path / "cut"
    content = bytearray(os.urandom(4 * MIB))
    content[510:512] = b"\x55\xaa"
    whole.write_bytes(content)
    tool("convert", "-f", "raw", "-O", driver, *options, whole, cut)
    os.truncate(cut, int(cut.stat().st_size * kept))
    assert why_refused(cut)


@needs_qemu
def test_headers_that_say_more_than_there_is_are_not_believed(tmp_path, raw):  # noqa: F811
    image = tmp_path / "image"

    def lying(driver: str, at: int, form: str, value: int, *options: str, foot: bool = False) -> str:
        tool("convert", "-f", "raw", "-O", driver, *options, raw, image)
        content = bytearray(image.read_bytes())
        struct.pack_into(form, content, len(content) - 512 + at if foot else at, value)
        image.write_bytes(content)
        return why_refused(image)

    assert "header can't be" in lying("vdi", 0x184, "<I", 0xFFFFFFFF)  # blocks that are there
    assert lying("vdi", 0x180, "<I", 0xFFFFFFFF)  # blocks in all
    assert "behind its end" in lying("vdi", 0x158, "<I", 0x7FFFFE00)  # where they begin
    assert lying("vdi", 0x170, "<Q", 2**63)  # the disk's bytes
    assert "cut off" in lying("vpc", 48, ">Q", 2**40, "-o", "subformat=fixed,force_size=on", foot=True)
    assert "header is damaged" in lying("vpc", 16, ">Q", 2**60, "-o", "force_size=on", foot=True)
    assert "table can't be" in lying("vpc", 512 + 28, ">I", 0xFFFFFFFF, "-o", "force_size=on")
    assert "behind its end" in lying("vpc", 512 + 1024, ">I", 0x7FFFFFFF, "-o", "force_size=on")
    assert lying("qcow2", 24, ">Q", 2**62)  # the disk's bytes
    assert lying("qcow2", 36, ">I", 0xFFFFFFFF)  # its table's entries
    assert lying("qcow2", 40, ">Q", 2**60)  # where that is
    assert lying("qcow2", 20, ">I", 63)  # bits of a cluster
    assert lying("vmdk", 12, "<Q", 2**62)  # the disk's sectors
    assert lying("vmdk", 20, "<Q", 2**40)  # a grain's
    assert lying("vmdk", 44, "<I", 2**31)  # entries of a table


@needs_qemu
@pytest.mark.parametrize("driver", ["vdi", "vpc", "vmdk"])
def test_a_disk_of_absurd_size_is_refused_in_every_format_or_can_not_be_made(tmp_path, driver):
    try:
        tool("create", "-f", driver, tmp_path / "huge", "1200G")
    except Exception:  # noqa: BLE001 - this qemu-img makes none so large
        pytest.skip(f"qemu-img makes no {driver} so large")
    assert "are the most" in why_refused(tmp_path / "huge")


@needs_qemu
def test_a_small_image_that_names_the_same_bytes_without_end_is_refused_before_anything_is_written(tmp_path, raw):  # noqa: F811
    """A qcow2 of 512 GB that is not empty anywhere: all entries of all its tables lead to one cluster."""
    image, cluster = tmp_path / "bomb.qcow2", 64 * 1024
    tables = 512 * 2**30 // (cluster * cluster // 8)
    l1, l2, data = cluster, 2 * cluster, 3 * cluster
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, 512 * 2**30, 0, tables, l1, 4 * cluster, 1, 0, 0)
    content = bytearray(6 * cluster)
    content[: len(head)] = head
    content[l1 : l1 + 8 * tables] = struct.pack(">Q", l2) * tables
    content[l2 : l2 + cluster] = struct.pack(">Q", data) * (cluster // 8)
    content[data : data + 512] = raw.read_bytes()[:512]
    content[data + 512 : data + cluster] = b"x" * (cluster - 512)
    image.write_bytes(content)
    with pytest.raises(BitDewError) as caught:
        converting.convert(image, "qcow2", made_in(tmp_path), lambda *_: pytest.fail("it was begun"))
    assert caught.value.key == "disk.format"


@needs_qemu
def test_what_would_become_too_many_times_as_large_is_refused(tmp_path, raw, monkeypatch):  # noqa: F811
    image = tmp_path / "image.qcow2"
    filled = tmp_path / "filled.raw"
    filled.write_bytes(raw.read_bytes()[:512] + b"y" * (16 * MIB - 512))
    tool("convert", "-f", "raw", "-O", "qcow2", "-c", filled, image)
    monkeypatch.setattr(converting, "_SPARE", MIB)
    monkeypatch.setattr(converting, "MOST_GROWTH", 20)
    assert "more than 20 times" in why_refused(image)


@needs_qemu
def test_qemu_img_says_no_more_than_it_may_and_takes_no_longer(tmp_path, raw, monkeypatch):  # noqa: F811
    image = tmp_path / "image.qcow2"
    tool("convert", "-f", "raw", "-O", "qcow2", raw, image)
    programs = tmp_path / "programs"
    programs.mkdir()
    real = shutil.which("qemu-img")
    for name, text in (("talks", "exec yes"), ("hangs", "exec sleep 600")):
        fake = programs / "qemu-img"
        fake.write_text(f'#!/bin/sh\n[ "$1" = info ] && exec {real} "$@"\n{text}\n')
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(converting, "_LOOKING", 20.0 if name == "talks" else 1.0)
        assert "damaged" in why_refused(image) if name == "talks" else "took more than" in why_refused(image)


def made_in(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    return folder
