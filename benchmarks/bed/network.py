"""Hosts that are far apart on one machine: a network namespace each, on one bridge, with links of a given rate.

Owns the namespaces, which go when the benchmark ends. Each link is shaped in both directions by the kernel's token
bucket filter. The bridge stands in a namespace of its own, so that nothing of the machine's own network is touched.
TCP is controlled there by CUBIC, as on the PCs of volunteers (the default of Linux, Windows and macOS, RFC 9438), and
not by what this machine has. Needs root, and iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Final, Self

IP: Final = shutil.which("ip") or "/usr/sbin/ip"
TC: Final = shutil.which("tc") or "/usr/sbin/tc"
BURST: Final = "128kb"
LATENCY: Final = "30ms"
UNLIMITED_SEGMENTS: Final = "65535"
"""What a device has by default."""
PREFIX: Final = "10.77.0."
USUAL: Final = "cubic"
_TCP: Final = Path("/proc/sys/net/ipv4")
_ALLOWED: Final = _TCP / "tcp_allowed_congestion_control"


class Network:
    """Namespaces joined by a bridge. A context manager.

    Attributes:
        control: The congestion control of TCP on the hosts: CUBIC, or where the kernel has none, this machine's.
    """

    def __init__(self) -> None:
        self.control = (_TCP / "tcp_congestion_control").read_text().strip()
        self._allowed: str | None = None  # what is to be put back
        self._stem = f"bd{os.getpid() % 100000}"
        self._made: list[str] = []

    def __enter__(self) -> Self:
        if USUAL in (_TCP / "tcp_available_congestion_control").read_text().split():
            self.control = USUAL
            allowed = _ALLOWED.read_text().strip()
            if USUAL not in allowed.split():  # a namespace may use what is allowed to everybody, and nothing else
                self._allowed = allowed
                _ALLOWED.write_text(f"{allowed} {USUAL}")
        self._add("sw")
        self._ip("-n", self._name("sw"), "link", "add", "br0", "type", "bridge")
        self._ip("-n", self._name("sw"), "link", "set", "br0", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(self._made):
            self._ip("netns", "del", name)
        if self._allowed is not None:
            _ALLOWED.write_text(self._allowed)

    def host(self, number: int, mbit: float) -> list[str]:
        """A host whose link carries `mbit` Mbit/s each way, 0 for no limit; the words that run a command on it.

        Its address is `address(number)`.
        """
        key = f"h{number}"
        self._add(key)
        switch, name, far, near = self._name("sw"), self._name(key), f"p{number}", "eth0"
        self._ip("-n", switch, "link", "add", far, "type", "veth", "peer", "name", near, "netns", name)
        self._ip("-n", switch, "link", "set", far, "master", "br0")
        self._ip("-n", switch, "link", "set", far, "up")
        self._ip("-n", name, "addr", "add", f"{address(number)}/24", "dev", near)
        self._ip("-n", name, "link", "set", near, "up")
        self._ip("-n", name, "link", "set", "lo", "up")
        self._ip("netns", "exec", name, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={self.control}")
        self.shape(number, mbit)
        return [IP, "netns", "exec", name]

    def shape(self, number: int, mbit: float) -> None:
        """Give a host's link another rate."""
        for where, device in ((self._name("sw"), f"p{number}"), (self._name(f"h{number}"), "eth0")):
            remove = [TC, "-n", where, "qdisc", "del", "dev", device, "root"]
            subprocess.run(remove, check=False, capture_output=True)
            if mbit:
                shaping = ["tbf", "rate", f"{mbit:g}mbit", "burst", BURST, "latency", LATENCY]
                subprocess.run([TC, "-n", where, "qdisc", "add", "dev", device, "root", *shaping], check=True)
            # A real link carries, queues and loses packets one by one. Between namespaces the kernel would hand over
            # up to 64 KB in one, of which the queue of a slow link holds two, and loses one whole.
            self._ip("-n", where, "link", "set", device, "gso_max_segs", "1" if mbit else UNLIMITED_SEGMENTS)

    def carried(self, number: int) -> tuple[int, int]:
        """Bytes that a host's link has carried away from it, and to it, everything included."""
        found = []
        for kind in ("tx", "rx"):
            path = f"/sys/class/net/eth0/statistics/{kind}_bytes"
            command = [IP, "netns", "exec", self._name(f"h{number}"), "cat", path]
            found.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        return found[0], found[1]

    def _name(self, key: str) -> str:
        return f"{self._stem}{key}"

    def _add(self, key: str) -> None:
        self._ip("netns", "add", self._name(key))
        self._made.append(self._name(key))

    def _ip(self, *words: str) -> None:
        subprocess.run([IP, *words], check=True)


def address(number: int) -> str:
    """The address of a host."""
    return f"{PREFIX}{number + 1}"
