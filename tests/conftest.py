"""The hostile runner: every test must leave the process as it found it, and the event loop must never block.

After each test there may be no pending task, no new child process, no new open file or socket, no file in the
current folder (each test has an empty one of its own). Blocking calls made by product code inside the event loop
raise. tests/test_hostile_runner.py proves that each of these is caught.
"""

from __future__ import annotations

import asyncio
import asyncio.runners
import contextlib
import gc
import itertools
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import stamina.instrumentation
import structlog
from blockbuster import BlockBuster

# `python -m pytest` puts the current folder first, where bitdew/ lies without the rooms that are installed into it.
ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]

from bitdew.catalog.database import Database  # noqa: E402

import bitdew  # noqa: E402
from bitdew.testing.postgres import PostgresServer, find_postgres  # noqa: E402

PRODUCT = ("bitdew", "bitdew.catalog", "bitdew.scheduler", "bitdew.worker")
SERVING_ALL = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "postgres")
SETTLING = 3.0
"""Seconds that threads and processes which were told to end have to be gone."""

# Libraries that the product calls in the event loop and that touch a file or a lock for a moment, by design.
MAY_BLOCK = (
    ("<frozen importlib._bootstrap>", "_find_and_load", "an import inside a function reads a file once a process"),
    ("/ssl.py", "create_default_context", "OpenSSL's settings are read once a context"),
    ("/asyncio/base_events.py", "subprocess_exec", "the fork's report comes by a pipe that the child writes at once"),
    ("/logging/__init__.py", "emit", "a log line goes to a terminal or a pipe"),
    ("/structlog/_output.py", "msg", "a log line goes to a terminal or a pipe"),
    ("/structlog/dev.py", "__call__", "a defect's traceback is printed with its source lines"),
    ("/aiosqlite/core.py", "stop", "it only hands a request to the connection's own thread"),
    ("/sqlalchemy/dialects/sqlite/pysqlite.py", "create_connect_args", "it asks for the current folder"),
    ("/alembic/command.py", "upgrade", "migrations are read once at start, before anything is served"),
    ("/alembic/command.py", "downgrade", "only tests do it"),
    ("/scheduler/simulation/database.py", "put_nowait", "in virtual time nobody is kept waiting by a statement"),
    ("/blocking/portal.py", "__enter__", "the blocking twin blocks whoever calls it, a notebook's loop included"),
    ("/blocking/portal.py", "call", "the same"),
    ("/blocking/portal.py", "__exit__", "the same"),
    ("/asyncpg/connect_utils.py", "_parse_connect_dsn_and_args", "it looks for files of passwords and certificates"),
)

# A shell has its background jobs ignore Ctrl-C, and so would everything that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("dev", max_examples=30, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=200, deadline=None, print_blob=True, derandomize=False)
# Machines would get next to nothing beside tests that run in parallel: here they step back for nobody.
os.environ.setdefault("BITDEW_MACHINE_NICENESS", "0")
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_report_header() -> list[str]:
    profile = hypothesis.settings.get_current_profile_name()
    return [f"bitdew: {Path(bitdew.__file__).parent}; hypothesis profile: {profile}"]


# What is open ---------------------------------------------------------------------------------------------------------


def _open_files() -> dict[int, str]:
    """File descriptors that point to files and sockets, each with what it points to."""
    found: dict[int, str] = {}
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if not target.startswith(("/dev/", "/proc/", "anon_inode:", "pipe:")):
            found[int(descriptor)] = target
    return found


_OURS = os.getpid()


def _children_of(process: int) -> list[int]:
    """The kernel's own list: psutil looks through all processes of the machine, which takes milliseconds."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it ended while we looked
        for thread in os.listdir(f"/proc/{process}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{process}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    return found


def _children() -> dict[int, str]:
    """The names of child processes that a test could have started; those that serve the whole session are left out."""
    found: dict[int, str] = {}
    waiting = _children_of(_OURS)  # a test may have replaced os.getpid
    while waiting:
        process = waiting.pop()
        try:
            with open(f"/proc/{process}/cmdline", "rb") as file:
                command = file.read().replace(b"\0", b" ").decode(errors="replace")
            with open(f"/proc/{process}/stat") as file:
                name, _, state = file.read().partition("(")[2].rpartition(") ")
        except OSError:  # it ended while we looked
            continue
        # A zombie has ended, and was not waited for yet. One that has no words may be about to start.
        if state[0] not in "ZX" and not any(serving in command for serving in SERVING_ALL):
            found[process] = name
        waiting += _children_of(process)
    return found


def _settled(left: Callable[[], list[str]]) -> list[str]:
    """What `left` still tells when everything that was about to end has ended."""
    until = time.monotonic() + SETTLING
    if left():
        gc.collect()
    while (remains := left()) and time.monotonic() < until:
        time.sleep(0.02)
    return remains


@pytest.fixture(scope="session")
def _current_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders of its own numbers: pytest would look through all earlier ones for the next."""
    folder = tmp_path_factory.mktemp("cwd")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def leaves_nothing_behind(_current_folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails the test that leaves a task, a process, a file or a socket behind."""
    folder = next(_current_folders)
    folder.mkdir()
    monkeypatch.chdir(folder)
    pending = _pending_tasks_seen
    pending.clear()
    files, processes = _open_files(), _children()
    yield

    def new_files() -> list[str]:
        return [f"{fd} -> {target}" for fd, target in _open_files().items() if files.get(fd) != target]

    def new_processes() -> list[str]:
        return [f"{process}: {name}" for process, name in _children().items() if process not in processes]

    faults = {
        "pending tasks": list(pending),
        "open files": _settled(new_files),
        "processes": _settled(new_processes),
        "files in the current folder": sorted(path.name for path in folder.iterdir()),
    }
    if faults["processes"]:
        for process in _children().keys() - processes.keys():
            with contextlib.suppress(ProcessLookupError):  # it ended while we looked
                os.kill(process, signal.SIGKILL)
    told = [f"{what}: {', '.join(things)}" for what, things in faults.items() if things]
    if told:
        pytest.fail("the test left behind " + "; ".join(told), pytrace=False)


@pytest.fixture(autouse=True)
def log_goes_nowhere_of_this_test() -> Iterator[None]:
    """Commands send the log to the stderr that they find; a test's is closed when the next one logs."""
    before = logging.root.handlers[:]
    yield
    structlog.reset_defaults()
    stamina.instrumentation.set_on_retry_hooks(None)
    for handler in [handler for handler in logging.root.handlers if handler not in before]:
        if type(handler) is logging.StreamHandler:
            logging.root.removeHandler(handler)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database that was just migrated: doing that once saves most of each test's time."""
    path = tmp_path_factory.mktemp("database") / "catalog.sqlite3"

    async def make() -> None:
        database = Database.in_file(path)
        await database.migrate()
        await database.close()

    asyncio.run(make())
    return path.read_bytes()


# Databases ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's own PostgreSQL; without one its tests are skipped, or fail if BITDEW_REQUIRE_POSTGRES is set."""
    if find_postgres() is None and not os.environ.get("BITDEW_REQUIRE_POSTGRES"):
        pytest.skip("there is no PostgreSQL on this machine (Debian: apt install postgresql)")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own_postgres(postgres: PostgresServer) -> Iterator[PostgresServer]:  # it is asked for, to be skipped where none is
    """A server for this test alone, which it may stop."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a migrated database, which is copied for each test."""

    async def make() -> None:
        database = Database(await postgres.create("bitdew_template"))
        await database.migrate()
        await database.close()

    asyncio.run(make())
    return "bitdew_template"


@pytest.fixture
async def postgres_url(postgres: PostgresServer, postgres_template: str) -> AsyncIterator[str]:
    """The URL of a migrated PostgreSQL database of this test's own."""
    name = f"test_{uuid.uuid4().hex}"
    yield await postgres.create(name, postgres_template)
    await postgres.drop(name)


@pytest.fixture
async def sqlite_url(empty_database: bytes, tmp_path: Path) -> str:
    """The URL of a migrated SQLite database of this test's own."""
    path = tmp_path / "catalog.sqlite3"
    path.write_bytes(empty_database)
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated database: the test runs once on each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database: the test runs once on each kind."""
    database = Database(database_url)
    yield database
    await database.close()


# Tasks ----------------------------------------------------------------------------------------------------------------

_pending_tasks_seen: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def _pending_tasks_are_noticed() -> Iterator[None]:
    """asyncio's runner cancels the tasks that are left when it closes, in silence; here it tells of them first."""
    cancel_all = asyncio.runners._cancel_all_tasks

    def tell_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
        left = asyncio.all_tasks(loop)
        _pending_tasks_seen.extend(f"{t.get_name()} ({getattr(t.get_coro(), '__qualname__', '?')})" for t in left)
        cancel_all(loop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.runners, "_cancel_all_tasks", tell_and_cancel)
        yield


# Blocking -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _blocking_calls_raise() -> Iterator[None]:
    """A blocking call that product code makes inside the event loop raises `BlockingError`."""
    buster = BlockBuster(scanned_modules=list(PRODUCT))
    for function in buster.functions.values():
        for file, name, _why in MAY_BLOCK:
            function.can_block_in(file, name)
    buster.activate()
    yield
    buster.deactivate()
