"""Making a raw image of what is delivered in another format, by qemu-img: bounded, once, into a folder of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bitdew.core.errors import error
from bitdew.core.units import format_size

from .formats import NAMES, Format, disk_in_appliance, format_of, refused
from .wholeness import check_whole

LARGEST: Final = 2**40
"""The most bytes that a converted disk may have."""
MEMORY: Final = 4 * 2**30
"""The most memory that qemu-img may take, bytes."""

MOST_GROWTH: Final = 200
"""How many times as large as the image the disk may be that it becomes, holes not counted: with what disks hold it is 5
at most. An image whose tables name the same few bytes again and again has no bound."""
SLOWEST: Final = 4 * 2**20
"""Bytes that are converted in a second of a processor's time, at least: zlib unpacks twenty times as many."""

_LOOKING: Final = 60.0
_MOST_WORDS: Final = 4 * 1024 * 1024
"""Bytes that qemu-img may say: it has a line for every entry of a table that is wrong."""
_WHOLE: Final = frozenset({0, 3, 63})
"""What `qemu-img check` ends with if nothing is wrong, something is only unused, or the format has no check."""
_CHUNK: Final = 1024 * 1024
_SPARE: Final = 64 * 1024 * 1024
_PERCENT: Final = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")
_SECTOR: Final = 512


def convert(path: Path, kind: Format, folder: Path, progress: Callable[[int, int], None]) -> Path:
    """Write what is in the image at `path`, of the format `kind`, as a raw and bootable image into `folder`. Blocks.

    Args:
        path: The image; `format_of` has told its format.
        kind: That format; not "raw".
        folder: An empty folder.
        progress: Called with the bytes converted and their total.

    Raises:
        UserError: `disk.format`, with the reason. HostError: `storage.full`, `storage.failed`, `disk.tool-missing`.
    """
    try:
        if kind == "ova":
            path = _taken_out(path, folder, progress)
            kind = format_of(path)
            if kind == "ova":
                raise refused(path, "it is an appliance in an appliance")
            if kind == "raw":
                _check_bootable(path, path)
                return path
        check_whole(path, kind)
        size = _checked_size(path, kind)
        _check_tables(path, kind)
        written = _check_space(path, kind, folder, size)
        target = folder / "disk.raw"
        _run(path, kind, target, size, written, progress)
        _check_bootable(path, target)
    except OSError as fault:
        why = fault.strerror or str(fault)
        raise error("storage.failed", f"{path} could not be converted", why=why, do="Check the space.") from fault
    return target


def _taken_out(path: Path, folder: Path, progress: Callable[[int, int], None]) -> Path:
    """The disk of an appliance, as a file of its own."""
    offset, size = disk_in_appliance(path)
    _need(folder, size)
    target = folder / "appliance-disk"
    with path.open("rb") as file, target.open("xb") as out:
        file.seek(offset)
        left = size
        while left and (block := file.read(min(left, _CHUNK))):
            out.write(block)
            left -= len(block)
            progress(size - left, size)
    if left:
        raise refused(path, "its disk is cut off")
    return target


def _checked_size(path: Path, kind: Format) -> int:
    """The disk's bytes, by qemu-img, having seen again that nothing else belongs to it."""
    about = _asked(path, "info", "--output=json", "-f", kind, str(path.absolute()))
    size = about.get("virtual-size")
    if about.get("backing-filename") or about.get("full-backing-filename"):
        raise refused(path, "it has a backing file: it holds only what differs from another image")
    if about.get("encrypted"):
        raise refused(path, "it is encrypted")
    if not isinstance(size, int) or not _SECTOR <= size <= LARGEST:
        raise refused(path, f"its disk has {size} bytes; {LARGEST} are the most")
    return size


def _check_tables(path: Path, kind: Format) -> None:
    """Have qemu-img see whether all that the image names is there, where it can."""
    code, _, errors = _looked(path, "check", "-q", "-f", kind, str(path.absolute()))
    if code not in _WHOLE:
        raise refused(path, f"it is damaged, or cut off: {errors or 'its tables are wrong'}")


def _check_space(path: Path, kind: Format, folder: Path, size: int) -> int:
    """The bytes that the converted image takes, if there is room. Zeros take none; qemu-img tells."""
    told = _asked(path, "measure", "--output=json", "-O", "raw", "-f", kind, str(path.absolute())).get("required")
    needed = min(told, size) if isinstance(told, int) else size
    held = path.stat().st_size
    if needed > MOST_GROWTH * held + _SPARE:
        why = f"{format_size(held)} would become {format_size(needed)}, more than {MOST_GROWTH} times as much"
        raise refused(path, why)
    _need(folder, needed)
    return needed


def _need(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise error(
            "storage.full",
            f"There is no room in {folder.parent} to convert the disk",
            why=f"{format_size(free)} are free, and {format_size(size + _SPARE)} may be needed",
            do="Free some, or name a folder with more room: TMPDIR=/somewhere bitdew …",
        )


def _looked(path: Path, *words: str) -> tuple[int, bytes, str]:
    """What qemu-img ends with and says of an image, within bounds: files take it, since a pipe has none."""
    limits = [f"--as={MEMORY}", f"--cpu={_LOOKING:.0f}", f"--fsize={_MOST_WORDS}"]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                [shutil.which("prlimit") or "", *limits, _tool(), *words],
                stdout=said,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                check=False,
                timeout=_LOOKING,
            )
        except subprocess.TimeoutExpired:
            raise refused(path, f"qemu-img took more than {_LOOKING:.0f} seconds to look at it") from None
        said.seek(0)
        errors.seek(0)
        return done.returncode, said.read(_MOST_WORDS), _words(errors.read(4096))


def _asked(path: Path, *words: str) -> dict[str, object]:
    code, said, errors = _looked(path, *words)
    if code:
        raise refused(path, f"qemu-img says: {errors}")
    try:
        found = json.loads(said)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise refused(path, "qemu-img tells nothing about it")
    return found


def _run(path: Path, kind: Format, target: Path, size: int, written: int, progress: Callable[[int, int], None]) -> None:
    """Convert it; `written` of its bytes are to be written."""
    tool = _tool()
    seconds = _LOOKING + written / SLOWEST
    limits = [f"--as={MEMORY}", f"--fsize={size + _CHUNK}", f"--cpu={seconds:.0f}"]
    command = [
        shutil.which("prlimit") or "",
        *limits,
        tool,
        "convert",
        "-p",
        "-f",
        kind,
        "-O",
        "raw",
        str(path.absolute()),
        str(target),
    ]
    progress(0, size)
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            told = process.stdout
            while told is not None and (part := os.read(told.fileno(), 4096)):
                if percents := _PERCENT.findall(part):
                    progress(int(size * float(percents[-1]) / 100), size)
        except BaseException:
            process.kill()
            raise
        process.wait()
        errors.seek(0)
        words = _words(errors.read(4096))
    if process.returncode:
        raise refused(path, f"qemu-img could not convert it: {words}")
    progress(size, size)


def _check_bootable(path: Path, target: Path) -> None:
    with target.open("rb") as file:
        first = file.read(_SECTOR)
    if first[-2:] != b"\x55\xaa":
        raise refused(path, "its first sector does not end with the signature of a bootable disk (55 AA)")


def _tool() -> str:
    found = shutil.which("qemu-img")
    if found is None or shutil.which("prlimit") is None:
        raise error(
            "disk.tool-missing",
            f"Only raw images can be taken without qemu-img; others are {', '.join(sorted(NAMES))}",
            do="Install what Debian calls: apt-get install qemu-utils util-linux",
            packages=["qemu-utils", "util-linux"],
        )
    return found


def _words(data: bytes) -> str:
    return data.decode(errors="replace").strip()[-300:]
