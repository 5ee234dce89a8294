"""What 10,000 hosts that stay connected cost one service process.

The service is a `bitdew serve` process with SQLite, held to one core; the hosts are this process, on the others. Each
has a TLS connection with a certificate of its own, a few copies, and a long poll held open, and asks again when that
ends after a heartbeat of 60 s. 1 % of them an hour go, and others come; what was lost with them is made again.

The figure is the part of its core that the service takes once all have joined. At most half is the target. It is taken
over one heartbeat, and with --full over twelve: only then is what left long enough gone for its copies to be made
again. Where a process may not open as many connections as there are to be hosts, there are fewer, and that is told.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bitdew.core.ids import HostId, new_uid
from bitdew.core.orders import OrderKind
from bitdew.core.states import PlacementState
from bitdew.trust.roles import Role
from bitdew.wire.models import PlacementReport, SyncReply, SyncRequest

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed.crowd import Certified, Crowd, Member, Next
from bed.pinned import HEARTBEAT, Bed, Served, hello, said, sync
from bed.processes import Site
from bed.report import Report, options
from bed.stored import SIZE, StoredAttribute, StoredDatum, fill, uid_of

BUSY_TARGET: Final = 0.5
CROWD: Final = 2_000
FULL_CROWD: Final = 10_000
FULL_HEARTBEATS: Final = 12
"""A host is taken for lost after three and a half, and its copies are made again five minutes later."""
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
ATTRIBUTE: Final = uid_of("many copies")


class Resident:
    """A host of the crowd: what it says next, given what it was told."""

    def __init__(self, who: Certified, number: int, copies: list[StoredDatum]) -> None:
        self.who = who
        self._number = number
        self._boot = new_uid()
        self._copies = [said(copy, PlacementState.HELD, 0) for copy in copies]
        self._generation = 0
        self._idle = self._poll()
        self.fetched = 0

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
        self.fetched += len(done)
        return sync(SyncRequest(boot=self._boot, generation=self._generation, wait=HEARTBEAT, placements=done))

    def _poll(self) -> bytes:
        return sync(SyncRequest(boot=self._boot, generation=self._generation, wait=HEARTBEAT))


def measure(report: Report, wanted: int, heartbeats: int) -> None:
    """Hosts whose polls are held open, a few of which go and come."""
    size = min(wanted, most_connections())
    with Site() as site:
        bed = Bed(site)
        spare = max(2, round(size * CHURN))
        hosts = [bed.certificates.issue(Role.WORKER, f"host{number}") for number in range(size + spare)]
        ids = [host.subject_id for host in hosts[:size]]
        holders = [[ids[(n * REPLICA + k) % size] for k in range(REPLICA)] for n in range(size * COPIES // REPLICA)]
        data = [StoredDatum(uid_of("crowd", n), f"crowd-{n}", ATTRIBUTE, those) for n, those in enumerate(holders)]
        copies: dict[HostId, list[StoredDatum]] = {host.subject_id: [] for host in hosts}
        for datum in data:
            for holder in datum.held_by:
                copies[holder].append(datum)
        fill(
            bed.database,
            attributes=[StoredAttribute(ATTRIBUTE, None, {"replica": REPLICA, "ft": True})],
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
            share, syncs, window = steady_state(crowd, newcomers, following, served, heartbeats * HEARTBEAT)
        memory = served.process.memory_info().rss
    report.add(f"processor's share, {size:,} hosts", share, "of one core", at_most=BUSY_TARGET)
    if size != FULL_CROWD:
        share *= FULL_CROWD / size
        report.add(f"in proportion, {FULL_CROWD:,} hosts", share, "of one core", at_most=BUSY_TARGET)
    repairs = sum(resident.fetched for resident in residents.values())
    report.note(f"{syncs:,} syncs in {window:.0f} s; {repairs} copies were made again; {memory >> 20} MB of memory.")
    report.keep("crowd", {"hosts": size, "syncs": syncs, "seconds": window, "service's memory": memory})
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
    crowd: Crowd, newcomers: Iterator[Resident], following: Next, served: Served, seconds: float
) -> tuple[float, int, float]:
    """The service's share of its core while polls end and begin; how many did, in how many seconds."""
    order = random.Random(3)  # noqa: S311 - no secret
    crowd.attend(time.perf_counter() + SETTLING, following)
    used, began = served.used(), time.perf_counter()
    syncs = exchanged = 0
    each = 3600 / (len(crowd.members) * CHURN)
    while (now := time.perf_counter()) < began + seconds:
        if now - began >= each * exchanged and (newcomer := next(newcomers, None)):
            exchanged += 1
            crowd.leave(order.choice(crowd.members))
            crowd.join(newcomer.who).ask(newcomer.hello())
        syncs += crowd.attend(min(began + seconds, now + 0.5), following)
    seconds = time.perf_counter() - began
    return (served.used() - used) / seconds, syncs, seconds


def most_connections() -> int:
    """How many connections this process and the service may each have, as this machine's limit on files has it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the service inherits it
    return hard - 500


def main() -> None:
    asked = options(__doc__, full=f"{FULL_CROWD:,} hosts instead of {CROWD:,}, for {FULL_HEARTBEATS} heartbeats")
    report = Report("many_hosts: hosts that stay connected to one process on one core")
    measure(report, *((FULL_CROWD, FULL_HEARTBEATS) if asked.full else (CROWD, 1)))
    report.show(as_json=asked.json)


if __name__ == "__main__":
    main()
