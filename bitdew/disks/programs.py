"""The programs of this machine that disks are built with: which are needed, and how they are run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bitdew.core.errors import BitDewError, error

EPOCH: Final = 1_700_000_000
"""The time of everything on a disk, seconds since 1970: the same inputs are to give the same bytes."""

MBR: Final = Path("/usr/lib/syslinux/mbr/mbr.bin")
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_NEEDED: Final = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "mksquashfs": "squashfs-tools",
    "mkfs.fat": "dosfstools",
    "mcopy": "mtools",
    "syslinux": "syslinux",
}
_FILES: Final = {MBR: "syslinux-common", KEYRING: "debian-archive-keyring"}
_PLACES: Final = os.pathsep.join(("/usr/local/sbin", "/usr/sbin", "/sbin"))
_LONGEST_REASON: Final = 600


def check_tools() -> None:
    """See that every program and file that a build needs is here.

    Raises:
        HostError: `disk.tool-missing`, with what to install.
    """
    missing = {name: package for name, package in _NEEDED.items() if not _found(name)}
    missing |= {str(path): package for path, package in _FILES.items() if not path.exists()}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise error(
            "disk.tool-missing",
            f"Building a disk needs {', '.join(missing)}",
            do=f"Install what Debian calls: apt-get install --no-install-recommends {packages}",
            packages=packages.split(),
        )


def run_tool(
    command: Sequence[str | Path],
    *,
    seconds: float = 600,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    doing: str,
) -> str:
    """What a program writes to its standard output. Blocks.

    Args:
        command: The program's name and its arguments.
        seconds: How long it may take.
        folder: Where it runs.
        environment: Variables beside the usual ones.
        doing: What it is run for, for the error: "Packing the guest's files".

    Raises:
        HostError: `disk.tool-missing`, `disk.build-failed`.
    """
    program = _found(str(command[0]))
    if program is None:
        check_tools()
        raise error("disk.tool-missing", f"{doing} needs {command[0]}")
    settings = os.environ | {"LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(EPOCH), "DEBIAN_FRONTEND": "noninteractive"}
    settings |= environment or {}
    try:
        done = subprocess.run(
            [program, *map(str, command[1:])],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd=folder,
            env=settings,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise failed(doing, f"{command[0]} took more than {seconds:.0f} seconds") from None
    except OSError as fault:
        raise failed(doing, f"{command[0]} could not be run: {fault.strerror or fault}") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
        raise failed(doing, f"{command[0]} ended with {done.returncode}: {words[-_LONGEST_REASON:]}")
    return done.stdout.decode(errors="replace")


def failed(doing: str, why: str) -> BitDewError:
    """`disk.build-failed` for the step that is called `doing`."""
    return error("disk.build-failed", f"{doing} failed", why=why)


def _found(name: str) -> str | None:
    """Where a program is; some stand where only an administrator's PATH leads."""
    return name if "/" in name else shutil.which(name) or shutil.which(name, path=_PLACES)
