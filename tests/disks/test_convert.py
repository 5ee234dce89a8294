"""Images of every kind, made by the real qemu-img, become the raw bytes that went in; none leads to another file."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitdew.bootdisk import write_boot_disk
from bitdew.client.converted import check_raw, open_disk
from bitdew.core.errors import BitDewError
from bitdew.disks import convert as converting
from bitdew.disks.formats import format_of

needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
MIB = 1024 * 1024
WAYS = {
    "qcow2": ("qcow2", "qcow2", ()),
    "old qcow2": ("qcow2", "qcow2", ("-o", "compat=0.10")),
    "compressed qcow2": ("qcow2", "qcow2", ("-c",)),
    "vmdk": ("vmdk", "vmdk", ()),
    "streamed vmdk": ("vmdk", "vmdk", ("-o", "subformat=streamOptimized")),
    "vdi": ("vdi", "vdi", ()),
    "fixed vdi": ("vdi", "vdi", ("-o", "static=on")),
    "vhd": ("vpc", "vpc", ("-o", "force_size=on")),
    "fixed vhd": ("vpc", "vpc", ("-o", "subformat=fixed,force_size=on")),
}


def tool(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, timeout=60)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    path = tmp_path / "original.raw"
    write_boot_disk(path, line="hello", size=2 * MIB, seed=b"1")
    with path.open("r+b") as file:
        file.truncate(8 * MIB)
    return path


def why_refused(path: Path) -> str:
    with pytest.raises(BitDewError) as caught:
        open_disk(path).close()
    assert caught.value.key == "disk.format"
    return caught.value.why


def read_all(path: Path, told: list[tuple[int, int]] | None = None) -> bytes:
    source = open_disk(path, (lambda done, total: told.append((done, total))) if told is not None else None)
    try:
        assert source.label == str(path)
        source.check_unchanged()
        return source.read_at(0, source.size)
    finally:
        source.close()


def packed(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            about = tarfile.TarInfo(name.replace("__", "."))
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return path


@needs_qemu
@pytest.mark.parametrize("way", WAYS)
def test_every_kind_of_image_is_known_and_becomes_the_bytes_that_went_in(tmp_path, raw, way):
    told, driver, options = WAYS[way]
    image = tmp_path / "image"
    tool("convert", "-f", "raw", "-O", driver, *options, raw, image)
    assert format_of(image) == told
    steps: list[tuple[int, int]] = []
    before = set(Path(converting.tempfile.gettempdir()).glob("bitdew-image-*"))
    assert read_all(image, steps) == raw.read_bytes()
    assert steps[-1] == (8 * MIB, 8 * MIB)
    assert set(Path(converting.tempfile.gettempdir()).glob("bitdew-image-*")) <= before, "what was made is removed"


def test_a_raw_image_is_taken_where_it_is(raw):
    source = open_disk(raw)
    assert source.path == raw
    source.close()


@needs_qemu
def test_what_is_not_raw_can_not_be_offered_from_where_it_is(tmp_path, raw):
    check_raw(raw)
    tool("convert", "-f", "raw", "-O", "qcow2", raw, tmp_path / "i.qcow2")
    with pytest.raises(BitDewError, match="can't be offered from where it is"):
        check_raw(tmp_path / "i.qcow2")


@needs_qemu
def test_the_disk_of_an_appliance_is_taken_out_and_converted(tmp_path, raw):
    tool("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, tmp_path / "d.vmdk")
    disk = (tmp_path / "d.vmdk").read_bytes()
    assert read_all(packed(tmp_path / "a.ova", a__ovf=b"<Envelope/>", a__vmdk=disk, a__mf=b"")) == raw.read_bytes()
    two = packed(tmp_path / "b.ova", a__ovf=b"<Envelope/>", a__vmdk=disk, b__vmdk=disk)
    assert "2 disks" in why_refused(two)
    assert "0 disks" in why_refused(packed(tmp_path / "c.ova", a__ovf=b"<Envelope/>"))


@needs_qemu
def test_sending_can_go_on_with_an_image_that_is_converted_anew(tmp_path, raw):
    tool("convert", "-f", "raw", "-O", "qcow2", raw, tmp_path / "i.qcow2")
    sources = [open_disk(tmp_path / "i.qcow2") for _ in range(2)]
    assert sources[0].fingerprint == sources[1].fingerprint != open_fingerprint(raw)
    (tmp_path / "i.qcow2").touch()
    with pytest.raises(BitDewError, match="changed while it was being added"):
        sources[0].check_unchanged()
    for source in sources:
        source.close()


def open_fingerprint(path: Path) -> str:
    source = open_disk(path)
    source.close()
    return source.fingerprint


@needs_qemu
def test_no_image_leads_to_another_file(tmp_path, raw):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * 200_000)
    tool("create", "-f", "qcow2", "-b", raw, "-F", "raw", tmp_path / "overlay.qcow2")
    assert "backing file" in why_refused(tmp_path / "overlay.qcow2")
    outside = f"data_file={tmp_path / 'outside'},data_file_raw=on"
    tool("create", "-f", "qcow2", "-o", outside, tmp_path / "data.qcow2", "8M")
    assert "another file" in why_refused(tmp_path / "data.qcow2")
    tool("create", "-f", "vmdk", "-o", "subformat=monolithicFlat", tmp_path / "flat.vmdk", "8M")
    assert "other files" in why_refused(tmp_path / "flat.vmdk")
    tool("create", "-f", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", tmp_path / "split.vmdk", "8M")
    assert "other files" in why_refused(tmp_path / "split.vmdk")
    tool("create", "-f", "vmdk", tmp_path / "parent.vmdk", "8M")
    tool("create", "-f", "vmdk", "-b", tmp_path / "parent.vmdk", "-F", "vmdk", tmp_path / "child.vmdk")
    assert "parent" in why_refused(tmp_path / "child.vmdk")


@needs_qemu
def test_a_sparse_vmdk_whose_descriptor_was_changed_to_name_other_extents_is_refused(tmp_path, raw):
    image = tmp_path / "evil.vmdk"
    tool("convert", "-f", "raw", "-O", "vmdk", raw, image)
    content = image.read_bytes()
    image.write_bytes(content.replace(b'createType="monolithicSparse"', b'createType="monolithicFlat"\n #', 1))
    assert "other files" in why_refused(image)
    image.write_bytes(content[:12] + bytes(8) + content[20:])  # no capacity: QEMU then obeys the descriptor's extents
    assert "other files" in why_refused(image)


@needs_qemu
@pytest.mark.parametrize("driver", ["qcow2", "vmdk", "vdi", "vpc"])
def test_an_image_that_does_not_boot_is_refused(tmp_path, driver):
    tool("create", "-f", driver, tmp_path / "empty", "8M")
    assert "55 AA" in why_refused(tmp_path / "empty")


@needs_qemu
def test_a_disk_of_absurd_size_is_refused_before_anything_is_written(tmp_path):
    tool("create", "-f", "qcow2", tmp_path / "huge.qcow2", "3T")
    assert "are the most" in why_refused(tmp_path / "huge.qcow2")


@needs_qemu
def test_a_disk_for_which_there_is_no_room_is_refused_with_what_is_needed(tmp_path, raw, monkeypatch):
    tool("convert", "-f", "raw", "-O", "qcow2", raw, tmp_path / "i.qcow2")
    monkeypatch.setattr(converting, "_SPARE", 2**62)
    with pytest.raises(BitDewError) as caught:
        open_disk(tmp_path / "i.qcow2")
    assert caught.value.key == "storage.full"


def test_without_qemu_img_it_is_told_what_to_install(tmp_path, monkeypatch):
    image = tmp_path / "i.qcow2"
    image.write_bytes(struct.pack(">4sI", b"QFI\xfb", 2) + bytes(2000))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BitDewError) as caught:
        open_disk(image)
    assert caught.value.key == "disk.tool-missing"
    assert "qemu-utils" in caught.value.do


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"vhdxfile", "VHDX"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"# Disk DescriptorFile\nversion=1", "other files"),
        (struct.pack(">4sIQIIQI", b"QFI\xfb", 3, 0, 0, 16, 2**20, 2) + bytes(900), "encrypted"),
        (b"QFI\xfb", "cut off"),
        (b"KDMV" + bytes(200), "other files"),
    ],
)
def test_what_can_not_be_a_disk_is_refused_by_its_first_bytes(tmp_path, head, why):
    path = tmp_path / "image"
    path.write_bytes(head)
    assert why in why_refused(path)


MARKS = [
    b"",
    b"QFI\xfb\0\0\0\3",
    b"KDMV\1\0\0\0",
    b"conectix",
    b"\0" * 0x40 + b"\x7f\x10\xda\xbe",
    b"a" * 257 + b"ustar",
]


@needs_qemu
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mark=st.sampled_from(MARKS), middle=st.binary(max_size=3000), foot=st.sampled_from([b"", b"conectix" + bytes(504)])
)
def test_garbage_is_raw_or_refused_and_never_anything_else(tmp_path, mark, middle, foot):
    path = tmp_path / "garbage"
    path.write_bytes(mark + middle + foot)
    key = "raw"
    try:
        open_disk(path).close()
    except BitDewError as fault:
        key = fault.key
    assert key in {"raw", "disk.format"}


@needs_qemu
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    driver=st.sampled_from(["qcow2", "vmdk", "vdi", "vpc"]),
    changes=st.lists(st.tuples(st.integers(4, 1500), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_an_image_with_bytes_changed_is_converted_or_refused(tmp_path, raw, driver, changes):
    image = tmp_path / f"whole.{driver}"
    if not image.exists():
        tool("convert", "-f", "raw", "-O", driver, raw, image)
    content = bytearray(image.read_bytes())
    for place, value in changes:
        content[place] = value
    changed = tmp_path / "changed"
    changed.write_bytes(content)
    key = "taken"
    try:
        open_disk(changed).close()
    except BitDewError as fault:
        key = fault.key
    assert key in {"taken", "disk.format", "storage.full"}
