"""Finding out what QEMU is on this host, by running it: version, accelerator, sandbox.

Owns the fingerprint of the QEMU driver. What it says was tried: an accelerator counts if QEMU starts with it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .priority import idle_disk
from .qemu_command import PROCESSORS, SANDBOX, Accelerator

DEVICE: Final = Path("/dev/kvm")
"""On Linux, by which guests are run by the processor's own means."""
_HOW_TO_INSTALL: Final = (
    "Debian, Ubuntu: apt install qemu-system-x86 qemu-utils; Fedora: dnf install qemu-system-x86 qemu-img; "
    "macOS: brew install qemu"
)
_TRIAL: Final = b'{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n'


@dataclass(frozen=True, slots=True)
class QemuFound:
    """A QEMU that works here.

    Attributes:
        binary: Its path.
        image_tool: The path of its qemu-img.
        version: Like "7.2.22".
        accelerator: The best that it starts with.
        sandbox: Whether it knows `-sandbox`.
        before: The words by which it is begun with the lowest priority at the disk.
    """

    binary: str
    image_tool: str
    version: str
    accelerator: Accelerator
    sandbox: bool
    before: tuple[str, ...] = ()

    @property
    def programs(self) -> tuple[str, ...]:
        """What it consists of: when one of them goes, it is not what it was."""
        return (self.binary, self.image_tool, *([str(DEVICE)] if self.accelerator == "kvm" else []))

    @property
    def details(self) -> dict[str, str]:
        """What else there is to say of it, for people."""
        return {"binary": self.binary, "sandbox": "on" if self.sandbox else "unknown to this QEMU"}


def probe_qemu(
    binary: str, image_tool: str, accelerator: Literal["auto", "kvm", "tcg"], *, seconds: float = 20.0
) -> QemuFound | str:
    """Try QEMU; or say what is missing. Blocks for a tenth of a second, at most `seconds` for each of four trials."""
    paths = [shutil.which(name) for name in (binary, image_tool)]
    absent = [name for name, path in zip((binary, image_tool), paths, strict=True) if path is None]
    if absent or paths[0] is None or paths[1] is None:
        return f"{' and '.join(absent)} not found. {_HOW_TO_INSTALL}"
    wanted: tuple[Accelerator, ...] = ("kvm", "tcg") if accelerator == "auto" else (accelerator,)
    problem = ""
    for candidate in wanted:
        if candidate == "kvm" and accelerator == "auto" and not hardware_virtualization():
            continue
        for sandbox in (True, False):
            version, words = _try(paths[0], candidate, sandbox=sandbox, seconds=seconds)
            if version:
                return QemuFound(paths[0], paths[1], version, candidate, sandbox, idle_disk())
            problem = problem or words  # the first refusal is about the accelerator; the second repeats it
    return f"{paths[0]} does not start: {problem or 'no word from it'}. {_HOW_TO_INSTALL}"


def hardware_virtualization(cpuinfo: Path = Path("/proc/cpuinfo"), device: Path = DEVICE) -> bool:
    """Whether KVM can run guests by the CPU's own means, and this user may use it.

    KVM exists without the CPU's help as well, in some nested clouds. It then emulates what a BIOS and a boot loader do,
    and is slower than TCG: 3.8 s against 0.1 s until a boot sector's first line (measured).
    """
    if not os.access(device, os.R_OK | os.W_OK):
        return False
    try:
        words = cpuinfo.read_text("utf-8", "replace").split()
    except OSError:
        return False
    return "vmx" in words or "svm" in words


def _try(binary: str, accelerator: Accelerator, *, sandbox: bool, seconds: float) -> tuple[str, str]:
    """Start a machine without a disk, not running, and quit. Its version, or else its words."""
    command = [binary, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-S", "-m", "16M"]
    command += ["-accel", accelerator, "-cpu", PROCESSORS[accelerator], "-qmp", "stdio"]
    if sandbox:
        command += ["-sandbox", SANDBOX]
    try:
        run = subprocess.run(command, input=_TRIAL, capture_output=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as problem:
        return "", str(problem)
    words = run.stderr.decode("utf-8", "replace").strip()[-300:]
    if run.returncode != 0:
        return "", words
    try:
        version = json.loads(run.stdout.splitlines()[0])["QMP"]["version"]["qemu"]
        return f"{version['major']}.{version['minor']}.{version['micro']}", ""
    except (ValueError, LookupError, TypeError):
        return "", words
