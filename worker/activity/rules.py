"""The decision: what the volunteer wants, and what is seen of the host, to what may run now, with the reason.

Owns the rules, the shape of an observation and the verdict. Pure: no clock, no probe, no effect. A rule about something
that nobody can see on this host keeps the host out of work: the owner comes first.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ..configuration.spelling import Bytes
from .schedule import Window, is_open, next_change

Swarms = Literal["free", "capped", "stopped"]
When = Literal["always", "idle", "logged-out"]
MOST_WINDOWS: Final = 32


class Rules(BaseModel):
    """When this host works, and what its swarms may do while it does not."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    when: When = "always"
    """always; idle: nobody has touched keyboard or mouse; logged-out: nobody has a session."""
    idle_minutes: Annotated[float, Field(ge=0, le=1440)] = 5.0
    """Minutes without input after which a host is idle."""
    busy_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of all processors that other programs use, above which machines are paused; 0 for never."""
    schedule: Annotated[tuple[str, ...], Field(max_length=MOST_WINDOWS)] = ()
    """Hours at which the host works, like `mon-fri 20:00-07:00`; none named means all."""
    battery: bool = False
    """Whether machines run on battery."""
    metered: bool = False
    """Whether swarms use a network that is paid for by volume."""
    swarms: Swarms = "capped"
    """What swarms do while machines are paused by a rule."""
    upload: Annotated[Bytes, Field(ge=0, le=2**53)] = 256 * 1024
    """Bytes per second sent at most while capped; 0 for no other cap than the usual one."""
    download: Annotated[Bytes, Field(ge=0, le=2**53)] = 1024 * 1024
    """Bytes per second received at most while capped; 0 for no other cap than the usual one."""
    witness: Annotated[str, Field(max_length=4096)] = ""
    """A file that another program touches at each sign of the owner, for desktops that tell nobody else."""

    @field_validator("schedule")
    @classmethod
    def _windows(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Window.parse(text)) for text in texts)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The schedule's."""
        return _parsed(self.schedule)


@dataclass(frozen=True, slots=True)
class Observations:
    """What is seen of the host. None where nothing here can tell.

    Attributes:
        local: The time here, with its zone.
        idle: Seconds since the last input.
        sessions: How many people are logged in.
        busy: Share of all processors that others use, 0 to 1.
        on_battery: Whether it runs on battery; None also without any battery.
        metered: Whether its network is paid for by volume.
    """

    local: datetime
    idle: float | None = None
    sessions: int | None = None
    busy: float | None = None
    on_battery: bool | None = None
    metered: bool | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """The owner said to stop.

    Attributes:
        until: When it ends by itself, UTC; None if only the owner ends it.
    """

    until: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it has not ended."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may run.

    Attributes:
        machines: Whether machines run.
        swarms: What swarms may do.
        reasons: Why not everything may; empty if it may.
        until: When time alone changes this, UTC; None if it does not.
    """

    machines: bool
    swarms: Swarms
    reasons: tuple[str, ...] = ()
    until: datetime | None = None


FREE: Final = Verdict(machines=True, swarms="free")


def decide(rules: Rules, seen: Observations, pause: Pause | None = None) -> Verdict:
    """What may run under `rules`, given what is `seen`, and whether the owner said to `pause`."""
    now = seen.local.astimezone(UTC)
    paused = pause is not None and pause.holds(now)
    reasons: list[str] = []
    if pause is not None and paused:
        reasons.append(f"its owner paused it until {pause.until:%Y-%m-%d %H:%M} UTC" if pause.until else _PAUSED)
    windows = rules.windows
    if not is_open(windows, seen.local):
        reasons.append(f"it works at other hours: {'; '.join(rules.schedule)}")
    reasons += _presence(rules, seen)
    swarms: Swarms = "stopped" if paused else rules.swarms if reasons else "free"
    machines = not reasons
    if seen.metered and not rules.metered:
        reasons.append("its network is paid for by volume, and swarms wait for another one")
        swarms = "stopped"
    changes = [pause.until] if pause is not None and paused and pause.until else []
    changes += [change] if windows and (change := _change(windows, _minute(seen.local))) else []
    return Verdict(machines, swarms, tuple(reasons), min(changes, default=None))


_PAUSED: Final = "its owner paused it"


@functools.lru_cache(maxsize=8)
def _parsed(schedule: Sequence[str]) -> tuple[Window, ...]:
    return tuple(map(Window.parse, schedule))


@functools.lru_cache(maxsize=8)
def _change(windows: Sequence[Window], minute: datetime) -> datetime | None:
    """As `next_change`; asked about the same minute again and again."""
    return next_change(windows, minute)


def _minute(instant: datetime) -> datetime:
    """The whole minute before `instant`: windows begin and end with whole ones."""
    return instant.replace(second=0, microsecond=0)


def _presence(rules: Rules, seen: Observations) -> list[str]:
    """Why the owner needs the host now."""
    reasons = []
    if rules.when == "idle" and seen.idle is None:
        reasons.append("nothing here tells whether someone uses it")
    elif rules.when == "idle" and seen.idle is not None and seen.idle < rules.idle_minutes * 60:
        reasons.append(f"someone uses it, or did in the last {rules.idle_minutes:g} minutes")
    if rules.when == "logged-out" and seen.sessions is None:
        reasons.append("nothing here tells whether someone is logged in")
    elif rules.when == "logged-out" and seen.sessions:
        reasons.append(f"{seen.sessions} session(s) are open on it")
    if rules.busy_percent and seen.busy is None:
        reasons.append("nothing here tells how busy other programs keep it")
    elif rules.busy_percent and seen.busy is not None and 100 * seen.busy > rules.busy_percent:
        reasons.append(f"other programs use more than {rules.busy_percent} % of its processors")
    if seen.on_battery and not rules.battery:
        reasons.append("it runs on battery")
    return reasons
