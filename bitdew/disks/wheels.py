"""Python's part of a guest: the BitDew that builds the disk, what it needs, and what else a recipe asks for.

Wheels are unpacked here and not installed by pip, which would write this machine's paths and times into them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import zipfile
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final

from bitdew.core.errors import error

from .programs import failed, run_tool

MOST_UNPACKED: Final = 8 * 1024**3
"""The most that all wheels together may unpack to, bytes."""

_DONE: Final = ".complete"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_GLIBC_NEWEST: Final = 36  # of Debian 12, the oldest release that a recipe can name
_OURS: Final = "bitdew"


def pinned_needs() -> list[str]:
    """What BitDew needs, as `name==version`: exactly what this very process runs with, extras aside."""
    found: dict[str, str] = {}
    waiting = [_OURS]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            there = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # a marker ruled it out here, and it rules it out in the guest, which is like this machine
        found[name] = there.version
        waiting += [_plain(line) for line in there.requires or () if "extra ==" not in line]
    del found[_OURS]
    return sorted(f"{name}=={version}" for name, version in found.items())


def fetch_wheels(needs: list[str], further: tuple[str, ...], python: str, cache: Path) -> list[Path]:
    """The wheels of `needs`, and of `further` with what those depend on, from the index that pip uses. Blocks.

    Raises:
        HostError: `disk.build-failed`, with pip's own words. OSError.
    """
    if not needs and not further:
        return []
    wanted = json.dumps([needs, sorted(further), python])
    folder = cache / "wheels" / hashlib.sha256(wanted.encode()).hexdigest()[:16]
    if not (folder / _DONE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--dest", str(folder)]
        pip += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
        pip += [f"--platform={tag}" for tag in ("manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64")]
        pip += [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(_GLIBC_NEWEST, 4, -1)]
        if needs:
            run_tool([*pip, "--no-deps", *needs], seconds=1800, doing="Fetching what BitDew needs")
        if further:
            pinned = folder / "pinned.txt"
            pinned.write_text("\n".join(needs))
            run_tool(
                [*pip, "--constraint", str(pinned), *further], seconds=3600, doing="Fetching the recipe's own packages"
            )
        (folder / _DONE).touch()
    return sorted(folder.glob("*.whl"))


def unpack_wheels(wheels: list[Path], target: Path) -> None:
    """Unpack `wheels` so that Python finds them with `target` in its path. Blocks.

    Raises:
        HostError: `disk.build-failed` for a wheel that is none, or that would write elsewhere. OSError.
    """
    left = MOST_UNPACKED
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as archive:
                for entry in archive.infolist():
                    inside = _place(entry.filename)
                    if entry.is_dir() or inside is None:
                        continue
                    left -= entry.file_size
                    if left < 0:
                        raise failed("Unpacking wheels", f"they have more than {MOST_UNPACKED} bytes")
                    path = target / inside
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(entry) as packed, path.open("wb") as file:
                        shutil.copyfileobj(packed, file, 1024 * 1024)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as fault:
            raise failed("Unpacking wheels", f"{wheel.name}: {fault}") from None


def copy_ourselves(target: Path) -> None:
    """Copy the installed BitDew, as it is, so that the guest speaks this very version. Blocks.

    Raises:
        HostError: `disk.build-failed`, if it is not installed as files. OSError.
    """
    there = metadata.distribution(_OURS)
    files = [one for one in there.files or () if one.parts and one.parts[0].partition("-")[0] == _OURS]
    files = [one for one in files if "__pycache__" not in one.parts and one.suffix != ".pyc"]
    if not any(one.suffix == ".py" for one in files):
        raise failed("Copying BitDew", "it is not installed from a wheel here; pip install it first")
    for one in sorted(files, key=str):
        if ".dist-info" in one.parts[0] and one.name != "METADATA":
            continue  # the others tell of this machine
        path = target.joinpath(*one.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(one.locate()), path)


def _place(name: str) -> PurePosixPath | None:
    """Where a wheel's entry belongs below the target, or None where a library path has no use for it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise error("disk.build-failed", "Unpacking wheels failed", why=f"an entry is called {name[:80]!r}")
    if not path.parts[0].endswith(".data"):
        return path
    if len(path.parts) > 2 and path.parts[1] in {"purelib", "platlib"}:
        return PurePosixPath(*path.parts[2:])
    return None


def _plain(requirement: str) -> str:
    """The name of a requirement, as the index compares names."""
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""
