"""The first file system of a guest's kernel: one program, the modules, and the script that finds the real one.

The archive is written here byte by byte, in cpio's "newc" form, which is all that Linux reads.
"""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path
from typing import Final

from .programs import EPOCH, failed

_FILE: Final = 0o100000
_FOLDER: Final = 0o040000
_DEPENDS: Final = re.compile(rb"\0depends=([a-z0-9_,-]*)\0")
_END: Final = "TRAILER!!!"


def module_order(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """The files of the modules `names` in a kernel's `folder`, each behind what it depends on.

    A name that has no file is passed over: it is in the kernel itself, or this kernel lacks it.
    """
    files = {_module(path): path for path in sorted(folder.rglob("*.ko"))}
    order: dict[Path, None] = {}
    open_names: set[str] = set()

    def add(name: str) -> None:
        path = files.get(name.replace("-", "_"))
        if path is None or path in order or name in open_names:
            return
        open_names.add(name)
        found = _DEPENDS.search(path.read_bytes())
        for other in found[1].decode().split(",") if found and found[1] else ():
            add(other)
        order[path] = None

    for name in names:
        add(name)
    return list(order)


def make_initrd(busybox: Path, script: bytes, modules: list[Path]) -> bytes:
    """The compressed archive. Its bytes follow from the arguments' alone.

    Raises:
        OSError, if a file can't be read.
    """
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6, mtime=0) as packed:
        writer = _Archive(packed)
        for name in ("bin", "dev", "lib", "new", "proc", "ro", "rw", "sys"):
            writer.add(name, _FOLDER | 0o755)
        writer.add("bin/busybox", _FILE | 0o755, busybox.read_bytes())
        writer.add("init", _FILE | 0o755, script)
        for number, path in enumerate(modules):
            writer.add(f"lib/{number:03d}-{path.name}", _FILE | 0o644, path.read_bytes())
        writer.end()
    return out.getvalue()


class _Archive:
    """Entries of a cpio archive, owned by root, all of one time."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self._entries = 0

    def add(self, name: str, mode: int, content: bytes = b"") -> None:
        self._entries += 1
        links = 2 if mode & _FOLDER else 1
        self._entry(name, content, self._entries, mode, links, EPOCH)

    def end(self) -> None:
        self._entry(_END, b"", 0, 0, 1, 0)

    def _entry(self, name: str, content: bytes, inode: int, mode: int, links: int, time: int) -> None:
        if len(content) > 0xFFFF_FFFF:
            raise failed("Packing the first file system", f"{name} is too large")
        path = name.encode() + b"\0"
        # inode, mode, owner, group, links, time, size, four numbers of devices, length of the name, checksum
        numbers = (inode, mode, 0, 0, links, time, len(content), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers)
        self._file.write(_padded(header + path))
        self._file.write(_padded(content))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _module(path: Path) -> str:
    return path.stem.replace("-", "_")
