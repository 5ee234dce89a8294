"""A run from its options: which hosts there are, which data, what happens, and the report on it.

Owns the made-up volunteers and the course of a run. All of it follows from the options and the seed.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from bitdew.core.attribute import Attribute
from bitdew.core.errors import error
from bitdew.core.ids import Uid
from bitdew.core.lifetime import Reference

from ..planner import PlannerSettings, plan
from .churn import HOUR, Availability, Churn
from .figures import Figures, quantile
from .grid import SimulatedGrid
from .host import SimulatedHost
from .network import Faults
from .people import People
from .possessions import GB, MBIT, Lent

MOST_REASONS: Final = 1000
"""Data of which the reasons are asked for that they are short of copies."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is to be simulated. Sizes in bytes.

    Attributes:
        hosts: Hosts at the beginning.
        data: Data, all added at the beginning, each attribute having as many as the others.
        hours: Virtual hours.
        availability: How hosts come and go.
        attributes: The attributes by name, in the order in which they are defined.
        size: Of a datum, on average: from a quarter of it to about two and a half times as much.
        quota: Of a host, on average, likewise.
        faults: What becomes of replies.
        mass_loss: At which hour which part of the hosts is gone for good.
        seed: Where chance begins.
        period: Seconds of the longest silence of a living host.
        tick: Seconds within which things count as happening at once.
    """

    hosts: int
    data: int
    hours: float
    availability: Availability
    attributes: Mapping[str, Attribute] = field(
        default_factory=lambda: {"default": Attribute(replica=3, fault_tolerance=True)}
    )
    size: int = 2 * GB
    quota: int = 50 * GB
    faults: Faults = field(default_factory=Faults)
    mass_loss: tuple[float, float] | None = None
    seed: int = 0
    period: float = 20.0
    tick: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        report: The figures, which follow from the options alone.
        violations: What was wrong, as sentences.
        cost: Seconds of processor time that planning took for each virtual hour; it differs from run to run.
        seconds: Seconds that the whole run took.
    """

    report: dict[str, Any]
    violations: list[str]
    cost: float
    seconds: float


class Run:
    """One run on one grid."""

    def __init__(self, grid: SimulatedGrid, options: Options) -> None:
        self._grid = grid
        self._options = options
        self._people = People(grid)
        self._figures = Figures(grid)
        self._chance = random.Random(grid.chance.getrandbits(64))  # noqa: S311 (nothing is kept secret by it)
        self._churn = Churn(grid, options.availability, self._join, self._figures.hosts_moved)

    def _join(self) -> SimulatedHost:
        return self._grid.join(f"host{len(self._grid.hosts) + 1}", volunteer(self._chance, self._options.quota))

    async def play(self, passed: Callable[[float], None]) -> None:
        """Let everything happen; `passed` is told the part of the time that is over."""
        grid, options = self._grid, self._options
        for _ in range(options.hosts):
            self._join()
        await grid.settle()
        await self._add_data()
        self._churn.begin()
        if options.mass_loss is not None:
            hour, fraction = options.mass_loss
            grid.later(hour * HOUR, lambda: self._churn.lose(fraction))
        end = options.hours * HOUR

        def observed(seconds: float) -> None:
            self._figures.observe()
            passed(min(seconds / end, 1.0))

        await grid.advance(end, observed)
        self._figures.finish()

    async def _add_data(self) -> None:
        """Add the data, those of one attribute together: those of later ones may follow those of earlier ones."""
        names, options = list(self._options.attributes), self._options
        for number, name in enumerate(names):
            attribute = options.attributes[name]
            await self._people.define(name, attribute.to_dict())
            count = options.data // len(names) + (number < options.data % len(names))
            wanted = [(f"{name}-{n + 1}", _around(options.size, self._chance), name) for n in range(count)]
            for uid in await self._people.add(wanted):
                self._figures.add(uid, attribute, self._target(attribute.affinity))
        self._figures.observe()

    def _target(self, affinity: Reference | None) -> Uid | None:
        named = (added.uid for added in self._people.data.values() if affinity and added.name == affinity.name)
        return next(named, None)

    async def report(self) -> dict[str, Any]:
        """The figures. Times in seconds, sizes in bytes, but for copy-hours."""
        grid, figures, options = self._grid, self._figures, self._options
        living = [(added.uid, added.size) for added in self._people.data.values() if added.uid in grid.living]
        least, moved = figures.least(living), round(grid.links.moved)
        described = asdict(options) | {"attributes": {n: a.to_dict() for n, a in options.attributes.items()}}
        return {
            "options": described,
            "hosts": {
                "at the end": sum(host.online for host in grid.hosts.values()),
                "ever": len(grid.hosts),
                "departures": self._churn.departures,
                "disks lost": self._churn.losses,
            },
            "data": {"alive": len(living), "ended": len(self._people.data) - len(living)},
            "time to place": _spread_of(figures.placing) | {"unfinished": figures.short["placing"]},
            "time to repair": _spread_of(figures.repairs) | {"unfinished": figures.short["repair"]},
            "bytes": {
                "moved": moved,
                "least": least,
                "for each datum": round(moved / max(1, len(self._people.data))),
                "overhead": round(moved / least - 1, 4) if least else 0.0,
            },
            "copy-hours": {"missing": round(figures.deficit, 2), "surplus": round(figures.surplus, 2)},
            "orders": {str(kind): count for kind, count in grid.audit.orders.items()},
            "rounds": grid.rounds,
            "short at the end": await self._reasons([uid for uid, _ in living]),
            "violations": dict(Counter(violation.rule for violation in grid.audit.violations)),
        }

    async def _reasons(self, living: list[Uid]) -> dict[str, int]:
        """Why data are short of copies in the end, as the planner says, and how many of them are."""
        found: Counter[str] = Counter()
        snapshot = await self._grid.service.engine.snapshot(living[:MOST_REASONS])
        for outlook in plan(snapshot, self._grid.clock.now()).outlooks.values():
            if outlook.missing:
                found[outlook.reason] += 1
        return dict(sorted(found.items()))


def _spread_of(seconds: list[float]) -> dict[str, Any]:
    figures = {"median": quantile(seconds, 0.5), "p95": quantile(seconds, 0.95), "max": max(seconds, default=0.0)}
    return {"count": len(seconds)} | {name: round(value, 1) for name, value in figures.items()}


def volunteer(chance: random.Random, quota: int) -> Lent:
    """A made-up volunteer's PC: an ordinary one, with what a home or an office connects it by."""
    offered = {"qemu": ("8.2", 0.6), "virtualbox": ("7.0", 0.4), "root": ("6.30", 0.2)}
    down = chance.choice([20, 50, 100, 250, 1000])
    lent = _around(quota, chance)
    return Lent(
        cpus=chance.choice([2, 4, 8, 16]),
        memory=chance.choice([2, 4, 8, 16]) * GB,
        quota=lent,
        disk=2 * lent + 20 * GB,
        labels={
            "site": f"site{chance.randrange(20) + 1}",
            "os": chance.choice(["linux", "macos", "windows", "windows"]),
        },
        sharings={name: version for name, (version, part) in offered.items() if chance.random() < part},
        down=down * MBIT,
        up=down * MBIT / chance.choice([1, 4, 10]),
    )


def _around(mean: int, chance: random.Random) -> int:
    """A size from a quarter of `mean` to about two and a half times as much, each power of two being as likely."""
    return max(1, round(mean * 4 ** chance.uniform(-1, 0.66)))


async def simulate(options: Options, folder: Path, passed: Callable[[float], None] = lambda _part: None) -> Outcome:
    """Play a run from beginning to end.

    Raises:
        UserError: `attribute.…`, for attributes that can't be; `input.invalid`, for the other options.
    """
    _check(options)
    began = time.monotonic()
    async with SimulatedGrid(
        folder,
        seed=options.seed,
        period=options.period,
        planner=PlannerSettings(),
        faults=options.faults,
        tick=options.tick,
    ) as grid:
        run = Run(grid, options)
        await run.play(passed)
        report = await run.report()
        violations = [str(violation) for violation in grid.audit.violations]
        return Outcome(report, violations, grid.planning / options.hours, time.monotonic() - began)


def _check(options: Options) -> None:
    faults, availability = options.faults, options.availability
    parts = {
        "--loss": faults.loss,
        "--repeat": faults.repeat,
        "--reorder": faults.reorder,
        "--for-good": availability.for_good,
        "--wiped": availability.wiped,
        "--mass-loss": options.mass_loss[1] if options.mass_loss else 0,
    }
    for name, part in parts.items():
        if not 0 <= part <= 1:
            raise error("input.invalid", f"{name} can't be {part:g}", why="it is a part, from 0 to 1")
    if faults.loss > 0.9:
        raise error("input.invalid", f"--loss can't be {faults.loss:g}", why="with more than 0.9 nobody is ever heard")
    least = {"--hosts": options.hosts, "--data": options.data, "--size": options.size, "--quota": options.quota}
    for name, number in least.items():
        if number < 1:
            raise error("input.invalid", f"{name} can't be {number}", why="one is the least")
    if not 0 < options.hours <= 24 * 366:
        raise error("input.invalid", f"--hours can't be {options.hours:g}", why="it is more than 0, and a year at most")
    if not 0 <= availability.churn <= 60:
        why = "it is how many sessions of a host end in an hour: from 0 to 60"
        raise error("input.invalid", f"--churn can't be {availability.churn:g}", why=why)
    if availability.absence <= 0:
        raise error("input.invalid", f"--absence can't be {availability.absence:g}", why="it is more than 0 hours")
