"""The throw-away PostgreSQL: there while it is wanted, and gone with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bitdew.core.errors import HostError
from bitdew.testing.postgres import PostgresServer

STARTER = """
import signal
from bitdew.testing.postgres import PostgresServer
with PostgresServer() as server:
    print(server.process, server.folder, flush=True)
    signal.pause()
"""


def is_gone(server: int, folder: Path) -> bool:
    return not psutil.pid_exists(server) and not folder.exists()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_it_is_gone_with_whoever_started_it_however_that_ends(postgres: PostgresServer, end: signal.Signals) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-P", "-c", STARTER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert starter.stdout
    server, folder = starter.stdout.readline().split()
    assert psutil.Process(int(server)).username() != "root"
    os.kill(starter.pid, end)
    starter.communicate()
    until = time.monotonic() + 10
    while not is_gone(int(server), Path(folder)) and time.monotonic() < until:
        time.sleep(0.02)
    assert is_gone(int(server), Path(folder))


def test_a_server_that_can_not_start_says_why_and_leaves_nothing(own_postgres: PostgresServer) -> None:
    own_postgres.stop()
    with (own_postgres.folder / "data/postgresql.conf").open("a") as file:
        file.write("shared_buffers = nonsense\n")
    with pytest.raises(HostError, match="shared_buffers"):
        own_postgres.start()


def test_without_its_programs_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitdew.testing.postgres.find_postgres", lambda: None)
    with pytest.raises(HostError) as caught:
        PostgresServer()
    assert "apt install postgresql" in caught.value.do
