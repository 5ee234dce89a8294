"""The worker as a service of systemd: the text of its unit, and putting it in its place and away again.

Owns the unit file, `bitdew-worker.service`, for one user or for the whole system. A unit says in a section of its own
which home it is for, so that none is taken for another's. Everything here blocks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from bitdew.core.errors import error

from .hypervisors.cgroup import SUBGROUP

NAME: Final = "bitdew-worker.service"
RUNNING: Final = Path("/run/systemd/system")
"""It is there where systemd runs the system."""
SECONDS: Final = 200.0
"""How long systemctl may take: a worker that stops asks its machines to shut down first."""
_HOME: Final = "Home="
_REFUSED: Final = frozenset("\n\r\0")


class Scope(StrEnum):
    """Whose service it is."""

    USER = "user"
    """One user's: it runs while the user is logged in, or always where lingering is enabled."""
    SYSTEM = "system"
    """The whole system's: it starts with it."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit file that is there."""

    scope: Scope
    path: Path
    home: Path


def path_of(scope: Scope) -> Path:
    """Where the unit file of a scope lies."""
    if scope is Scope.SYSTEM:
        return Path("/etc/systemd/system") / NAME
    configured = os.environ.get("XDG_CONFIG_HOME")
    return (Path(configured) if configured else Path.home() / ".config") / "systemd/user" / NAME


def text_of(scope: Scope, program: Sequence[str], home: Path, *, owner: str = "", privileged: bool = False) -> str:
    """The unit.

    Args:
        scope: Whose service it is.
        program: The command that runs `bitdew`, its first word absolute.
        home: The worker's.
        owner: With the scope system: the user as whom it runs.
        privileged: Whether the worker starts programs that take other rights on, as VirtualBox's do.

    Raises:
        UserError: `input.invalid`, for a path that no unit can name.
    """
    if any(_REFUSED & set(word) for word in (*program, str(home), owner)):
        raise error("input.invalid", "A path with a line end can't stand in a unit", field="home")
    command = " ".join(_quoted(word) for word in (*program, "worker", "run", "--home", str(home)))
    lines = [
        "# Written by `bitdew worker install-service`; removed by `bitdew worker uninstall-service`.",
        "[Unit]",
        "Description=BitDew worker: lends this host to a grid",
        "Documentation=man:systemd.exec(5)",
        "After=network-online.target",
        "Wants=network-online.target",
        # A service that has no more use for this host ends its worker at once: it is not started for ever.
        "StartLimitIntervalSec=600",
        "StartLimitBurst=10",
        "",
        "[Service]",
        f"ExecStart={command}",
        *([f"User={owner}"] if scope is Scope.SYSTEM and owner else []),
        "Restart=on-failure",
        "RestartSec=5",
        # The worker stops its machines itself. If it is killed they run on, and its next start finds them.
        "KillMode=process",
        "TimeoutStopSec=180",
        "UMask=0077",
        "",
        "# The owner comes first.",
        "Nice=19",
        "CPUSchedulingPolicy=batch",
        "IOSchedulingClass=idle",
        "OOMScoreAdjust=500",
        # So that machines' memory and processors are held by control groups beside the worker's own, which it has from
        # systemd 254 on. Before that systemd passes the line over, and machines are held by their priority alone: were
        # the worker to move itself, systemd could not start it again beside machines that run on.
        "Delegate=cpu memory pids",
        f"DelegateSubgroup={SUBGROUP}",
        "",
        "# It writes into its home, and reads what it has to.",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        f"ReadWritePaths={_quoted(str(home))}",
        "PrivateTmp=yes",
        "ProtectKernelModules=yes",
        # Who is not root can change neither, and what covers a part of /proc keeps jobs from having one of their own.
        *([] if owner or scope is Scope.USER else ["ProtectKernelTunables=yes", "ProtectKernelLogs=yes"]),
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        *(
            ["# VirtualBox's programs take other rights on: NoNewPrivileges is left out for them."]
            if privileged
            else ["NoNewPrivileges=yes", "RestrictSUIDSGID=yes", "CapabilityBoundingSet="]
        ),
        "DevicePolicy=closed",
        "DeviceAllow=/dev/kvm rw",
        "DeviceAllow=char-vboxdrv rw",
        "DeviceAllow=/dev/vboxdrvu rw",
        "",
        "[Install]",
        f"WantedBy={'multi-user' if scope is Scope.SYSTEM else 'default'}.target",
        "",
        "[X-BitDew]",
        f"{_HOME}{home}",
        "",
    ]
    if scope is Scope.USER:  # what a user's own manager can't do would keep the unit from starting
        lines = [line for line in lines if not line.startswith(_FOR_THE_SYSTEM)]
    return "\n".join(lines)


_FOR_THE_SYSTEM: Final = (
    "DevicePolicy=",
    "DeviceAllow=",
    "ProtectClock=",
    "ProtectKernelModules=",
    "ProtectHostname=",
    "CapabilityBoundingSet=",
    "OOMScoreAdjust=",
)


def _quoted(word: str) -> str:
    """A word as systemd reads it: neither a space, nor a `%`, `$` or `"` in it means anything."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != word or " " in word or "'" in word or not word else word


def find(home: Path | None = None) -> Unit | None:
    """The unit that is there, of whatever scope; with `home`, only if it is for that home."""
    for scope in Scope:
        path = path_of(scope)
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for line in text.partition("[X-BitDew]\n")[2].splitlines():
            named = Path(line.removeprefix(_HOME))
            if line.startswith(_HOME) and home in {None, named}:
                return Unit(scope, path, named)
    return None


def install(scope: Scope, text: str, home: Path, *, start: bool) -> Unit:
    """Put the unit in its place, have it started with the system or the user's session, and start it now.

    Without `start` the file is written and nothing else happens.

    Raises:
        UserError: `input.invalid`, if a unit for another home is there.
        HostError: `storage.failed`; `worker.unmanaged`, where systemd does not run or refuses.
    """
    there = find()
    if there is not None and (there.home != home or there.scope is not scope):
        do = "Remove that one first: bitdew worker uninstall-service"
        raise error("input.invalid", f"{there.path} is there for the worker in {there.home}", do=do)
    if start and not RUNNING.exists():
        why = "this system is not run by systemd"
        raise error("worker.unmanaged", "The worker can't be made a service here", why=why)
    path = path_of(scope)
    _write(path, text)
    if start:
        _systemctl(scope, "daemon-reload")
        _systemctl(scope, "enable", "--now", NAME)
    return Unit(scope, path, home)


def uninstall(home: Path | None = None) -> Unit | None:
    """Stop the service, and remove its unit; None if there is none. With `home`, only one that is for that home.

    Raises:
        HostError: `storage.failed`; `worker.unmanaged`, where systemd refuses.
    """
    unit = find(home)
    if unit is None:
        return None
    if RUNNING.exists() and shutil.which("systemctl"):
        _systemctl(unit.scope, "disable", "--now", NAME)
    try:
        unit.path.unlink(missing_ok=True)
    except OSError as cause:
        raise _failed(unit.path, cause) from cause
    if RUNNING.exists() and shutil.which("systemctl"):
        _systemctl(unit.scope, "daemon-reload")
    return unit


def _write(path: Path, text: str) -> None:
    temporary = None
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            temporary = Path(file.name)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as cause:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise _failed(path, cause) from cause


def _failed(path: Path, cause: OSError) -> Exception:
    do = "With --system it is for the administrator: run it with sudo."
    return error("storage.failed", f"{path} can't be changed", why=cause.strerror or str(cause), do=do, path=str(path))


def _systemctl(scope: Scope, *words: str) -> None:
    command = ["systemctl", *(["--user"] if scope is Scope.USER else []), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        raise error("worker.unmanaged", f"{' '.join(command)} did not work", why=str(cause)) from cause
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise error("worker.unmanaged", f"{' '.join(command)} did not work", why=why[0][:300])
