"""A machine's differencing disk, as qemu-img makes and reads it. Everything here blocks.

Owns the overlay: it appears whole or not at all, and no other is ever made in its place.
"""

from __future__ import annotations

import json
import subprocess
from typing import Final

from bitdew.core.errors import error
from bitdew.hypervisor import MachineSpec, check_image, check_seed

from . import machine_folder as files
from . import qemu_command as command

_TOOL: Final = 60.0  # seconds for qemu-img; milliseconds in fact
_MOST_WORDS: Final = 16 * 1024 * 1024  # bytes that are read of what it says


def make_overlay(image_tool: str, spec: MachineSpec) -> None:
    """Make the disk of this machine, unless it is there.

    Raises:
        HostError: as `Hypervisor.prepare`.
    """
    check_image(spec.image)
    if spec.seed is not None:
        check_seed(spec.seed)
    target = spec.folder / files.DISK
    unfinished = target.with_suffix(".part")
    try:
        spec.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if target.exists():
            return
        run = subprocess.run(
            command.overlay_command(image_tool, spec.image, unfinished.name),
            cwd=spec.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TOOL,
            check=False,
        )
        if run.returncode == 0:
            unfinished.replace(target)
            return
        why = run.stderr.decode("utf-8", "replace").strip()[-300:]
    except (OSError, subprocess.TimeoutExpired) as problem:
        why = str(problem)
    full = "No space left" in why or "Disk quota" in why
    raise error(
        "storage.full" if full else "hypervisor.failed",
        f"Machine {spec.uid} could not be given a disk",
        why=why,
        uid=spec.uid,
        image=str(spec.image),
    )


def check_snapshot(image_tool: str, spec: MachineSpec, name: str) -> None:
    """Refuse a snapshot that is not in the machine's disk; the machine may run meanwhile.

    Raises:
        HostError: `hypervisor.failed`.
    """
    names: set[str] = set()
    why = f"it has no snapshot {name}"
    try:
        run = subprocess.run(
            [image_tool, "info", "--force-share", "--output=json", files.DISK],
            cwd=spec.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TOOL,
            check=False,
        )
        if run.returncode == 0:
            names = {str(found["name"]) for found in json.loads(run.stdout[:_MOST_WORDS]).get("snapshots", ())}
        else:
            why = run.stderr.decode("utf-8", "replace").strip()[-300:]
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError, TypeError) as problem:
        why = str(problem)
    if command.snapshot_tag(name) not in names:
        raise error("hypervisor.failed", f"Machine {spec.uid} can't be restored", why=why, uid=spec.uid, name=name)
