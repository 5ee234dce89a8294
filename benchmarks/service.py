"""What one service process carries on one core: idle hosts, reports and new data.

The service is a `bitdew serve` process with SQLite, held to one core; whoever calls it is this process, on the others.
Everything goes over TLS with client certificates, on kept connections.

- Idle syncs: hosts that have nothing to say, against an aiohttp handler that parses JSON and answers with JSON, called
  alike, in turns. Each is as busy as it can be; syncs are counted by the processor time of the server, which is what
  they would be by the clock if nobody else used its core.
- Changed syncs: each of many hosts reports another copy as held; that is judged, stored, planned for and then answered.
- Data: created one by one by callers at the same time, and in batches.

Times by the clock depend on what else the machine does, so that each is followed by the same per second of the
service's processor time.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil

from bitdew.core.ids import new_uid
from bitdew.core.states import PlacementState
from bitdew.trust.roles import Role
from bitdew.wire.models import SyncRequest

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.crowd import Crowd, Member, post
from bed.peer_tls import peer_credentials
from bed.pinned import Bed, Served, address_of, hello, on_first_core, said, sync, used_by
from bed.processes import Site
from bed.report import Report, options
from bed.stored import SIZE, StoredAttribute, StoredDatum, fill, uid_of

IDLE_TARGET: Final = 0.6
CHANGED_TARGET: Final = 300.0
SINGLE_TARGET: Final = 1_000.0
BATCH_TARGET: Final = 10_000.0

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
ONE: Final = uid_of("one copy")
QUIET: Final = 0.05
"""Of a core: what a service that has nothing to do may still take."""


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
    report.add(what, by_clock, "by the clock, where the caller may be too slow for the bare handler")
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
        told = {host: [said(copy, PlacementState.ASSIGNED, REPORTS) for copy in its] for host, its in copies.items()}
        changes = {host: iter([held(copy, boot) for copy in its]) for host, its in copies.items()}
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


def held(copy: StoredDatum, boot: str) -> bytes:
    """The sync by which a host says that it holds a copy."""
    report = said(copy, PlacementState.HELD, REPORTS)
    return sync(SyncRequest(boot=boot, generation=REPORTS, placements=[report]))


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


def main() -> None:
    asked = options(__doc__, full="three times as much of everything")
    report = Report("service: one process on one core")
    measure_idle(report, BLOCKS * (3 if asked.full else 1))
    measure_changed(report, REPORTING * (3 if asked.full else 1))
    measure_creation(report, 3 if asked.full else 1)
    if os.getloadavg()[0] > (os.cpu_count() or 1):
        report.note("More was to be run than there are cores: the rows by the clock tell of that too.")
    report.show(as_json=asked.json)


if __name__ == "__main__":
    main()
