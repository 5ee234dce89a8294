"""What a host says of itself: where its swarm listens, its resources, labels and sharings. And machines' specs."""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final

from .errors import error
from .ids import HostId

_ENDPOINT: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([0-9.]+)):([0-9]{1,5})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An IP address and a TCP port where a swarm or a service listens."""

    host: str
    port: int

    @classmethod
    @functools.lru_cache(maxsize=2**16)  # orders carry up to a hundred each, of the same hosts again and again
    def parse(cls, text: str) -> Endpoint:
        """The endpoint written as `127.0.0.1:6881` or `[::1]:6881`. A zone is refused: only its own machine knows it.

        Raises:
            UserError: `input.invalid`.
        """
        match = _ENDPOINT.fullmatch(text)
        try:
            address = ipaddress.ip_address(match[1] or match[2]) if match else None
        except ValueError:
            address = None
        if not match or not address or (address.version == 6) != bool(match[1]) or int(match[3]) > 65535:
            raise error(
                "input.invalid", f"{text[:80]!r} is not an address with a port", do="Write it like 10.0.0.7:6881."
            )
        return cls(str(address), int(match[3]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


ABILITIES: Final = ("network", "ports", "seed")
"""What a hypervisor may or may not give a machine."""


@dataclass(frozen=True, slots=True, order=True)
class Sharing:
    """An application or library that a host offers, as probed: `qemu 7.2.22`."""

    name: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a host lends. Sizes in bytes."""

    cpus: int = 1
    memory: int = 0
    quota: int = 0
    """How many bytes of data it will hold at most."""
    used: int = 0
    """How many of them are taken, partial copies at their full size."""
    free: int = 0
    """What the file system could still take, whatever the quota says."""
    machines: int = 0
    """Machines that run at a time at most; 0 for no cap of their number."""
    all_cpus: int = 0
    """Processors that all machines together may have; 0 for no cap."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """A host as the planner and requirement expressions see it."""

    host_id: HostId
    name: str
    resources: Resources = Resources()
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    sharings: tuple[Sharing, ...] = ()
    abilities: dict[str, frozenset[str]] = field(default_factory=dict, hash=False)
    """For each of its hypervisors, what that gives machines, of `ABILITIES`; a hypervisor that is not in it can all."""
