"""What a disk is to contain, as data: the TOML that people write, checked and bounded."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Final

from bitdew.core.errors import BitDewError, error
from bitdew.core.units import parse_size

LARGEST_RECIPE: Final = 256 * 1024
LARGEST_FILE: Final = 16 * 1024 * 1024
MOST_ENTRIES: Final = 500

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_PACKAGE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{1,127}")
_REQUIREMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}==[A-Za-z0-9][A-Za-z0-9.+!_-]{0,63}")
_GLOB: Final = re.compile(r"[A-Za-z0-9_+.*?\[\]-]+(/[A-Za-z0-9_+.*?\[\]-]+)*")
_MODULE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MODE: Final = re.compile(r"[0-7]{3}")

MODULES: Final = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_scsi", "virtio_rng", "ata_piix", "ata_generic", "ahci"),
    *("sd_mod", "sr_mod", "isofs", "nls_utf8", "e1000", "button", "evdev", "squashfs", "overlay"),
)
"""The kernel's modules that every disk loads, as far as its kernel has them: disks, networks, and the power button."""


@dataclass(frozen=True, slots=True)
class GuestFile:
    """A file that the recipe itself gives.

    Attributes:
        path: Where it stands in the guest, relative to its root.
        content: Its bytes.
        mode: Its permissions.
    """

    path: PurePosixPath
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Recipe:
    """A disk to be built.

    Attributes:
        name: What it is called; the guest's own name until a seed gives it another.
        suite: Debian's release that packages and kernel come from.
        kernel: The package that stands for the newest kernel.
        packages: Debian packages; what they depend on comes with them.
        without: Packages that are left out, though something depends on them.
        worker: Whether the BitDew that builds it, and all that it needs, goes into it.
        pip: Further distributions from Python's index, each `name==version`.
        modules: Kernel modules beside `MODULES`.
        remove: Paths and patterns, relative to the guest's root, that are taken out again.
        files: Files of the recipe's own.
        size: The most that the disk may have, bytes: a build that exceeds it is refused.
    """

    name: str
    suite: str = "bookworm"
    kernel: str = "linux-image-cloud-amd64"
    packages: tuple[str, ...] = ("python3", "libstdc++6", "busybox-static")
    without: tuple[str, ...] = ()
    worker: bool = True
    pip: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    files: tuple[GuestFile, ...] = ()
    size: int = 4 * 1024**3


def read_recipe(path: Path) -> Recipe:
    """The recipe in the TOML file `path`. Files that it names by `source` are read from beside it.

    Raises:
        UserError: `disk.file-missing`, `disk.file-unreadable`, `disk.recipe`.
    """
    data = _read(path, LARGEST_RECIPE)
    try:
        table = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as fault:
        raise _refused(path, f"it is not TOML: {str(fault)[:200]}") from None
    try:
        return _recipe(table, path.parent)
    except _BadRecipeError as fault:
        raise _refused(path, str(fault)) from None


class _BadRecipeError(ValueError):
    """Why a table is no recipe."""


def _recipe(table: dict[str, Any], folder: Path) -> Recipe:
    known = {one.name for one in fields(Recipe)}
    if unknown := sorted(set(table) - known):
        raise _BadRecipeError(f"{unknown[0][:40]!r} is not known; known are {', '.join(sorted(known))}")
    given: dict[str, Any] = {"name": _text(table.get("name"), "name", _NAME)}
    for key, form in (("suite", _NAME), ("kernel", _PACKAGE)):
        if key in table:
            given[key] = _text(table[key], key, form)
    lists = {"packages": _PACKAGE, "without": _PACKAGE, "pip": _REQUIREMENT, "modules": _MODULE, "remove": _GLOB}
    for key, form in lists.items():
        if key in table:
            given[key] = tuple(_text(one, key, form) for one in _list(table[key], key))
    if any(".." in pattern.split("/") for pattern in given.get("remove", ())):
        raise _BadRecipeError("'remove' leads out of the guest")
    if not isinstance(table.get("worker", True), bool):
        raise _BadRecipeError("'worker' is true or false")
    given["worker"] = table.get("worker", True)
    if "size" in table:
        given["size"] = _size(table["size"])
    given["files"] = tuple(_file(one, folder) for one in _list(table.get("files", []), "files"))
    return Recipe(**given)


def _size(value: Any) -> int:
    try:
        return parse_size(str(value))
    except BitDewError as fault:
        raise _BadRecipeError(fault.message) from None


def _file(table: Any, folder: Path) -> GuestFile:
    if not isinstance(table, dict) or set(table) - {"path", "text", "source", "mode"}:
        raise _BadRecipeError("each of 'files' has path, mode, and text or source")
    path = table.get("path")
    if not isinstance(path, str) or not 0 < len(path) <= 1000 or "\0" in path:
        raise _BadRecipeError("a file has no path")
    inside = PurePosixPath(path.lstrip("/"))
    if ".." in inside.parts or not inside.parts:
        raise _BadRecipeError(f"{path[:80]!r} is no path inside the guest")
    mode = _text(table.get("mode", "644"), "mode", _MODE)
    text, source = table.get("text"), table.get("source")
    if isinstance(text, str) and source is None:
        content = text.encode()
    elif isinstance(source, str) and text is None and "\0" not in source:
        content = _read(folder / source, LARGEST_FILE)
    else:
        raise _BadRecipeError(f"{path[:80]!r} needs either a text or a source")
    return GuestFile(inside, content, int(mode, 8))


def _text(value: Any, key: str, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise _BadRecipeError(f"{str(value)[:60]!r} can't stand for {key!r}, which is like {form.pattern}")
    return value


def _list(value: Any, key: str) -> list[Any]:
    if not isinstance(value, list) or len(value) > MOST_ENTRIES:
        raise _BadRecipeError(f"{key!r} is a list of at most {MOST_ENTRIES}")
    return value


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise error("disk.file-missing", f"{path} does not exist", path=str(path)) from None
    except OSError as fault:
        why = fault.strerror or str(fault)
        raise error("disk.file-unreadable", f"{path} can't be read", why=why, path=str(path)) from None
    if len(data) > most:
        raise _refused(path, f"it has more than {most} bytes")
    return data


def _refused(path: Path, why: str) -> BitDewError:
    return error("disk.recipe", f"{path} is not a disk's recipe", why=why, path=str(path))
