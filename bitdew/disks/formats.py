"""What kind of disk image a file is, told by its own bytes, and what of it is refused before anything else opens it.

An image can name other files: a backing file, an external data file, extents. Whoever opened such an image would read
those too, and publish what they hold. So each header is read here, and an image that leads elsewhere goes no further.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import tarfile
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from bitdew.core.errors import BitDewError, error

Format = Literal["raw", "qcow2", "vmdk", "vdi", "vpc", "ova"]
"""`vpc` is what QEMU calls a VHD."""

NAMES: Final[dict[Format, str]] = {
    "raw": "a raw image",
    "qcow2": "a qcow2 image",
    "vmdk": "a VMDK image",
    "vdi": "a VDI image",
    "vpc": "a VHD image",
    "ova": "an OVA appliance",
}
MOST_MEMBERS: Final = 1000
LONGEST_HEADER: Final = 4096
"""Bytes that one of an archive's own headers may have: tarfile looks at some of them in a time that grows with the
square of that, and takes as much memory for one as it says that it is long."""
MOST_HEADERS: Final = 1024 * 1024
"""Bytes that an archive's own headers may have together."""

_SECTOR: Final = 512
_LONGEST_DESCRIPTOR: Final = 64 * 1024
_REFUSED: Final = {
    b"vhdxfile": "a VHDX image",
    b"# Disk DescriptorFile": "the descriptor of a VMDK, whose bytes lie in other files",
    b"COWD": "an ESX sparse extent",
    b"\x1f\x8b": "compressed by gzip",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"PK\x03\x04": "a zip archive",
}
_IN_APPLIANCE: Final = re.compile(r"(?i)[^/\\\0]+\.(?:vmdk|vdi|vhd|qcow2|img|raw)")


def format_of(path: Path) -> Format:
    """What the file at `path` is, having seen that it leads nowhere else. What has no mark of another kind is raw.

    Raises:
        UserError: `disk.format`, for what can't be a disk here; `disk.file-missing`, `disk.file-unreadable`.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, a device has no end
            raise refused(path, "it is no regular file")
        with path.open("rb") as file:
            head = file.read(1024)
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - _SECTOR))
            foot = file.read(_SECTOR)
            for mark, what in _REFUSED.items():
                if head.startswith(mark):
                    raise refused(path, f"it is {what}")
            if head.startswith(b"QFI\xfb"):
                _check_qcow2(path, head)
                return "qcow2"
            if head.startswith(b"KDMV"):
                file.seek(0)
                _check_vmdk(path, head, file.read(4 * 1024 * 1024))
                return "vmdk"
    except FileNotFoundError:
        raise error("disk.file-missing", f"{path} does not exist", path=str(path)) from None
    except OSError as fault:
        why = fault.strerror or str(fault)
        raise error("disk.file-unreadable", f"{path} can't be read", why=why, path=str(path)) from None
    if head[0x40:0x44] == b"\x7f\x10\xda\xbe":
        _check_vdi(path, head)
        return "vdi"
    if foot.startswith(b"conectix") or head.startswith(b"conectix"):
        _check_vhd(path, foot if foot.startswith(b"conectix") else head)
        return "vpc"
    return "ova" if head[257:262] == b"ustar" and head[510:512] != b"\x55\xaa" else "raw"


def disk_in_appliance(path: Path) -> tuple[int, int]:
    """Where in an OVA its one disk lies: the first byte, and the number of bytes.

    Raises:
        UserError: `disk.format`, if there is none, or more than one; if anything in it is no file, or leads out of it.
    """
    found: list[tuple[int, int]] = []
    try:
        with _Headers(path) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for number, member in enumerate(archive):
                if number >= MOST_MEMBERS:
                    raise refused(path, f"it has more than {MOST_MEMBERS} files")
                if why := _why_not_in_appliance(member):
                    raise refused(path, f"{member.name[:100]!r} in it {why}")
                if member.isreg() and _IN_APPLIANCE.fullmatch(member.name):
                    found.append((member.offset_data, member.size))
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError, RecursionError) as fault:
        raise refused(path, f"its archive can't be read: {fault}") from None
    if len(found) != 1:
        raise refused(path, f"it has {len(found)} disks, and a machine here has one")
    offset, size = found[0]
    if size <= 0 or offset + size > path.stat().st_size:
        raise refused(path, "its disk is cut off")
    return found[0]


class _Headers(io.FileIO):
    """An archive of which no more is read than headers have: its contents are passed over, not read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._left = MOST_HEADERS

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError(f"one of its headers is longer than {LONGEST_HEADER} bytes")
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError(f"its headers are longer than {MOST_HEADERS} bytes")
        return super().read(size)


def _why_not_in_appliance(member: tarfile.TarInfo) -> str:
    """Why nothing like this belongs into an appliance, or ""."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name:
        return "leads out of it"
    if not (member.isreg() or member.isdir()):
        return "is a link or a device, and no file"
    return "has a part of its bytes only" if member.issparse() else ""


def refused(path: Path, why: str) -> BitDewError:
    """`disk.format` for the file at `path`."""
    return error("disk.format", f"{path} can't be a disk", why=why[:400], path=str(path))


def _check_qcow2(path: Path, head: bytes) -> None:
    """The fields of QEMU's docs/interop/qcow2.txt."""
    if len(head) < 104:
        raise refused(path, "its header is cut off")
    version, backing = struct.unpack_from(">IQ", head, 4)
    (encrypted,) = struct.unpack_from(">I", head, 32)
    if version not in {2, 3}:
        raise refused(path, f"its qcow2 has the version {version}")
    if backing:
        raise refused(path, "it has a backing file: it holds only what differs from another image")
    if encrypted:
        raise refused(path, "it is encrypted")
    if version == 3 and struct.unpack_from(">Q", head, 72)[0] & 0b100:
        raise refused(path, "its data lie in another file")


def _check_vmdk(path: Path, head: bytes, begin: bytes) -> None:
    """The fields of VMware's "Virtual Disk Format 5.0"."""
    if len(head) < 79:
        raise refused(path, "its header is cut off")
    capacity, _grain, offset, length = struct.unpack_from("<QQQQ", head, 12)
    if not capacity or not offset or not length:
        raise refused(path, "its bytes lie in other files")
    if length * _SECTOR > _LONGEST_DESCRIPTOR or (offset + length) * _SECTOR > len(begin):
        raise refused(path, "its descriptor is cut off, or too long")
    text = begin[offset * _SECTOR : (offset + length) * _SECTOR].rstrip(b"\0").decode("latin-1")
    kind = re.search(r'^\s*createType\s*=\s*"([^"]*)"', text, re.MULTILINE | re.IGNORECASE)
    if not kind or kind[1] not in {"monolithicSparse", "streamOptimized"}:
        raise refused(path, f"its type is {kind[1][:40] if kind else 'not told'}: its bytes may lie in other files")
    parent = re.search(r"^\s*parentCID\s*=\s*([0-9a-fA-F]*)", text, re.MULTILINE | re.IGNORECASE)
    if "parentfilenamehint" in text.lower() or (parent and parent[1].lower() != "ffffffff"):
        raise refused(path, "it has a parent: it holds only what differs from another image")


def _check_vdi(path: Path, head: bytes) -> None:
    """The fields of VirtualBox's VDICore.h: type 1 is dynamic, 2 fixed; a snapshot names another image."""
    if len(head) < 0x1D8:
        raise refused(path, "its header is cut off")
    (kind,) = struct.unpack_from("<I", head, 0x4C)
    if kind not in {1, 2} or any(head[0x1A8:0x1C8]):
        raise refused(path, "it is a differencing image, which holds only what differs from another")


def _check_vhd(path: Path, footer: bytes) -> None:
    """The fields of Microsoft's "Virtual Hard Disk Image Format Specification": type 2 is fixed, 3 dynamic."""
    if len(footer) < _SECTOR or struct.unpack_from(">I", footer, 60)[0] not in {2, 3}:
        raise refused(path, "it is neither a fixed nor a dynamic VHD: it may hold only what differs from another image")
