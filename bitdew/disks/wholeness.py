"""Whether an image has all that its own tables promise, before anything is made of it.

QEMU takes what lies beyond a file's end for zeros: an image that was cut off would become a disk with holes in it, and
nobody would know. Its own check sees that in the tables of qcow2 and VMDK; for VHD there is none, and for VDI it does
not look at the file's size.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from .formats import Format, refused

_SECTOR: Final = 512
_UNUSED: Final = 0xFFFFFFFF
_MOST_BLOCKS: Final = 2**22
_FIXED: Final = 2


def check_whole(path: Path, kind: Format) -> None:
    """Refuse a VDI or VHD that names blocks which its file does not have; other formats pass. Blocks.

    Raises:
        UserError: `disk.format`.
    """
    if kind not in {"vdi", "vpc"}:
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        if kind == "vdi":
            _check_vdi(path, file.read(_SECTOR), size)
            return
        head = file.read(_SECTOR)
        file.seek(max(0, size - _SECTOR))
        foot = file.read(_SECTOR)
        if not foot.startswith(b"conectix"):
            raise refused(path, "it is cut off: a VHD ends with its footer")
        kind_of_vhd, current = struct.unpack_from(">I", foot, 60)[0], struct.unpack_from(">Q", foot, 48)[0]
        if kind_of_vhd == _FIXED:
            if current > size - _SECTOR:
                raise refused(path, f"it is cut off: it says {current} bytes, and has {size - _SECTOR}")
            return
        if not head.startswith(b"conectix"):
            raise refused(path, "its header is damaged: a dynamic VHD begins with a copy of its footer")
        header = struct.unpack_from(">Q", foot, 16)[0]
        file.seek(min(header, size))
        about = file.read(1024)
        if len(about) < 1024 or not about.startswith(b"cxsparse"):
            raise refused(path, "its header is damaged, or cut off")
        table, entries, block = struct.unpack_from(">QxxxxII", about, 16)
        if not 0 < entries <= _MOST_BLOCKS or block < _SECTOR or block & (block - 1) or table + 4 * entries > size:
            raise refused(path, f"its table can't be: {entries} blocks of {block} bytes from {table} on")
        file.seek(table)
        found = struct.unpack(f">{entries}I", file.read(4 * entries))
    bitmap = -(-(block // _SECTOR // 8) // _SECTOR) * _SECTOR
    last = max((entry for entry in found if entry != _UNUSED), default=None)
    if last is not None and last * _SECTOR + bitmap + block > size - _SECTOR:
        raise refused(path, "it is cut off: its table names blocks behind its end")


def _check_vdi(path: Path, head: bytes, size: int) -> None:
    """The fields of VirtualBox's VDICore.h."""
    bitmap, data = struct.unpack_from("<II", head, 0x154)
    block, _extra, blocks, allocated = struct.unpack_from("<IIII", head, 0x178)
    if allocated > blocks or bitmap + 4 * blocks > size or block < _SECTOR:
        raise refused(path, f"its header can't be: {allocated} of {blocks} blocks of {block} bytes")
    if data + allocated * block > size:
        raise refused(path, "it is cut off: its header names blocks behind its end")
