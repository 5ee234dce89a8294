"""Everything that is seen of the host, asked for no more often than it is worth.

Owns how long each finding is taken for granted, and that a probe that fails is "nobody can tell". It blocks: call it in
a thread, one call at a time. It must not decide anything.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import psutil
import structlog

from .input import InputWatch
from .load import OthersLoad
from .power import is_metered, on_battery
from .rules import Observations, Rules

log = structlog.get_logger(__name__)
T = TypeVar("T")

SESSION_SECONDS: Final = 2.0
POWER_SECONDS: Final = 5.0
METERED_SECONDS: Final = 60.0
_LOCAL_TIME: Final = Path("/etc/localtime")


class Senses(Protocol):
    """Who looks at the host."""

    def observe(self, rules: Rules) -> Observations:
        """What is seen of it now, as far as `rules` ask for it. Blocks, for seconds at worst."""


class SystemSenses:
    """This host, as its system tells. What `rules` do not ask for is not looked at."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._input = InputWatch(monotonic=monotonic)
        self._load = OthersLoad(monotonic=monotonic)
        self._sessions = _Kept(lambda: len(psutil.users()), SESSION_SECONDS, monotonic)
        self._battery = _Kept(on_battery, POWER_SECONDS, monotonic)
        self._metered = _Kept(is_metered, METERED_SECONDS, monotonic)
        self._failed: set[str] = set()

    def observe(self, rules: Rules) -> Observations:
        """As `Senses` says."""
        return Observations(
            local=local_now(),
            idle=self._ask("input", lambda: self._input.idle(rules.witness)) if rules.when == "idle" else None,
            sessions=self._ask("sessions", self._sessions.ask) if rules.when == "logged-out" else None,
            busy=self._ask("load", self._load.share) if rules.busy_percent else None,
            on_battery=None if rules.battery else self._ask("power", self._battery.ask),
            metered=None if rules.metered else self._ask("network", self._metered.ask),
        )

    def _ask(self, what: str, probe: Callable[[], T]) -> T | None:
        try:
            found = probe()
        except Exception as fault:  # noqa: BLE001 (what drivers and files of a foreign system do can't be foreseen)
            if what not in self._failed:
                self._failed.add(what)
                log.warning("the host can't be observed", what=what, why=f"{type(fault).__name__}: {fault}"[:300])
            return None
        self._failed.discard(what)
        return found


class _Kept(Generic[T]):
    """A finding that is asked for again only after a while."""

    def __init__(self, probe: Callable[[], T], seconds: float, monotonic: Callable[[], float]) -> None:
        self._probe = probe
        self._seconds = seconds
        self._monotonic = monotonic
        self._found: tuple[float, T] | None = None

    def ask(self) -> T:
        now = self._monotonic()
        if self._found is None or now - self._found[0] >= self._seconds:
            self._found = now, self._probe()
        return self._found[1]


def local_now() -> datetime:
    """The time here, with its zone, where summer time is known if the system tells of it."""
    return datetime.now(_zone()) if _zone() else datetime.now().astimezone()


_zones: dict[tuple[Any, ...], tzinfo | None] = {}


def _zone() -> tzinfo | None:
    """The zone of this host, read again when its file changes."""
    name = os.environ.get("TZ", "").removeprefix(":")
    try:
        status = _LOCAL_TIME.stat()
        key: tuple[Any, ...] = (name, status.st_ino, status.st_mtime_ns)
    except OSError:
        key = (name,)
    if key not in _zones:
        _zones.clear()
        _zones[key] = _read_zone(name)
    return _zones[key]


def _read_zone(name: str) -> tzinfo | None:
    try:
        if name:
            return ZoneInfo(name)
        with _LOCAL_TIME.open("rb") as file:
            return ZoneInfo.from_file(file, key="local")
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return None
