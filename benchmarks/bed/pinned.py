"""A service held to one core, with the database that a benchmark filled for it, and what hosts say to it.

Owns how the service is started and how much of its core it used. Whoever calls it runs on the other cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from bitdew.core.ids import HostId
from bitdew.core.states import PlacementState
from bitdew.trust.authority import Authority
from bitdew.wire.models import PlacementReport, SyncRequest

from .crowd import Certificates, post
from .processes import Site
from .stored import SIZE, StoredDatum, host_report, new_database

HEARTBEAT: Final = 60.0
"""Seconds that a host's poll may be held open, and the service's period."""


@dataclass(slots=True)
class Served:
    """A running service and what is needed to call it."""

    url: str
    process: psutil.Process
    certificates: Certificates

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return address_of(self.url)

    def used(self) -> float:
        """Processor seconds that it used since it started."""
        return used_by(self.process)


def used_by(process: psutil.Process) -> float:
    """Processor seconds of a process, all its threads together."""
    times = process.cpu_times()
    return float(times.user + times.system)


def address_of(url: str) -> tuple[str, int]:
    """The host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


ALL_CORES: Final = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


@contextlib.contextmanager
def on_first_core() -> Iterator[None]:
    """Whatever is started within this is held to one core, this process to the others afterwards, if there are any."""
    if len(ALL_CORES) < 2:
        yield
        return
    first = {min(ALL_CORES)}
    os.sched_setaffinity(0, first)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ALL_CORES - first)


class Bed:
    """The folder of one service before it is started."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._home = site.folder / "service"
        self._home.mkdir()
        (site.folder / "pairs").mkdir()
        authority = Authority.open(self._home / "authority", now=datetime.now(UTC), name="bitdew")
        self.certificates = Certificates(authority, site.folder / "pairs")
        self.database = self._home / "catalog.sqlite3"
        asyncio.run(new_database(self.database))

    def serve(self, period: float = HEARTBEAT) -> Served:
        """Start it."""
        with on_first_core():
            told = self._site.serve("--home", str(self._home), "--period", str(period))
        return Served(told["url"], psutil.Process(told["pid"]), self.certificates)


def hello(host: HostId, boot: str, number: int, *, generation: int = 0, **says: Any) -> bytes:
    """A host's first sync."""
    report = host_report(f"host-{host[:8]}", number)
    return sync(SyncRequest(boot=boot, generation=generation, full=True, host=report, **says))


def sync(request: SyncRequest) -> bytes:
    """A sync as bytes."""
    return post("/v1/sync", request.model_dump_json().encode())


def said(copy: StoredDatum, state: PlacementState, generation: int) -> PlacementReport:
    """What a host says of one copy."""
    done = SIZE if state is PlacementState.HELD else 0
    return PlacementReport(uid=copy.uid, root=copy.root, state=state, generation=generation, done=done, size=SIZE)
