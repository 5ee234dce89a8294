"""A throw-away PostgreSQL: a server of one's own, with no port, no password and no promise to survive a power cut.

Owns one server process and its folder. It is reached by a socket in that folder, which its starter alone may enter.
Whoever started it may be killed at any moment: the server then stops by itself, and its folder goes.

All methods block but `create` and `drop`; call the others in a thread where an event loop runs.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final, Self

import psutil

from bitdew.core.errors import error

PATIENCE: Final = 30.0
"""Seconds that the server has to start: ten times what it takes on two busy cores."""

# It ends with its starter however that ends: the kernel then closes the pipe. A word in the pipe keeps the folder.
_SUPERVISOR: Final = """
exec 2>/dev/null; "$1" -D "$2/data" >"$2/log" 2>&1 </dev/null & server=$!
kept=; read -r kept
kill -"${kept:-QUIT}" $server 2>/dev/null; kill -CONT $server 2>/dev/null; wait $server
[ -n "$kept" ] || rm -rf "$2"
"""

_SETTINGS: Final = """
listen_addresses = ''
unix_socket_directories = '{folder}'
max_connections = 200
shared_buffers = 64MB
max_wal_size = 256MB
autovacuum_naptime = 10s
"""
# Sound for a killed server; the crash of the whole machine, which it gives up, loses what was to be thrown away.
_FAST: Final = "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n"


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs: where `postgres` in PATH really is, or Debian's newest; None without any."""
    found = [Path(path).resolve().parent] if (path := shutil.which("postgres")) else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: folder.parent.name, reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists()), None)


class PostgresServer:
    """One server. A context manager: it is there inside, and nothing of it is afterwards.

    Attributes:
        folder: Its data and its socket.
    """

    def __init__(self, programs: Path | None = None, *, durable: bool = False) -> None:
        """Nothing is started yet. `durable` commits as a real server does, for measurements.

        Raises:
            HostError: `storage.failed`, if there is no PostgreSQL on this machine.
        """
        found = programs or find_postgres()
        if found is None:
            do = "Install it (Debian: apt install postgresql)."
            raise error("storage.failed", "A database server can't be started", why="there is no PostgreSQL", do=do)
        self._programs = found
        self._durable = durable
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self.folder = Path()

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="bitdew-postgres-"))
        try:
            if self._user:
                account = pwd.getpwnam(self._user)
                os.chown(self.folder, account.pw_uid, account.pw_gid)
            self._make()
            self.start()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def start(self) -> None:
        """Start the server, after `stop` too, and wait until it answers.

        Raises:
            HostError: `storage.failed`, with the end of its log.
        """
        (self.folder / "log").unlink(missing_ok=True)
        command = ["sh", "-c", _SUPERVISOR, "bitdew-postgres", str(self._programs / "postgres"), str(self.folder)]
        self._supervisor = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for whoever uses it
            cwd=self.folder,
            **self._as_user(),
        )
        until = time.monotonic() + PATIENCE
        while not self._is_ready():
            if time.monotonic() > until or self._has_ended(self._supervisor.pid):
                raise error("storage.failed", "The database server did not start", why=self._log())
            time.sleep(0.01)  # it tells no one but this file

    def stop(self, *, abruptly: bool = False) -> None:
        """Stop the server and keep its data: as an operator does, ending all sessions, or like a kill of all of it."""
        if self._supervisor is not None:
            self._end(b"QUIT\n" if abruptly else b"INT\n")

    @property
    def process(self) -> int:
        """The process id of the server itself, to stop or kill it with."""
        return int((self.folder / "data/postmaster.pid").read_text().splitlines()[0])

    def url(self, database: str) -> str:
        """SQLAlchemy's URL of one of its databases."""
        return f"postgresql+asyncpg://postgres@/{database}?host={self.folder}"

    async def create(self, database: str, template: str = "template1") -> str:
        """Make a database as a copy of `template`, to which no one may be connected; returns its URL."""
        await self._command(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
        return self.url(database)

    async def drop(self, database: str) -> None:
        """Remove a database; who is still connected is thrown out."""
        await self._command(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')

    async def _command(self, statement: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(
            host=str(self.folder), user="postgres", database="postgres", timeout=PATIENCE
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _make(self) -> None:
        command = [str(self._programs / "initdb"), "--pgdata", str(self.folder / "data"), "--username", "postgres"]
        command += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        made = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.folder,
            check=False,
            text=True,
            errors="replace",
            **self._as_user(),
        )
        if made.returncode:
            raise error("storage.failed", "A database could not be made", why=made.stderr.strip())
        with (self.folder / "data/postgresql.conf").open("a") as file:
            file.write(_SETTINGS.format(folder=self.folder) + ("" if self._durable else _FAST))

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError, IndexError):
            return (self.folder / "data/postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        return False

    @staticmethod
    def _has_ended(supervisor: int) -> bool:
        """Whether the server ended by itself: its supervisor still waits for a word, and has not looked after it."""
        with contextlib.suppress(psutil.Error):
            states = [child.status() for child in psutil.Process(supervisor).children()]
            return bool(states) and all(state == psutil.STATUS_ZOMBIE for state in states)
        return True

    def _log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace")[-2000:].strip()
        return ""

    def _end(self, word: bytes) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None and supervisor.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.write(word)
                supervisor.stdin.flush()
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.close()
            supervisor.wait()

    def _remove(self) -> None:
        self._end(b"")
        shutil.rmtree(self.folder, ignore_errors=True)
