"""The disk itself: a boot sector, a small FAT file system to boot from, and the guest's files as squashfs behind it.

    sector 0        code of syslinux, the table of both partitions
    1 MiB           FAT16: syslinux, the kernel, its first file system
    behind it       squashfs: read only; at run time all writes go to memory

Offsets are handed to mtools and syslinux, so that nothing is mounted.
"""

from __future__ import annotations

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .programs import EPOCH, MBR, failed, run_tool

MIB: Final = 1024 * 1024
SIGNATURE: Final = 0x42444557
"""The disk's signature in its first sector."""

_SECTORS: Final = MIB // 512
_SMALLEST_FAT: Final = 16  # MiB: with less it would be FAT12, by the number of its clusters
_CODE: Final = 440
_MENU: Final = """\
SERIAL 0 115200
DEFAULT bitdew
PROMPT 0
TIMEOUT 0
LABEL bitdew
  KERNEL vmlinuz
  INITRD initrd.gz
  APPEND console=tty0 console=ttyS0,115200 quiet panic=-1 net.ifnames=0 mitigations=off
"""


@dataclass(frozen=True, slots=True)
class Boot:
    """What the FAT file system holds.

    Attributes:
        kernel: The kernel's file.
        initrd: The first file system, compressed.
    """

    kernel: Path
    initrd: bytes


def pack_root(root: Path, target: Path) -> None:
    """Pack the folder `root` as squashfs. Blocks.

    Raises:
        HostError: `disk.build-failed`.
    """
    command = ["mksquashfs", root, target, "-noappend", "-quiet", "-no-progress", "-no-xattrs", "-all-root"]
    packing = ["-comp", "zstd", "-Xcompression-level", "12", "-b", "256K", "-all-time", EPOCH, "-mkfs-time", EPOCH]
    # mksquashfs refuses to be told the time in two ways
    plain = ["env", "-u", "SOURCE_DATE_EPOCH", *map(str, command), *map(str, packing)]
    run_tool(plain, seconds=3600, doing="Packing the guest's files")


def write_image(path: Path, boot: Boot, squashed: Path, work: Path) -> int:
    """Write the disk to `path`; its size in bytes. Blocks.

    Args:
        path: The file to write; it must not be there.
        boot: What it boots.
        squashed: The guest's files, packed.
        work: A folder for what lies between.

    Raises:
        HostError: `disk.build-failed`. OSError.
    """
    files = {"vmlinuz": boot.kernel.read_bytes(), "initrd.gz": boot.initrd, "syslinux.cfg": _MENU.encode()}
    fat = max(_SMALLEST_FAT, -(-sum(map(len, files.values())) // MIB) + 4)
    root = -(-squashed.stat().st_size // MIB)
    size = (1 + fat + root) * MIB
    with path.open("xb") as file:
        file.truncate(size)
        file.write(boot_record(MBR.read_bytes(), [(0x80, 0x0E, 1, fat), (0, 0x83, 1 + fat, root)]))
    _format(path, fat, files, work)
    with path.open("r+b") as file, squashed.open("rb") as packed:
        file.seek((1 + fat) * MIB)
        shutil.copyfileobj(packed, file, MIB)
    return size


def boot_record(code: bytes, partitions: list[tuple[int, int, int, int]]) -> bytes:
    """The first sector: `code`, the signature, and partitions as (active, kind, start, length), the last two in MiB.

    Raises:
        HostError: `disk.build-failed`, for what a table of this kind can't say.
    """
    table = b""
    for active, kind, start, length in partitions:
        if (start + length) * _SECTORS > 0xFFFF_FFFF:
            raise failed("Writing the table of partitions", f"{start + length} MiB are more than it can tell")
        beyond = b"\xfe\xff\xff"  # "beyond what cylinders can say": the sector numbers count
        table += struct.pack("<B3sB3sII", active, beyond, kind, beyond, start * _SECTORS, length * _SECTORS)
    return code[:_CODE].ljust(_CODE, b"\0") + struct.pack("<IH", SIGNATURE, 0) + table.ljust(64, b"\0") + b"\x55\xaa"


def _format(path: Path, fat: int, files: dict[str, bytes], work: Path) -> None:
    doing = "Making the file system to boot from"
    geometry = ["--offset", str(_SECTORS), "-h", str(_SECTORS), "--mbr=n"]
    naming = ["--invariant", "-F", "16", "-n", "BITDEW", "-i", f"{SIGNATURE:08x}"]
    run_tool(["mkfs.fat", *naming, *geometry, path, str(fat * 1024)], doing=doing)
    for name, content in files.items():
        (work / name).write_bytes(content)
        run_tool(["mcopy", "-i", f"{path}@@{MIB}", work / name, f"::/{name}"], environment=_LENIENT, doing=doing)
    run_tool(["syslinux", "--install", "--offset", str(MIB), path], environment=_LENIENT, doing=doing)


_LENIENT: Final = {"MTOOLS_SKIP_CHECK": "1", "MTOOLSRC": "/dev/null"}
