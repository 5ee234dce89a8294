"""`bitdew top`, as people see it on terminals of any size and programs in a pipe."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from bitdew.cli.output import json_line
from bitdew.cli.top import document
from bitdew.cli.top_views import SPAN, Picture, Rates
from bitdew.core.states import HostState, JobState, MachineState, PlacementState
from bitdew.wire import models as m

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def look(seconds: float = 0.0, *, swarms: int = 1, held: int = 1, done: int = 0, **more: object) -> m.SummaryReply:
    """What a service says of a grid of some size."""
    uids = [f"{n:032x}" for n in range(20)]
    at = NOON + timedelta(seconds=seconds)
    said: dict[str, object] = {
        "at": at,
        "again": 2.0,
        "name": "lab",
        "leads": True,
        "hosts": {HostState.ALIVE: 5, HostState.LOST: 2, HostState.SUSPECT: 0},
        "copies": {PlacementState.HELD: held, PlacementState.FETCHING: swarms},
        "machines": {MachineState.RUNNING: 3},
        "jobs": {JobState.QUEUED: 10, JobState.DONE: 100},
        "data": 4,
        "data_bytes": 10**9,
        "swarms_filling": swarms,
        "repository_sent": 0,
        "repository_free": 2**40,
        "repository_peers": 3,
        "swarms": [
            m.SwarmSummary(
                data=uids[n], name=f"disk-{n}", size=1000, held=held, intended=2, wanted=-1 if n else 3, done=done
            )
            for n in range(swarms)
        ],
        "busy_hosts": [],
        "live_machines": [],
        "live_jobs": [],
        "owners": [m.OwnerSummary(owner="1" * 32, owner_name="ann", jobs={JobState.QUEUED: 10, JobState.RUNNING: 2})],
        "troubles": [],
    }
    return m.SummaryReply.model_validate(said | more)


def full(number: int = 20) -> m.SummaryReply:
    """A grid where there is as much of everything as a summary tells."""
    uids = [f"{n:032x}" for n in range(number)]
    old = NOON - timedelta(hours=5)
    return look(
        swarms=number,
        busy_hosts=[
            m.HostSummary(host=uid, name=f"host-{uid[-2:]}", state="alive", cpus=4, transfers=1, machines=2, jobs=3)
            for uid in uids
        ],
        live_machines=[
            m.MachineSummary(uid=uid, disk="hep", host_name="h", state="running", since=old) for uid in uids
        ],
        live_jobs=[
            m.JobSummary(uid=uid, name="fit", owner=uid, owner_name="ann", host_name="h", since=old) for uid in uids
        ],
        owners=[m.OwnerSummary(owner=uid, owner_name=f"user-{uid[-2:]}", jobs={JobState.QUEUED: 1}) for uid in uids],
        troubles=[
            m.Trouble(kind="host", subject=uid, what=f"the host {uid[-2:]} is lost \x1b[31m" + "x" * 200, since=old)
            for uid in uids
        ],
    )


def drawn(picture: Picture, width: int = 80, height: int = 24, *, terminal: bool = True) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, force_terminal=terminal, color_system=None, markup=False)
    console.print(picture)
    return [line.rstrip() for line in file.getvalue().rstrip("\n").split("\n")]


def test_a_small_terminal_shows_something_of_everything_and_a_large_one_all() -> None:
    rates = Rates()
    rates.take(full())
    small = drawn(Picture(full(), rates))
    assert len(small) <= 24
    assert max(map(len, small)) <= 80
    for heading in ("TROUBLES", "SWARMS FILLING: 20", "JOBS OF", "BUSY HOST"):
        assert any(line.startswith(heading) for line in small), heading
    for width, height in ((40, 10), (200, 60), (80, 6), (20, 3)):
        lines = drawn(Picture(full(), rates, away="away"), width, height)
        assert len(lines) <= max(height, 6)
        assert max(map(len, lines)) <= width
    piped = drawn(Picture(full(), rates), 200, 24, terminal=False)
    assert sum("user-" in line for line in piped) == 20
    assert not any("\x1b" in line for line in piped)


def test_what_is_shown_reads_as_people_say_it() -> None:
    lines = drawn(Picture(look(troubles=[m.Trouble(kind="host", subject="", what="the host h3 is lost")]), Rates()))
    assert lines[:5] == [
        "lab at 12:00:00 UTC; the repository sent 0 B to 3 hosts, 1.0 TB free",
        "hosts    5 alive, 2 lost",
        "copies   1 held, 1 fetching; of 4 data, 953.7 MB",
        "machines 3 running",
        "jobs     10 queued, 100 done",
    ]
    assert "the host h3 is lost" in lines
    (swarm,) = [line for line in lines if line.startswith("disk-0")]
    assert swarm.split() == ["disk-0", "1000", "B", "1", "of", "3", "2", "0", "%"]


def test_rates_are_the_difference_between_looks() -> None:
    rates = Rates()
    rates.take(look(0))
    assert (rates.of("0" * 32), rates.repository, rates.jobs_per_minute) == (None, None, None)
    jobs = {JobState.DONE: 130}
    rates.take(look(10, held=2, done=500, repository_sent=5000, jobs=jobs))
    assert rates.of("0" * 32) == 150.0  # a copy that is whole now, and half of another
    assert rates.left("0" * 32) == 10.0
    assert (rates.repository, rates.jobs_per_minute) == (500.0, 180.0)
    rates.take(look(10, held=2, done=500))  # the same reading again
    assert rates.of("0" * 32) == 150.0
    rates.take(look(10 + 2 * SPAN, held=2, done=500, repository_sent=5000, jobs=jobs))
    assert (rates.of("0" * 32), rates.left("0" * 32)) == (0.0, None)
    assert rates.of("f" * 32) is None
    rates.take(look(-100))  # a clock that was set back
    assert rates.of("0" * 32) is None


def test_programs_get_one_document_of_a_shape() -> None:
    rates = Rates()
    rates.take(look(0))
    rates.take(seen := look(10, done=500))
    found = json.loads(json_line(document(seen, rates)))
    assert (found["schema"], found["swarms"][0]["rate"], found["swarms"][0]["left"]) == ("GridPicture/1", 50, 30)


def test_it_is_printed_once_and_as_json_by_a_real_service(bitdew, daemon, home) -> None:
    daemon("serve", "--port", 0, home=home)
    shown = bitdew("top", "--once")
    assert (shown.code, shown.err) == (0, "")
    assert "hosts    none" in shown.out
    assert "\x1b" not in shown.out
    found = bitdew("top", "--once", "--json").document
    assert (found["leads"], found["data"], found["repository_rate"]) == (True, 0, None)
    assert bitdew("top", "--every", 0, "--json").key == "input.invalid"


@pytest.fixture
def watching(home, daemon, bitdew):
    """`bitdew top` as a process of its own, on a service that can be restarted."""
    started = []

    def start(*arguments: str, **more: object) -> subprocess.Popen[bytes]:
        environment = os.environ | {"BITDEW_HOME": str(home), "TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES"):  # they would stand for the terminal's own size, as in pytest's workers
            environment.pop(name, None)
        command = [sys.executable, "-P", "-m", "bitdew", "top", "--every", "1", *arguments]
        started.append(subprocess.Popen(command, env=environment, start_new_session=True, **more))
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
        one.wait()
        for stream in (one.stdin, one.stdout, one.stderr):
            if stream is not None:
                stream.close()


def test_it_says_when_the_service_is_away_and_goes_on_once_it_is_back(daemon, home, watching) -> None:
    service = daemon("serve", "--port", 0, home=home)
    port = service.ready["url"].rsplit(":", 1)[1]
    top = watching("--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def told() -> dict[str, object]:
        return json.loads(top.stdout.readline())

    assert told()["schema"] == "GridPicture/1"
    service.close()
    while (found := told())["schema"] == "GridPicture/1":
        pass
    assert found["schema"] == "GridAway/1"
    assert "asking again" in found["why"]
    daemon("serve", "--port", port, home=home)
    while told()["schema"] == "GridAway/1":
        pass
    top.send_signal(signal.SIGINT)
    _rest, said = top.communicate(timeout=60)
    assert top.returncode == 130
    assert b"Traceback" not in said


def test_on_a_terminal_it_draws_over_itself_follows_its_size_and_leaves_it_as_it_was(daemon, home, watching) -> None:
    import fcntl
    import pty
    import struct
    import termios

    daemon("serve", "--port", 0, home=home)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    top = watching(stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""

    def until(words: bytes) -> None:
        nonlocal seen
        ends = time.monotonic() + 60
        while words not in seen:
            assert time.monotonic() < ends, seen[-2000:]
            seen += os.read(ours, 65536)

    until(b"hosts    none")
    assert b"\x1b[?1049h" in seen  # the other screen, which goes at the end
    seen = b""
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 30, 0, 0))
    os.kill(top.pid, signal.SIGWINCH)
    until("…".encode())  # what had room before is cut
    os.kill(top.pid, signal.SIGINT)
    until(b"\x1b[?1049l")
    try:
        while os.read(ours, 65536):
            pass
    except OSError:  # the other side is closed
        pass
    assert top.wait(60) == 130
    os.close(ours)
