"""What this machine is like: memory, processors, open files, what runs machines, and what its owner's rules can see.

Owns these checks. Each blocks for seconds at worst, changes nothing, and gives its findings whatever it meets.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from bitdew.core.errors import ERRORS
from bitdew.core.units import format_size
from bitdew.hypervisor import SMALLEST_MEMORY

from ..activity.rules import decide
from ..activity.senses import SystemSenses
from .findings import Finding, fine, problem, warning

if TYPE_CHECKING:
    from ..hypervisors import Probed
    from ..jobs.runs import Isolation
    from ..settings import WorkerSettings

LEFT_OVER: Final = 512 * 2**20
"""Bytes of memory that a system needs beside the machines."""
FILES_BESIDE: Final = 256
"""Files that a worker has open beside its connections."""
FEWEST_FILES: Final = 128
_KVM: Final = Path("/dev/kvm")
_CPUINFO: Final = Path("/proc/cpuinfo")


def memory(settings: WorkerSettings) -> Iterator[Finding]:
    """Whether what is lent is there."""
    there = psutil.virtual_memory()
    lent, total, available = map(format_size, (settings.memory, there.total, there.available))
    found = f"{lent} of {total} are lent, {available} are free"
    if settings.memory < SMALLEST_MEMORY:
        yield warning("memory", found + ", too little for any machine", _lend("--memory 2GB"))
    elif settings.memory > max(0, there.total - LEFT_OVER):
        yield warning("memory", f"{found}: the host would be left with too little", _lend("--memory with less"))
    elif settings.memory > there.available:
        yield warning("memory", f"{found} now", "Close other programs before machines start, or lend less.")
    else:
        yield fine("memory", found)
    cpus = os.cpu_count() or 1
    found = f"{settings.cpus} of {cpus} for one machine"
    if settings.cpus > cpus:
        yield warning("processors", found, _lend(f"--cpus {cpus}"))
    else:
        yield fine("processors", found)


def open_files(settings: WorkerSettings, soft: int, hard: int) -> Iterator[Finding]:
    """Whether the worker may open as many files as it has connections; the limits as the system tells them."""
    wanted = settings.connections + FILES_BESIDE
    if soft < 0 or soft >= wanted:
        yield fine("open files", "without limit" if soft < 0 else f"{soft} at a time")
        return
    do = f"Raise the limit before the worker starts: ulimit -n {wanted}"
    if 0 <= hard < wanted:
        do = f"Have LimitNOFILE or /etc/security/limits.conf raised to {wanted}, or lend fewer --connections."
    found = f"{soft} at a time, and {settings.connections} connections alone are lent"
    yield (problem if soft < FEWEST_FILES else warning)("open files", found, do)


def kvm(device: Path = _KVM, cpuinfo: Path = _CPUINFO) -> Iterator[Finding]:
    """Whether machines can run by the processor's own means."""
    try:
        flags = set(cpuinfo.read_text("utf-8", "replace").split())
    except OSError:
        flags = set()
    if not flags & {"vmx", "svm"}:
        found = "the processor offers no virtualization, so that machines are slow"
        yield warning(
            "KVM", found, "Switch on VT-x or AMD-V in the firmware; a virtual machine needs nested virtualization."
        )
    elif not device.exists():
        yield warning("KVM", f"there is no {device}", "Load its module: modprobe kvm_intel, or kvm_amd")
    elif not os.access(device, os.R_OK | os.W_OK):
        do = f"Let this user have it, and log in again: usermod -aG kvm {getpass.getuser()}"
        yield warning("KVM", f"{device} is there, and this user may not use it", do)
    else:
        yield fine("KVM", f"{device} can be used")


def hypervisors(probed: Sequence[Probed], allowed: Sequence[str] | None) -> Iterator[Finding]:
    """What runs machines here."""
    usable = [one for one in probed if one.fingerprint is not None]
    for one in probed:
        name = one.hypervisor.name
        if allowed is not None and name not in allowed:
            yield fine(name, "its owner does not let it be used")
        elif one.fingerprint is not None:
            print_ = one.fingerprint
            found = f"{print_.sharing.version}, by {print_.accelerator}"
            if print_.health:
                yield warning(name, f"{found}: {print_.health}", "Read what it says.")
            else:
                yield fine(name, found)
        elif usable:
            yield fine(name, f"not usable, and not needed: {one.missing}")
        else:
            yield warning(
                name, one.missing, "Install one hypervisor: without any the host holds copies and boots nothing."
            )


def jobs(isolation: Isolation) -> Iterator[Finding]:
    """Whether jobs can be kept from what is the volunteer's."""
    if isolation.lacks:
        why = f" ({isolation.why})" if isolation.why else ""
        yield warning("jobs", f"none runs here: {'; '.join(isolation.lacks)}{why}", ERRORS["job.unconfined"].do)
    else:
        yield fine("jobs", f"can be confined, by {', '.join(sorted(isolation.means))}")


def activity(settings: WorkerSettings) -> Iterator[Finding]:
    """Whether the rules can see what they ask for, and what holds now."""
    verdict = decide(settings.activity, SystemSenses().observe(settings.activity))
    blind = [reason for reason in verdict.reasons if reason.startswith("nothing here tells")]
    if blind:
        do = "Choose other rules, or name a --witness: bitdew worker rules --help"
        yield warning("rules", f"machines would never run: {'; '.join(blind)}", do)
    elif verdict.reasons:
        yield fine("rules", f"now {'; '.join(verdict.reasons)}")
    else:
        yield fine("rules", "everything may run now")


def _lend(what: str) -> str:
    return f"Lend what there is: bitdew worker limits {what}"
