"""A home has one process: a second one is really locked out, until the first is gone in whatever way."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitdew.core.errors import HostError
from bitdew.lock import HomeLock

HOLD = """
import sys
from pathlib import Path
from bitdew.core.errors import BitDewError
from bitdew.lock import HomeLock
try:
    HomeLock(Path(sys.argv[1]), sys.argv[2]).acquire()
except BitDewError as refused:
    print(refused.key, refused, flush=True)
else:
    print("held", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def another_process(home: Path, who: str = "worker") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that tries to take the lock; with it, what it says to that."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, home, who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def is_file(link: Path, path: Path) -> bool:
    """Whether a descriptor's link leads to the file at `path`."""
    try:
        return link.samefile(path)
    except OSError:
        return False  # the descriptor by which the folder was read is closed again


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[HomeLock]:
    lock = HomeLock(tmp_path / "home", "worker")
    yield lock
    lock.release()


def test_a_second_process_is_locked_out_and_told_by_whom(lock: HomeLock) -> None:
    lock.acquire()
    with another_process(lock.path.parent) as (_, said):
        assert said.startswith("storage.locked")
        assert f"the worker with process id {os.getpid()} runs there" in said
        assert str(lock.path.parent) in said


def test_the_lock_of_another_process_is_respected(lock: HomeLock) -> None:
    with another_process(lock.path.parent) as (holder, said):
        assert said == "held"
        with pytest.raises(HostError, match="is in use") as refused:
            lock.acquire()
        assert refused.value.key == "storage.locked"
        assert refused.value.why == f"the worker with process id {holder.pid} runs there"
        assert refused.value.fields == {"path": str(lock.path.parent)}
        lock.release()  # what was not taken is not given back
        with pytest.raises(HostError):
            lock.acquire()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_ends_with_its_process_however_that_dies(lock: HomeLock, how: signal.Signals) -> None:
    with another_process(lock.path.parent) as (holder, said):
        assert said == "held"
        holder.send_signal(how)
        assert holder.wait(10) == -how
        lock.acquire()
    assert lock.path.read_text() == f"{os.getpid()}\n"


def test_a_lock_that_was_given_back_is_free_and_its_file_stays(lock: HomeLock) -> None:
    lock.acquire()
    lock.release()
    lock.release()
    assert lock.path.exists()
    with another_process(lock.path.parent) as (_, said):
        assert said == "held"


def test_a_process_that_is_being_started_does_not_keep_a_lock_that_was_given_back(lock: HomeLock) -> None:
    lock.acquire()
    descriptor = next(int(one.name) for one in Path("/proc/self/fd").iterdir() if is_file(one, lock.path))
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    # Between its fork and its exec every process has all descriptors. This one has that moment stretched.
    with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[descriptor]) as process:
        try:
            lock.release()
            lock.acquire()
        finally:
            process.kill()


def test_the_same_process_does_not_take_it_twice_either(lock: HomeLock) -> None:
    lock.acquire()
    second = HomeLock(lock.path.parent, "worker")
    with pytest.raises(HostError) as refused:
        second.acquire()
    assert refused.value.key == "storage.locked"
    lock.release()
    second.acquire()
    second.release()


def test_a_lock_can_be_taken_again(lock: HomeLock) -> None:
    for _ in range(3):
        lock.acquire()
        lock.release()


def test_a_worker_and_a_service_may_share_a_home(lock: HomeLock) -> None:
    lock.acquire()
    with another_process(lock.path.parent, "service") as (_, said):
        assert said == "held"


def test_the_home_is_made_for_its_owner_alone(lock: HomeLock) -> None:
    lock.acquire()
    assert lock.path.parent.stat().st_mode & 0o777 == 0o700
    assert lock.path.stat().st_mode & 0o777 == 0o600


def test_whoever_holds_the_lock_is_not_told_where_its_file_says_nonsense(lock: HomeLock) -> None:
    lock.acquire()
    lock.path.write_bytes(b"\xff not a number")
    second = HomeLock(lock.path.parent, "worker")
    with pytest.raises(HostError) as refused:
        second.acquire()
    assert refused.value.why == "a worker runs there"


def test_a_home_that_can_not_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="can't be opened") as refused:
        HomeLock(tmp_path / "file", "worker").acquire()
    assert refused.value.key == "storage.failed"
    assert refused.value.why


def test_the_lock_is_held_even_where_its_holders_name_can_not_be_written(lock: HomeLock) -> None:
    # No file may grow: what a full disk is to the few bytes of a process id.
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, old[1]))
    try:
        lock.acquire()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert lock.path.read_text() == ""
    with another_process(lock.path.parent) as (_, said):
        assert said.startswith("storage.locked")
        assert "(a worker runs there)" in said
