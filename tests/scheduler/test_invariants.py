"""Whatever happens in whatever order, what must always hold does, and a grid that is left alone comes to rest.

Hypothesis plays volunteers, people and the network on the simulated grid: the real catalog and scheduler on a real
database, in virtual time. After every step the invariants are checked; in the end everything heals, and each wish has
to be fulfilled as far as the hosts allow, by a reckoning that asks all of them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from bitdew.scheduler.books import Books
from bitdew.scheduler.planner import HostRow
from bitdew.scheduler.simulation import Faults, Lent, People, SimulatedGrid, SimulatedHost
from bitdew.scheduler.simulation.identities import uid_from
from bitdew.scheduler.simulation.possessions import GB, MBIT, Copy
from bitdew.scheduler.simulation.reckoning import shortcomings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.processors import format_exc_info
from structlog.testing import capture_logs

from bitdew.core.draining import Drain
from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid
from bitdew.core.restarting import Restart
from bitdew.core.states import INTENDED, MACHINE, MachineState, PlacementState

T = TypeVar("T")

NIGHTLY = os.environ.get("BITDEW_NIGHTLY")
PROFILE = settings(
    max_examples=int(os.environ.get("BITDEW_EXAMPLES", "1000" if NIGHTLY else "30")),
    stateful_step_count=100 if NIGHTLY else 40,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
SITES = ["orsay", "lyon", "nancy"]
REQUIRES = ["sharing=root", "site=orsay", "site in (orsay, lyon)", "cpus >= 4", "sharing.root >= 6.40", "free >= 4GB"]
PICK = st.integers(0, 999)

LENT = st.builds(
    Lent,
    cpus=st.sampled_from([2, 4]),
    quota=st.sampled_from([3, 6, 12]).map(lambda gb: gb * GB),
    disk=st.sampled_from([5, 20]).map(lambda gb: gb * GB),
    memory=st.sampled_from([1, 4]).map(lambda gb: gb * GB),
    labels=st.dictionaries(st.sampled_from(["site", "rack"]), st.sampled_from(SITES), max_size=2),
    sharings=st.sampled_from([{"qemu": "8.0"}, {"qemu": "8.0", "root": "6.38"}, {"root": "6.40"}, {}]),
    down=st.sampled_from([100, 1000]).map(lambda mbit: mbit * MBIT),
)
REPLICA = st.sampled_from([-1, 0, 1, 1, 2, 2, 3])
WISH = st.one_of(
    st.tuples(st.just("ft"), st.just(True)),
    st.tuples(st.just("requires"), st.sampled_from(REQUIRES)),
    st.tuples(st.just("spread"), st.sampled_from(["site", "rack"])),
    st.tuples(st.just("distrib"), st.sampled_from([0, 1, 1, 2])),
    st.tuples(st.just("priority"), st.sampled_from([-5, 5])),
    st.tuples(st.just("lifetime"), st.sampled_from(["90s", "10m", "2h", "30d", "@data"])),
    st.tuples(st.just("affinity"), st.sampled_from(["@data", "@data", "@attr"])),
    st.tuples(st.just("pin"), st.lists(st.just("@host"), min_size=1, max_size=2)),
)
# A few at a time: whoever wishes everything at once gets nothing, and nothing happens.
WISHES = st.builds(
    lambda replica, others: dict(others) | ({} if replica is None else {"replica": replica}),
    st.none() | REPLICA,
    st.lists(WISH, max_size=2, unique_by=lambda wish: wish[0]),
)


def without_space(row: HostRow) -> HostRow:
    resources = replace(row.facts.resources, free=0, used=0)
    return replace(row, facts=replace(row.facts, resources=resources))


class GridMachine(RuleBasedStateMachine):
    """One grid and everything that may happen to it."""

    @initialize(
        seed=st.integers(0, 3),
        hosts=st.lists(LENT, min_size=2, max_size=5),
        data=st.lists(st.tuples(st.integers(1, 2), WISHES), max_size=4),
    )
    def begin(self, seed: int, hosts: list[Lent], data: list[tuple[int, dict[str, Any]]]) -> None:
        memory = Path("/dev/shm")  # noqa: S108 (the folder in it is made under a name of its own)
        self.folder = Path(tempfile.mkdtemp(prefix="bitdew-", dir=memory if memory.exists() else None))
        self.logs_of = capture_logs(processors=[format_exc_info])
        self.logs = self.logs_of.__enter__()
        self.runner = asyncio.Runner()
        self.grid = SimulatedGrid(self.folder, seed=seed)
        self.run(self.grid.__aenter__())
        self.people = People(self.grid)
        self.attributes: list[str] = []
        self.machines: list[Uid] = []
        self.backups: dict[str, list[Copy]] = {}
        self.strange: dict[Uid, SimulatedHost] = {}
        self.count = 0
        for lent in hosts:
            self.grid.join(self.name("pc"), lent)
        self.run(self.grid.settle())
        for number, (size, wishes) in enumerate(data):
            self.run(self.people.add([(self.name("d"), size * GB, self.wishes(wishes, number))]))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def host(self, pick: int, **state: bool) -> SimulatedHost | None:
        """A host in this state: mostly one that has something to lose."""
        hosts = [host for host in self.grid.hosts.values() if not host.shut_out]
        hosts = [host for host in hosts if all(getattr(host, name) == value for name, value in state.items())]
        busy = [host for host in hosts if host.copies]
        chosen = busy if busy and pick % 4 else hosts
        return chosen[pick // 4 % len(chosen)] if chosen else None

    def datum(self, pick: int) -> Uid | None:
        living = [uid for uid in self.people.data if uid in self.grid.living]
        return living[pick % len(living)] if living else None

    def wishes(self, wishes: dict[str, Any], pick: int) -> dict[str, Any]:
        """The wishes with names of what is there; a wish for what is not is left out."""
        named = dict(wishes)
        datum, _host = self.datum(pick), self.host(pick)
        names = {"@data": f"data:{self.people.data[datum].name}" if datum else None}
        names["@attr"] = f"attr:{self.attributes[pick % len(self.attributes)]}" if self.attributes else None
        for key in ("lifetime", "affinity"):
            if (value := str(named.get(key, ""))) in names:
                named[key] = names[value]
        if "pin" in named:
            known = [h.name for h in self.grid.hosts.values() if self.grid.service.hosts.get(h.host)]
            named["pin"] = (
                sorted({known[(pick + n) % len(known)] for n, _ in enumerate(named["pin"])}) if known else None
            )
        return {key: value for key, value in named.items() if value is not None}

    # Volunteers ---------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.grid.hosts) < 8)
    @rule(lent=LENT)
    def a_host_joins(self, lent: Lent) -> None:
        self.grid.join(self.name("pc"), lent)
        self.run(self.grid.settle())

    @rule(pick=PICK)
    def a_host_falls_silent(self, pick: int) -> None:
        if host := self.host(pick, online=True):
            self.grid.fall_silent(host)

    @rule(pick=PICK)
    def a_host_is_gone_for_good(self, pick: int) -> None:
        if pick % 3 == 0 and (host := self.host(pick // 3, departed=False)):
            self.grid.fall_silent(host, for_good=True)

    @rule(pick=PICK, how=st.sampled_from(["as it was", "rebooted", "wiped", "restored"]))
    def a_host_returns(self, pick: int, how: str) -> None:
        if (host := self.host(pick, online=False, departed=False)) is None:
            return
        if how == "restored" and host.name in self.backups:
            host.restore(self.backups[host.name])
            self.grid.unlucky(host)
        self.grid.return_(host, rebooted=how == "rebooted", wiped=how == "wiped")
        self.run(self.grid.settle())

    @rule(pick=PICK)
    def a_disk_is_backed_up(self, pick: int) -> None:
        if host := self.host(pick):
            self.backups[host.name] = host.backup()

    @rule(pick=PICK, stalled=st.booleans())
    def a_host_stalls_or_goes_on(self, pick: int, stalled: bool) -> None:
        if host := self.host(pick):
            self.grid.set_stalled(host, stalled=stalled)

    @rule(pick=PICK, key=st.sampled_from(["storage.failed", "swarm.failed", "storage.full"]))
    def a_copy_fails(self, pick: int, key: str) -> None:
        if host := self.host(pick | 1, online=True):
            copies = [c for c in host.copies.values() if c.state in {*INTENDED, PlacementState.HELD}]
            if copies:
                host.fail(copies[pick % len(copies)].uid, key)
                self.grid.unlucky(host)
                self.run(self.grid.settle())

    @rule(pick=PICK, quota=st.sampled_from([0, 3, 12]), others=st.sampled_from([0, 4]))
    def a_host_lends_more_or_less(self, pick: int, quota: int, others: int) -> None:
        if host := self.host(pick):
            host.lent.quota, host.lent.others = quota * GB, others * GB
            self.say_so(host)

    @rule(pick=PICK, like=LENT)
    def a_host_is_labelled_anew(self, pick: int, like: Lent) -> None:
        if host := self.host(pick):
            host.lent.labels, host.lent.sharings = like.labels, like.sharings
            self.say_so(host)

    def say_so(self, host: SimulatedHost) -> None:
        host.change()
        self.grid.talk(host)
        self.run(self.grid.settle())

    @rule(pick=PICK)
    def a_host_is_banned(self, pick: int) -> None:
        if pick % 5 == 0 and (host := self.host(pick // 5)) and self.grid.service.hosts.get(host.host):
            self.run(self.people.ban(host.host))

    @rule(pick=PICK, drain=st.sampled_from([None, None, *Drain]))
    def a_host_is_drained_or_no_more(self, pick: int, drain: Drain | None) -> None:
        if (host := self.host(pick)) and self.grid.service.hosts.get(host.host):
            self.run(self.people.drain(host.host, drain))

    @rule(pick=PICK)
    def a_host_has_a_copy_that_nobody_knows(self, pick: int) -> None:
        if host := self.host(pick):
            uid = uid_from(self.grid.chance)
            host.copies[uid] = Copy(uid, f"{1:064x}", 0, PlacementState.HELD, 3)
            self.strange[uid] = host
            host.mark(uid)
            self.grid.noticed(host)
            self.grid.talk(host)
            self.run(self.grid.settle())

    # People -------------------------------------------------------------------------------------------------------

    @rule(wishes=WISHES, pick=PICK, size=st.integers(1, 3), awaited=st.sampled_from([False, False, True]))
    def data_are_added(self, wishes: dict[str, Any], pick: int, size: int, awaited: bool) -> None:
        choice = self.wishes(wishes, pick)
        self.run(self.people.add([(self.name("d"), size * GB, choice)], awaited=awaited))

    @precondition(lambda self: self.attributes)
    @rule(pick=PICK, sizes=st.lists(st.integers(1, 2), min_size=1, max_size=4))
    def data_are_added_with_a_defined_attribute(self, pick: int, sizes: list[int]) -> None:
        attribute = self.attributes[pick % len(self.attributes)]
        self.run(self.people.add([(self.name("d"), size * GB, attribute) for size in sizes]))

    @rule(wishes=WISHES, pick=PICK, restart=st.sampled_from([Restart.NEVER, Restart.ON_FAILURE]))
    def a_disk_is_added_and_machines_deployed(self, wishes: dict[str, Any], pick: int, restart: Restart) -> None:
        uid = self.run(self.people.add_disk(self.name("disk"), GB, self.wishes(wishes, pick)))
        self.machines += self.run(self.people.deploy(uid, 1 + pick % 3, GB // 2, restart=restart))

    @rule(pick=PICK)
    def bytes_arrive(self, pick: int) -> None:
        if uid := self.datum(pick):
            self.run(self.people.arrive(uid))

    @rule(pick=PICK, damaged=st.booleans())
    def the_repository_is_damaged_or_mended(self, pick: int, damaged: bool) -> None:
        if uid := self.datum(pick):
            self.run(self.people.damage(uid, damaged=damaged))

    @rule(wishes=WISHES, pick=PICK, again=st.booleans())
    def an_attribute_is_defined_or_changed(self, wishes: dict[str, Any], pick: int, again: bool) -> None:
        known = self.attributes[pick % len(self.attributes)] if again and self.attributes else None
        name = known or self.name("a")
        try:
            self.run(self.people.define(name, self.wishes(wishes, pick)))
        except BitDewError as fault:
            if fault.key != "attribute.circular":
                raise
            return
        if known is None:
            self.attributes.append(name)

    @rule(wishes=WISHES, pick=PICK, named=st.booleans())
    def a_datum_gets_another_attribute(self, wishes: dict[str, Any], pick: int, named: bool) -> None:
        if (uid := self.datum(pick)) is None:
            return
        choice = self.attributes[pick % len(self.attributes)] if named and self.attributes else None
        try:
            self.run(self.people.choose(uid, choice or self.wishes(wishes, pick // 2)))
        except BitDewError as fault:
            if fault.key != "attribute.circular":
                raise

    @rule(pick=PICK)
    def a_datum_is_removed(self, pick: int) -> None:
        if uid := self.datum(pick):
            self.run(self.people.remove(uid))

    @precondition(lambda self: self.machines)
    @rule(pick=PICK)
    def a_machine_is_to_stop(self, pick: int) -> None:
        self.run(self.people.stop(self.machines[pick % len(self.machines)]))

    @rule(pick=PICK, state=st.sampled_from([MachineState.STOPPED, MachineState.FAILED]))
    def a_machine_ends_by_itself(self, pick: int, state: MachineState) -> None:
        if host := self.host(pick, online=True):
            running = [m for m in host.machines.values() if m.state not in MACHINE.ends()]
            if running:
                host.end_machine(running[pick % len(running)].uid, state)
                self.grid.noticed(host)
                self.grid.talk(host)
                self.run(self.grid.settle())

    # The world ----------------------------------------------------------------------------------------------------

    @rule(loss=st.sampled_from([0.0, 0.5]), repeat=st.sampled_from([0.0, 0.3]), reorder=st.sampled_from([0.0, 0.3]))
    def the_network_gets_worse_or_better(self, loss: float, repeat: float, reorder: float) -> None:
        self.grid.faults = Faults(loss, repeat, reorder)

    @rule()
    def the_service_starts_again(self) -> None:
        self.run(self.grid.restart_service())

    @rule(seconds=st.sampled_from([1, 10, 25]))
    def seconds_pass(self, seconds: int) -> None:
        self.run(self.grid.advance(seconds))

    @rule(seconds=st.sampled_from([35, 75, 130]))
    def minutes_pass(self, seconds: int) -> None:
        self.run(self.grid.advance(seconds))

    @rule(seconds=st.sampled_from([130, 400]))
    def more_minutes_pass(self, seconds: int) -> None:
        self.run(self.grid.advance(seconds))

    @rule(seconds=st.sampled_from([400, 4000]))
    def hours_pass(self, seconds: int) -> None:
        self.run(self.grid.advance(seconds))

    # What must always hold ----------------------------------------------------------------------------------------

    @invariant()
    def no_rule_was_broken(self) -> None:
        if not hasattr(self, "grid"):
            return
        assert not self.grid.audit.violations, "\n".join(map(str, self.grid.audit.violations))
        told = [entry for entry in self.logs if entry["log_level"] in {"error", "critical"}]
        assert not told, "\n".join("\n".join(map(str, entry.values())) for entry in told)

    @invariant()
    def the_books_agree_with_what_is_stored(self) -> None:
        if hasattr(self, "grid"):
            self.run(self.check_books())

    async def check_books(self) -> None:
        service = self.grid.service
        kept, counted = service.engine.books, Books(service.known.store, service.engine.settings.reserve)
        await kept.refresh()
        await counted.load(service.hosts.records().values())
        # A free space that moved a little is no news.
        assert {h: without_space(row) for h, row in kept.index.items()} == {
            h: without_space(row) for h, row in counted.index.items()
        }
        assert kept.census == counted.census

    @invariant()
    def what_is_not_known_is_not_deleted(self) -> None:
        for uid, host in getattr(self, "strange", {}).items():
            if uid not in host.copies:
                assert any(host.host == other for other in self.grid._misfortunes), "a copy that nobody knows went"

    # In the end ---------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "grid"):
            return
        try:
            if not sys.exc_info()[1]:
                self.run(self.heal())
        finally:
            self.run(self.grid.__aexit__())
            self.runner.close()
            self.logs_of.__exit__(None, None, None)
            shutil.rmtree(self.folder)

    async def heal(self) -> None:
        """Who is silent returns, or is lost for good; nothing is lost on the way any more; then the grid must rest."""
        grid = self.grid
        grid.faults = Faults()
        for number, host in enumerate(grid.hosts.values()):
            grid.set_stalled(host, stalled=False)
            if not host.online and not host.departed and not host.shut_out and number % 3:
                grid.return_(host)
        for _ in range(3):  # retries wait up to ten minutes, moves for spread go in rounds
            await grid.advance(3600)
        assert not grid.audit.violations, "\n".join(map(str, grid.audit.violations))
        before = dict(grid.audit.orders)
        await grid.advance(3600)
        assert grid.audit.orders == before, "orders in a grid at rest:\n" + "\n".join(grid.audit.latest)
        found = await shortcomings(grid)
        assert not found, "\n".join(found)


TestInvariants = pytest.mark.timeout(0 if NIGHTLY else 600)(GridMachine.TestCase)
TestInvariants.settings = PROFILE
