"""The caps of a running worker: shown, changed at once, and kept for the next start.

Owns the settings in force. `worker.json` is read again before it is written, so that what the volunteer wrote there
meanwhile is kept; it is written before anything is put into force, so that a change that can't be kept changes nothing.
It must not pace anything itself: that is the bandwidth's matter, and the storage's.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from bitdew.core.errors import error
from bitdew.core.job import JobsAllowed
from bitdew.core.units import format_size
from bitdew.swarm.progress import Usage
from bitdew.wire import limits
from bitdew.wire.model import Count, Model
from bitdew.wire.models import NameText

from .activity.rules import MOST_WINDOWS, Rules, Swarms, When
from .configuration.layers import Layers
from .configuration.saying import said_after
from .events import EventKind
from .settings import FILE, DatumCaps, WorkerSettings, save_said
from .sharings.declaration import MOST, Declaration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from bitdew.swarm.session import Swarm

    from .bandwidth import Bandwidth
    from .events import Announcer
    from .outbox import Outbox
    from .placements import Placements
    from .room import Room
    from .storage import Storage

TimeText = Annotated[str, Field(max_length=100)]
_OF_A_DATUM: Final = ("upload", "download", "connections")
_OF_THE_HOST: Final = ("quota", "memory", "cpus", "machines", "all_cpus", "jobs_at_once")
_REPORTED: Final = ("memory", "cpus", "machines", "all_cpus", "jobs_at_once", "jobs")
"""What the service plans with, and hears at once."""
_NAMED: Final = ("activity", "data", "sharings", "jobs")


class ActivityChange(Model):
    """Which rules to change; None leaves one as it is."""

    when: When | None = None
    idle_minutes: float | None = None
    busy_percent: int | None = None
    schedule: Annotated[tuple[TimeText, ...], Field(max_length=MOST_WINDOWS)] | None = None
    battery: bool | None = None
    metered: bool | None = None
    swarms: Swarms | None = None
    upload: Count | None = None
    download: Count | None = None
    witness: Annotated[str, Field(max_length=4096)] | None = None


class LimitsChange(Model):
    """Which caps to change; None leaves one as it is. 0 stands for no cap of a rate, or no cap of a datum's own."""

    upload: Count | None = None
    download: Count | None = None
    connections: Count | None = None
    quota: Count | None = None
    memory: Count | None = None
    cpus: Count | None = None
    machines: Count | None = None
    all_cpus: Count | None = None
    jobs_at_once: Count | None = None
    jobs: Literal[JobsAllowed.NONE, JobsAllowed.SHARED] | None = None
    activity: ActivityChange | None = None
    data: Annotated[list[NameText], Field(max_length=limits.DATA_CAPS)] = Field(default_factory=list)
    """The names or uids of the data that are meant; the whole worker if there are none."""
    share: Annotated[dict[NameText, Declaration], Field(max_length=MOST)] | None = None
    """What to share from now on, or in another way than before."""
    unshare: Annotated[list[NameText], Field(max_length=MOST)] | None = None
    """What to share no more."""
    forget: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=100)] | None = None
    """Settings of which nothing shall have been said: what stands elsewhere holds for them, or the default."""


class Used(Model):
    """A cap, 0 for none, and what is used of it now; None where no worker runs that could tell."""

    cap: Count
    now: Count | None


class DatumUse(Model):
    """What one datum may use, and uses. `uid` is "" if it is not on this host."""

    name: str
    uid: str
    upload: Used
    download: Used
    connections: Used


class LimitsView(Model):
    """All caps of one worker. Rates in bytes per second, the quota in bytes of copies."""

    running: bool
    name: NameText
    home: str
    upload: Used
    download: Used
    connections: Used
    quota: Used
    memory: Used
    cpus: Used
    """Processors of one machine; there is nothing to be used of it."""
    machines: Used
    all_cpus: Used
    jobs_at_once: Used
    jobs: JobsAllowed
    activity: Rules
    data: list[DatumUse]
    """Data with caps of their own, and after them those that move, the busiest first."""
    left_out: Count
    """Data that move and have no room here."""


def changed(settings: WorkerSettings, change: LimitsChange) -> WorkerSettings:
    """`settings` with `change` in them.

    Raises:
        UserError: `input.invalid`; `sharing.not-found`, if what is not shared is to be shared no more.
    """
    asked = change.model_dump(exclude={"data", "share", "unshare", "forget"}, exclude_none=True)
    if "activity" in asked:
        asked["activity"] = {**settings.activity.model_dump(), **asked["activity"]}
    if change.share or change.unshare:
        asked["sharings"] = _shared(settings.sharings, change)
    if not change.data:
        return _checked(settings, asked)
    if beyond := sorted(asked.keys() - set(_OF_A_DATUM)):
        why = "data have no quota of their own: each takes its size" if "quota" in beyond else ""
        raise error("input.invalid", f"The {beyond[-1]} is the whole worker's", why=why, field=beyond[-1])
    data = {key: caps.model_dump() for key, caps in settings.data.items()}
    for key in change.data:
        data[key] = {**data.get(key, {}), **asked}
        if not any(data[key].values()):
            del data[key]
    return _checked(settings, {"data": data})


def _checked(settings: WorkerSettings, values: dict[str, Any]) -> WorkerSettings:
    try:
        return WorkerSettings.model_validate({**settings.model_dump(), **values, "home": settings.home})
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"][: 2 if first["loc"][0] == "activity" else 1]))
        raise error("input.invalid", f"{place} is impossible", why=first["msg"], field=place) from None


def _shared(before: dict[str, Declaration], change: LimitsChange) -> dict[str, Declaration]:
    gone = set(change.unshare or ())
    if unknown := sorted(gone - before.keys()):
        raise error("sharing.not-found", f"{unknown[0]} is not shared here", name=unknown[0])
    return {name: one for name, one in {**before, **(change.share or {})}.items() if name not in gone}


def _recalled(settings: WorkerSettings, kept: WorkerSettings, forgotten: Iterable[str]) -> WorkerSettings:
    """`settings` with what is forgotten as it is `kept` now; what can't change at run time waits for the next start."""
    tops = {key.partition(".")[0] for key in forgotten} & {*_OF_A_DATUM, *_OF_THE_HOST, *_NAMED}
    return settings.model_copy(update={top: getattr(kept, top) for top in tops}) if tops else settings


def keep(home: Path, change: LimitsChange, otherwise: WorkerSettings | None = None) -> WorkerSettings:
    """Write `change` into what is kept in `home`; the settings that come of it. Blocks.

    `otherwise` is what to write it into if nothing is kept there.

    Raises:
        UserError: `profile.missing`; `input.invalid`, also if what is kept can't be read.
        HostError: `storage.failed`.
    """
    kept = Layers.kept(home, otherwise)
    changed(kept.settings(), change)
    new = kept.saying(said_after(kept, change))
    settings = new.settings()
    if new != kept or not (home / FILE).exists():
        save_said(home, new.said.values)
    return settings


def view_at_rest(settings: WorkerSettings) -> LimitsView:
    """The caps of a worker that does not run."""

    def cap(of: WorkerSettings | DatumCaps, name: str) -> Used:
        return Used(cap=getattr(of, name), now=None)

    return LimitsView(
        running=False,
        name=settings.name,
        home=str(settings.home),
        **{name: cap(settings, name) for name in (*_OF_A_DATUM, *_OF_THE_HOST)},
        jobs=settings.jobs,
        activity=settings.activity,
        data=[
            DatumUse(name=key, uid="", **{name: cap(caps, name) for name in _OF_A_DATUM})
            for key, caps in sorted(settings.data.items())
        ],
        left_out=0,
    )


class Limits:
    """What this host lends, in force.

    Attributes:
        settings: As they are now.
        writing: Held while they change; others who change settings of theirs hold it too.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        bandwidth: Bandwidth,
        storage: Storage,
        swarm: Swarm,
        placements: Placements,
        outbox: Outbox,
        announcer: Announcer,
        room: Room,
        jobs: Callable[[], int],
        fit: Callable[[], Awaitable[None]],
        lend: Callable[[WorkerSettings], None],
    ) -> None:
        """`fit` has what nothing needs go, where more is held than the quota; `lend` tells everyone else.

        `jobs` says how many jobs run.
        """
        self.settings = settings
        self._fit = fit
        self._lend = lend
        self._room = room
        self._jobs = jobs
        self._bandwidth = bandwidth
        self._storage = storage
        self._swarm = swarm
        self._placements = placements
        self._outbox = outbox
        self._announcer = announcer
        self.writing = asyncio.Lock()

    async def change(self, change: LimitsChange) -> LimitsView:
        """Keep `change` and put it into force; what holds now, and what is used.

        Raises:
            UserError: `input.invalid`.
            HostError: `storage.failed`. Nothing is changed after either.
        """
        async with self.writing:
            new = changed(self.settings, change)
            if new != self.settings or change != LimitsChange():
                kept = await asyncio.to_thread(keep, new.home, change, self.settings)
                new = _recalled(new, kept, change.forget or ())
            if new != self.settings:
                await self._put_into_force(new, change)
        return await self.view()

    async def _put_into_force(self, new: WorkerSettings, change: LimitsChange) -> None:
        old, self.settings = self.settings, new
        self._bandwidth.change(new.swarm_limits, new.data_limits)
        self._lend(new)
        if any(getattr(new, name) != getattr(old, name) for name in _REPORTED):
            self._outbox.wake()
        if new.quota != old.quota:
            self._storage.lend(new.quota)
            self._outbox.wake()  # more may let something in that waits; less must be planned with
        self._announcer.tell(EventKind.LIMITS, "", _told(change))
        if new.quota < old.quota:
            await self._fit()
            self._outbox.wake()

    async def view(self) -> LimitsView:
        """What holds now, and what is used.

        Raises:
            HostError: `storage.failed`.
        """
        settings = self.settings
        usages: dict[str, Usage] = {t.metainfo.content.root: t.usage for t in self._swarm.transfers.values()}
        for root, rate in self._bandwidth.rates_by_http().items():
            usage = usages.get(root, Usage())
            usages[root] = Usage(usage.upload, usage.download + rate, usage.connections)
        now = {name: sum(getattr(usage, name) for usage in usages.values()) for name in _OF_A_DATUM}
        now["upload"] += self._bandwidth.sent_by_http  # of results, which are no data here
        used, _ = await asyncio.to_thread(self._storage.figures)
        rows, taken = list(self._rows(usages)), self._room.taken()
        return LimitsView(
            running=True,
            name=settings.name,
            home=str(settings.home),
            **{name: Used(cap=getattr(settings, name), now=now[name]) for name in _OF_A_DATUM},
            quota=Used(cap=settings.quota, now=used),
            memory=Used(cap=settings.memory, now=taken.memory),
            cpus=Used(cap=settings.cpus, now=None),
            machines=Used(cap=settings.machines, now=taken.machines),
            all_cpus=Used(cap=settings.all_cpus, now=taken.cpus),
            jobs_at_once=Used(cap=settings.jobs_at_once, now=self._jobs()),
            jobs=settings.jobs,
            activity=settings.activity,
            data=rows[: limits.DATA_CAPS],
            left_out=max(0, len(rows) - limits.DATA_CAPS),
        )

    def _rows(self, usages: dict[str, Usage]) -> Iterator[DatumUse]:
        """Data with caps of their own by name, then the others that move, the busiest first."""
        capped, moving, here = [], [], set()
        for entry in self._placements.entries.values():
            uid, name, usage = entry.uid, entry.order.name, usages.get(entry.order.root, Usage())
            keys = [key for key in (uid, name) if key in self.settings.data]
            here.update(keys)
            if keys:
                capped.append(_row(name, uid, [self.settings.data[key] for key in keys], usage))
            elif usage != Usage():
                moving.append(_row(name, uid, [], usage))
        capped += [_row(key, "", [caps], Usage()) for key, caps in self.settings.data.items() if key not in here]
        yield from sorted(capped, key=lambda row: row.name)
        yield from sorted(moving, key=lambda row: -(row.upload.now or 0) - (row.download.now or 0))


def _row(name: str, uid: str, caps: list[DatumCaps], usage: Usage) -> DatumUse:
    def used(what: str) -> Used:
        tightest = min((cap for one in caps if (cap := getattr(one, what))), default=0)
        return Used(cap=tightest, now=getattr(usage, what))

    return DatumUse(name=name, uid=uid, **{what: used(what) for what in _OF_A_DATUM})


def _told(change: LimitsChange) -> str:
    """The change, for people."""
    asked = change.model_dump(exclude={"data", "share", "unshare", "forget"}, exclude_none=True)
    of = f" of {', '.join(change.data[:3])}{' and others' if len(change.data) > 3 else ''}" if change.data else ""
    asked |= {f"activity {name}": value for name, value in asked.pop("activity", {}).items()}
    texts = [f"{name} {_figure(name, value)}" for name, value in asked.items()]
    texts += [f"{key} is what it is elsewhere" for key in change.forget or ()]
    texts += [f"{name} is shared" for name in change.share or ()]
    texts += [f"{name} is shared no more" for name in change.unshare or ()]
    return f"limits{of} changed: {', '.join(texts)}"


def _figure(name: str, value: Any) -> str:
    """One value, for people."""
    if isinstance(value, tuple):
        return "; ".join(value) or "none"
    if isinstance(value, bool | str | float) or name not in {"upload", "download", "quota", "memory"}:
        return str(value)
    return format_size(value) if value else "without limit"
