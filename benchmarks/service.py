"""What one service process carries on one core: idle hosts, reports, new data, and a crowd that stays connected.

The service is a `bitdew serve` process with SQLite, held to one core; whoever calls it is this process, on the others.
Everything goes over TLS with client certificates, on kept connections.

- Idle syncs: hosts that have nothing to say, against an aiohttp handler that parses JSON and answers with JSON, called
  alike, in turns. Each is as busy as it can be; syncs are counted by the processor time of the server, which is what
  they would be by the clock if nobody else used its core.
- Changed syncs: each of many hosts reports another copy as held; that is judged, stored, planned for and then answered.
- Data: created one by one by callers at the same time, and in batches.
- A crowd: hosts with copies, each with a long poll held open, who ask again when it ends after a heartbeat of 60 s; 1 %
  of them an hour are exchanged for others. What part of its core the service takes.

Times by the clock depend on what else the machine does, so that each is followed by the same per second of the
service's processor time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psutil

from bitdew.core.ids import HostId, new_uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import PlacementState
from bitdew.trust.authority import Authority
from bitdew.trust.roles import Role
from bitdew.wire.models import PlacementReport, SyncReply, SyncRequest

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.crowd import Certificates, Certified, Crowd, Member, Next, post
from bed.peer_tls import peer_credentials
from bed.processes import Site
from bed.report import Report, options
from bed.stored import SIZE, StoredAttribute, StoredDatum, fill, host_report, new_database, uid_of

IDLE_TARGET: Final = 0.6
CHANGED_TARGET: Final = 300.0
SINGLE_TARGET: Final = 1_000.0
BATCH_TARGET: Final = 10_000.0
BUSY_TARGET: Final = 0.5

CALLERS: Final = 16
BLOCKS: Final = 12
BLOCK_SECONDS: Final = 0.5
REPORTING: Final = 200
REPORTS: Final = 40
"""Copies that each host reports as held, one a sync."""
CREATORS: Final = 64
"""Callers who create data at the same time: what they ask for is stored together, so that more of them cost less."""
SINGLES: Final = 6_000
BATCH: Final = 1_000
BATCHES: Final = 40
HEARTBEAT: Final = 60.0
CROWD: Final = 2_000
FULL_CROWD: Final = 10_000
COPIES: Final = 5
"""Copies on each host of the crowd."""
REPLICA: Final = 50
"""Hosts that hold each of its data."""
SETTLING: Final = 20.0
"""Seconds in which all that follows from so many joining is done."""
CHURN: Final = 0.01
"""Of the crowd, an hour."""
TOGETHER: Final = 16
"""Hosts of the crowd that join at the same moment."""
ONE: Final = uid_of("one copy")
QUIET: Final = 0.05
"""Of a core: what a service that has nothing to do may still take."""


# A service on a core of its own ---------------------------------------------------------------------------------------


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


@contextlib.contextmanager
def on_first_core() -> Iterator[None]:
    """Whatever is started within this is held to one core, this process to the others afterwards."""
    if not hasattr(os, "sched_setaffinity") or len(cores := sorted(os.sched_getaffinity(0))) < 2:
        yield
        return
    os.sched_setaffinity(0, cores[:1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, ALL_CORES - set(cores[:1]))


ALL_CORES: Final = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()


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
        if ALL_CORES:
            os.sched_setaffinity(0, ALL_CORES)
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


# Idle syncs -----------------------------------------------------------------------------------------------------------


def measure_idle(report: Report, blocks: int) -> None:
    """Hosts that have nothing to say, against the bare handler."""
    with Site() as site:
        bed = Bed(site)
        hosts = [bed.certificates.issue(Role.WORKER, f"idle{number}") for number in range(CALLERS)]
        served = bed.serve()
        with on_first_core():
            credentials, peer_context = peer_credentials(site.folder)
            peer = site.peer("serve", credentials).ready()
        boot = new_uid()
        idle = SyncRequest(boot=boot, generation=0).model_dump_json().encode()
        rates: list[list[tuple[float, float]]] = [[], []]
        with (
            Crowd(served.address, bed.certificates.context(hosts[0])) as ours,
            Crowd(address_of(peer["url"]), peer_context) as theirs,
        ):
            for number, host in enumerate(hosts):
                ours.run([(ours.join(host), hello(host.subject_id, boot, number))])
                theirs.join()
            sides = [(ours, "/v1/sync", served.process), (theirs, "/echo", psutil.Process(peer["pid"]))]
            for number in range(blocks + 1):
                for side, (crowd, path, process) in enumerate(sides):
                    rate = block(crowd, post(path, idle), process)
                    if number:  # the first is to warm up
                        rates[side].append(rate)
    by_clock, by_processor = (
        statistics.median(a[kind] / b[kind] for a, b in zip(*rates, strict=True)) for kind in (0, 1)
    )
    what = "idle syncs a second, BitDew / bare handler"
    report.add(what, by_processor, "a second of the server's processor", at_least=IDLE_TARGET)
    report.add(what, by_clock, "by the clock", at_least=IDLE_TARGET)
    report.keep("idle syncs per second, by the clock and by the processor", {"bitdew": rates[0], "bare": rates[1]})


def block(crowd: Crowd, request: bytes, process: psutil.Process) -> tuple[float, float]:
    """Keep a server busy for a while: requests per second, by the clock and by its processor time."""
    used, began = used_by(process), time.perf_counter()
    stop = began + BLOCK_SECONDS

    def following(_member: Member, _body: bytes) -> bytes | None:
        return request if time.perf_counter() < stop else None

    answered = crowd.run([(member, request) for member in crowd.members], following)
    return answered / (time.perf_counter() - began), answered / (used_by(process) - used)


# Changed syncs --------------------------------------------------------------------------------------------------------


def measure_changed(report: Report, reporting: int) -> None:
    """Hosts that each report one copy after the other as held."""
    with Site() as site:
        bed = Bed(site)
        hosts = [bed.certificates.issue(Role.WORKER, f"host{number}") for number in range(reporting)]
        data = [
            StoredDatum(
                uid_of(host.subject_id, number), f"datum-{host.subject_id}-{number}", ONE, (), (host.subject_id,)
            )
            for host in hosts
            for number in range(REPORTS)
        ]
        fill(
            bed.database,
            attributes=[StoredAttribute(ONE, None, {"replica": 1})],
            hosts=[(host.subject_id, host.name) for host in hosts],
            data=data,
        )
        copies = {host: data[REPORTS * number : REPORTS * (number + 1)] for number, host in enumerate(hosts)}
        boot = new_uid()
        told = {host: [said(copy, PlacementState.ASSIGNED) for copy in its] for host, its in copies.items()}
        changes = {
            host: iter(
                [
                    sync(SyncRequest(boot=boot, generation=REPORTS, placements=[said(copy, PlacementState.HELD)]))
                    for copy in its
                ]
            )
            for host, its in copies.items()
        }
        served = bed.serve()
        with Crowd(served.address, bed.certificates.context(hosts[0])) as crowd:
            for number, host in enumerate(hosts):
                first = hello(host.subject_id, boot, number, generation=REPORTS, placements=told[host])
                crowd.run([(crowd.join(host), first)])
            wait_until_quiet(served)
            used, began = served.used(), time.perf_counter()

            def following(member: Member, _body: bytes) -> bytes | None:
                return next(changes[member.who], None) if member.who else None

            answered = crowd.run([(m, next(changes[m.who])) for m in crowd.members if m.who], following)
            seconds, processor = time.perf_counter() - began, served.used() - used
    tell_rate(report, "changed syncs", answered, seconds, processor, CHANGED_TARGET)


def said(copy: StoredDatum, state: PlacementState, generation: int = REPORTS) -> PlacementReport:
    """What a host says of one copy."""
    done = SIZE if state is PlacementState.HELD else 0
    return PlacementReport(uid=copy.uid, root=copy.root, state=state, generation=generation, done=done, size=SIZE)


def wait_until_quiet(served: Served) -> None:
    """Let the service finish what follows from its start."""
    used = served.used()
    while True:
        time.sleep(0.5)
        if served.used() - used < QUIET * 0.5:
            return
        used = served.used()


def tell_rate(report: Report, what: str, count: int, seconds: float, processor: float, target: float) -> None:
    """How many there were in a second, as a part of the target."""
    report.add(f"{what} a second, / {target:,.0f}", count / seconds / target, "by the clock", at_least=1.0)
    says = "a second of the service's processor"
    report.add(f"{what} a second, / {target:,.0f}", count / processor / target, says, at_least=1.0)
    report.keep(what, {"count": count, "seconds": seconds, "processor": processor})


# New data -------------------------------------------------------------------------------------------------------------


def measure_creation(report: Report, times: int) -> None:
    """Data that are described before their bytes come, one by one and many at once."""
    with Site() as site:
        bed = Bed(site)
        fill(bed.database, attributes=[StoredAttribute(ONE, "one-copy", {"replica": 1})])
        callers = [bed.certificates.issue(Role.PUBLISHER, f"caller{number}") for number in range(CREATORS)]
        served = bed.serve()
        numbers = itertools.count()
        with Crowd(served.address, bed.certificates.context(callers[0])) as crowd:
            for caller in callers:
                crowd.join(caller)
            for what, together, batch, count, target in (
                ("data, one by one, by 16 callers,", CALLERS, 1, SINGLES * times, SINGLE_TARGET),
                ("data, one by one, by 64 callers,", CREATORS, 1, SINGLES * times, SINGLE_TARGET),
                ("data, in batches of 1,000,", CALLERS, BATCH, BATCHES * BATCH * times, BATCH_TARGET),
            ):
                # Made beforehand: here it is the service that counts.
                requests = iter([creation(numbers, batch) for _ in range(count // batch)])
                wait_until_quiet(served)
                used, began = served.used(), time.perf_counter()

                def following(_member: Member, _body: bytes, left: Iterator[bytes] = requests) -> bytes | None:
                    return next(left, None)

                begin = list(zip(crowd.members[:together], requests, strict=False))
                answered = crowd.run(begin, following)
                seconds = time.perf_counter() - began
                wait_until_quiet(served)  # what is to be done about them later is a part of what they cost
                tell_rate(report, what, answered * batch, seconds, served.used() - used, target)


def creation(numbers: Iterator[int], batch: int) -> bytes:
    """A request for `batch` data of new names."""
    data = [
        {
            "name": f"data-{number:09}",
            "root": f"{uid_of(number)}{uid_of(-number)}",
            "size": SIZE,
            "attribute": "one-copy",
        }
        for number in itertools.islice(numbers, batch)
    ]
    return post("/v1/data", json.dumps({"data": data}).encode())


# A crowd that stays connected -----------------------------------------------------------------------------------------


class Resident:
    """A host of the crowd: what it says next, given what it was told."""

    def __init__(self, who: Certified, number: int, copies: list[StoredDatum]) -> None:
        self.who = who
        self._number = number
        self._boot = new_uid()
        self._copies = [said(copy, PlacementState.HELD, 0) for copy in copies]
        self._generation = 0
        self._idle = self._poll()

    def hello(self) -> bytes:
        """Its first sync."""
        return hello(self.who.subject_id, self._boot, self._number, placements=self._copies)

    def next(self, body: bytes) -> bytes:
        """What it says to an answer: it carries out the orders at once, and else waits for some."""
        if b'"orders":[]' in body:
            return self._idle
        reply = SyncReply.model_validate_json(body)
        self._generation = max(self._generation, reply.generation)
        self._idle = self._poll()
        done = [
            PlacementReport(
                uid=order.subject,
                root=order.place.root,
                state=PlacementState.HELD,
                generation=order.generation,
                done=SIZE,
                size=SIZE,
            )
            for order in reply.orders
            if order.kind is OrderKind.PLACE and order.place is not None
        ]
        return sync(SyncRequest(boot=self._boot, generation=self._generation, wait=HEARTBEAT, placements=done))

    def _poll(self) -> bytes:
        return sync(SyncRequest(boot=self._boot, generation=self._generation, wait=HEARTBEAT))


def measure_crowd(report: Report, wanted: int) -> None:
    """Hosts whose polls are held open, a few of which go and come."""
    size = min(wanted, most_connections())
    with Site() as site:
        bed = Bed(site)
        spare = max(2, round(size * CHURN))
        hosts = [bed.certificates.issue(Role.WORKER, f"host{number}") for number in range(size + spare)]
        ids = [host.subject_id for host in hosts[:size]]
        data = [
            StoredDatum(uid_of("crowd", n), f"crowd-{n}", ONE, [ids[(n * REPLICA + k) % size] for k in range(REPLICA)])
            for n in range(size * COPIES // REPLICA)
        ]
        copies: dict[HostId, list[StoredDatum]] = {host.subject_id: [] for host in hosts}
        for datum in data:
            for holder in datum.held_by:
                copies[holder].append(datum)
        fill(
            bed.database,
            attributes=[StoredAttribute(ONE, None, {"replica": REPLICA, "ft": True})],
            hosts=[(host.subject_id, host.name) for host in hosts[:size]],
            data=data,
        )
        residents = {
            host.subject_id: Resident(host, number, copies[host.subject_id]) for number, host in enumerate(hosts)
        }
        served = bed.serve()
        with Crowd(served.address, bed.certificates.context(hosts[0])) as crowd:

            def following(member: Member, body: bytes) -> bytes | None:
                return residents[member.who.subject_id].next(body) if member.who else None

            gather(crowd, [residents[host.subject_id] for host in hosts[:size]], following)
            newcomers = iter([residents[host.subject_id] for host in hosts[size:]])
            share, syncs, window = steady_state(crowd, newcomers, following, served)
        memory = served.process.memory_info().rss
    report.add(f"processor's share, {size:,} hosts", share, "of one core", at_most=BUSY_TARGET)
    report.add(
        f"the same, in proportion, for {FULL_CROWD:,} hosts",
        share * FULL_CROWD / size,
        "of one core",
        at_most=BUSY_TARGET,
    )
    report.keep("crowd", {"hosts": size, "syncs": syncs, "seconds": window, "share": share, "service's memory": memory})
    if size < wanted:
        report.note(f"{wanted:,} hosts were asked for: this machine lets a process open {size:,} connections")


def gather(crowd: Crowd, residents: list[Resident], following: Next) -> None:
    """Let everyone join, and go on polling while others join."""
    print(f"{len(residents):,} hosts join", file=sys.stderr, flush=True)
    for start in range(0, len(residents), TOGETHER):
        for resident in residents[start : start + TOGETHER]:
            crowd.join(resident.who).ask(resident.hello())
        crowd.attend(time.perf_counter() + 0.02, following)


def steady_state(
    crowd: Crowd, newcomers: Iterator[Resident], following: Next, served: Served
) -> tuple[float, int, float]:
    """The service's share of its core while polls end and begin; how many did, in how many seconds."""
    order = random.Random(3)  # noqa: S311 - no secret
    crowd.attend(time.perf_counter() + SETTLING, following)
    used, began = served.used(), time.perf_counter()
    syncs = exchanged = 0
    each = 3600 / (len(crowd.members) * CHURN)
    while (now := time.perf_counter()) < began + HEARTBEAT:
        if now - began >= each * exchanged and (newcomer := next(newcomers, None)):
            exchanged += 1
            crowd.leave(order.choice(crowd.members))
            crowd.join(newcomer.who).ask(newcomer.hello())
        syncs += crowd.attend(min(began + HEARTBEAT, now + 0.5), following)
    seconds = time.perf_counter() - began
    return (served.used() - used) / seconds, syncs, seconds


def most_connections() -> int:
    """How many connections this process and the service may each have, as this machine's limit on files has it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the service inherits it
    return hard - 500


def main() -> None:
    asked = options(__doc__, full=f"{FULL_CROWD:,} hosts instead of {CROWD:,}, and more of the rest")
    report = Report("service: one process on one core")
    measure_idle(report, BLOCKS * (3 if asked.full else 1))
    measure_changed(report, REPORTING * (3 if asked.full else 1))
    measure_creation(report, 3 if asked.full else 1)
    measure_crowd(report, FULL_CROWD if asked.full else CROWD)
    if os.getloadavg()[0] > (os.cpu_count() or 1):
        report.note("More was to be run than there are cores: the rows by the clock tell of that too.")
    report.show(as_json=asked.json)


if __name__ == "__main__":
    main()
