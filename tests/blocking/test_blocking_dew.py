"""The blocking twin: complete, the same to whoever calls it, and without a thread or a task left behind."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from pathlib import Path

import pytest

from bitdew import Attribute, BitDewError, EventKind, blocking
from bitdew.blocking.deployment import BlockingDeployment, BlockingMachine
from bitdew.blocking.handle import BlockingHandle
from bitdew.blocking.job import BlockingJob, BlockingJobArray
from bitdew.blocking.portal import Portal, _UnderWay
from bitdew.blocking.transfers import BlockingTransfer, BlockingTransfers
from bitdew.blocking.work import BlockingWork
from bitdew.bootdisk import write_boot_disk
from bitdew.client.datum import Datum
from bitdew.client.deployment import Deployment, Machine
from bitdew.client.dew import Dew
from bitdew.client.handle import Handle
from bitdew.client.job import Job, JobArray
from bitdew.client.transfers import Transfer, Transfers, TransferState
from bitdew.client.work import Work
from bitdew.core.states import JobState, MachineState

TWINS = [
    (Dew, blocking.BlockingDew),
    (Handle, BlockingHandle),
    (Datum, blocking.BlockingDatum),
    (Transfer, BlockingTransfer),
    (Transfers, BlockingTransfers),
    (Work, BlockingWork),
    (Job, BlockingJob),
    (JobArray, BlockingJobArray),
    (Deployment, BlockingDeployment),
    (Machine, BlockingMachine),
]
ONLY_THERE = {"grid", "begin", "moved", "task", "start", "end"}


def public(kind: type) -> dict[str, object]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


@pytest.mark.parametrize(("kind", "twin"), TWINS)
def test_the_twin_has_every_method_with_the_same_arguments(kind: type, twin: type) -> None:
    there, here = public(kind), public(twin)
    assert there.keys() - ONLY_THERE <= here.keys()
    for name, value in there.items():
        if not callable(value) or name in ONLY_THERE:
            continue
        wanted, given = inspect.signature(value).parameters, inspect.signature(here[name]).parameters  # type: ignore[arg-type]
        added = {"timeout"} - set(wanted)
        assert [name for name in given if name not in added] == list(wanted)
        assert {n: p.default for n, p in given.items() if n not in added} == {n: p.default for n, p in wanted.items()}


def loops() -> int:
    """How many loops turn: one of them is the grid's."""
    return sum(thread.name == "bitdew" for thread in threading.enumerate())


def test_a_program_without_asyncio_puts_follows_and_gets(dew, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc" * 1000)
    datum = dew.put(tmp_path / "a.bin", Attribute(replica=2))
    held = 0
    for event in datum.events():
        held += event.kind is EventKind.HELD
        if held == 2:
            break
    assert datum.held(timeout=10).data.held == 2
    assert dew.get("a.bin", tmp_path / "b.bin").read_bytes() == b"abc" * 1000
    assert dew.read("a.bin", 3, 6) == b"abc"
    assert b"".join(dew.stream("a.bin")) == b"abc" * 1000
    assert [one.name for one in dew.search("a.")] == ["a.bin"]
    dew.delete("a.bin")
    with pytest.raises(BitDewError) as fault:
        datum.change(Attribute(replica=1))
    assert fault.value.key == "data.not-found"


def test_an_open_file_is_put_as_a_stream(dew, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"one\ntwo\n")
    with (tmp_path / "lines").open("rb") as lines:
        assert dew.put(lines, name="lines").read() == b"one\ntwo\n"


def test_a_wait_that_is_bounded_ends_in_time(dew) -> None:
    datum = dew.put(b"never", Attribute(replica=1, requires="sharing=nothing-has-this"), name="never")
    with pytest.raises(TimeoutError):
        datum.held(timeout=0.2)


async def test_it_works_where_a_loop_runs_already_as_in_a_notebook(service) -> None:
    with blocking.connect(service.folder / "operator") as dew:
        while {host.name for host in dew.hosts()} != {"host1", "host2"}:  # a host is heard of after it has started
            await asyncio.sleep(0.05)


def test_no_thread_is_left_when_the_block_ends_and_calls_are_refused(service) -> None:
    before = loops()
    with blocking.connect(service.folder / "operator") as dew:
        found = dew.search()
        next(found, None)
    assert loops() == before
    with pytest.raises(RuntimeError):
        dew.hosts()
    found.close()


def test_a_profile_that_is_not_there_leaves_no_thread(tmp_path: Path) -> None:
    before = loops()
    with pytest.raises(BitDewError) as fault, blocking.connect(tmp_path / "none"):
        pass
    assert fault.value.key == "profile.missing"
    assert loops() == before


def test_an_interrupted_call_is_cancelled_and_waited_for() -> None:
    steps = []

    async def long() -> None:
        steps.append("begun")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            steps.append("ended")

    with Portal() as portal, pytest.raises(KeyboardInterrupt):
        portal.call(long())
    assert steps == ["begun", "ended"]


def test_a_call_that_is_interrupted_before_the_loop_heard_of_it_is_cancelled_all_the_same(monkeypatch) -> None:
    steps = []

    async def never() -> None:
        steps.append("begun")

    def interrupted(_self, _loop) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_UnderWay, "start", interrupted)
    work = never()
    with Portal() as portal, pytest.raises(KeyboardInterrupt):
        portal.call(work)
    assert steps == []
    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


def test_events_and_reactions_without_asyncio(dew) -> None:
    came, done = [], threading.Event()

    @dew.on("created", "held")
    def note(event) -> None:
        came.append(str(event.kind))
        if event.kind is EventKind.HELD:
            done.set()

    created = dew.events("created")
    with dew.reacting():
        dew.put(b"x", name="x")
        assert done.wait(20)
    assert came == ["created", "held"]
    assert next(created).name == "x"
    created.close()


def test_what_a_reaction_raises_is_raised_here(dew) -> None:
    called = threading.Event()

    @dew.on("created")
    def fail(_event) -> None:
        called.set()
        raise ZeroDivisionError

    def program() -> None:
        with dew.reacting():
            dew.put(b"x", name="x")
            assert called.wait(20)

    with pytest.raises(ZeroDivisionError):
        program()


def test_transfers_without_asyncio(dew, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 8192)
    slow = dew.putting(tmp_path / "big", rate=200_000)
    small = [dew.putting(b"%d" % number, name=f"small-{number}") for number in range(5)]
    assert len(dew.transfers.wait(*small, some=2)) >= 2
    assert {one.result(20).name for one in small} == {f"small-{number}" for number in range(5)}
    assert [one.name for one in dew.transfers] == ["big"]
    assert {one.state for one in slow.follow() if slow.limit(0) is None} >= {TransferState.DONE}
    assert dew.getting("big", tmp_path / "back").result(20).read_bytes() == (tmp_path / "big").read_bytes()
    late = dew.putting(bytes(range(256)) * 8192 + b"!", name="late", rate=1024)
    late.cancel()
    assert late.state is TransferState.CANCELLED


def test_jobs_without_asyncio(service, dew, tmp_path: Path) -> None:
    job = dew.submit("python3", "-c", "print('hello'); open('r', 'w').write('x')", outputs="r", memory="256MB")
    with pytest.raises(TimeoutError):
        job.done(timeout=0.1)
    service.add_machine()
    assert [str(event) for event in job.events()][-1] == "done on vm"
    assert job.done(timeout=60).state is JobState.DONE
    assert (job.log(), "".join(job.logs()), job.read("r")) == ("hello\n", "hello\n", b"x")
    assert [path.name for path in job.results(tmp_path)] == ["r"]
    array = dew.submit_each("ab", "python3", "-c", "open('r', 'w').write('{}')", outputs="r", memory="256MB")
    assert sorted(one.read("r") for one in array.as_completed()) == [b"a", b"b"]
    assert [one.index for one in array.done(timeout=60)] == [0, 1]
    assert {one.uid for one in dew.jobs("done")} == {job.uid, *(one.uid for one in array.jobs())}
    waits = dew.submit("true", needs="nothing-has-this")
    waits.cancel()
    assert dew.job(waits.uid).state is JobState.CANCELLED


def test_machines_without_asyncio(dew, tmp_path: Path) -> None:
    write_boot_disk(tmp_path / "root.raw", line="hello", size=2**20)
    disk = dew.put_disk(tmp_path / "root.raw", Attribute(replica=2))
    deployment = dew.deploy(disk, 2, memory="32MB")
    machines = deployment.running(timeout=30)
    assert {one.state for one in machines} == {MachineState.RUNNING}
    assert "booted" in next(machines[0].console())
    told = deployment.events()
    assert {next(told).state, next(told).state} == {MachineState.RUNNING}
    told.close()
    deployment.stop()
    deployment.stopped(timeout=30)
    assert [one.uid for one in dew.deployments()] == [deployment.uid]
