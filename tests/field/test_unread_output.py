"""A worker whose output nobody reads works on, and ends when it is told to."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess

import pytest

from .conftest import BITDEW

pytestmark = [pytest.mark.field, pytest.mark.timeout(180)]
PIPE_BYTES = 4096


def test_a_worker_whose_output_is_stuck_fetches_and_ends_in_order(site, tmp_path):
    site.serve()
    site.worker(1).stop()
    reading, writing = os.pipe()
    try:
        os.write(writing, b"x" * fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES))  # it takes nothing any more
        command = [*BITDEW, "worker", "run", "--home", str(site.folder / "host1"), "--json"]
        with (tmp_path / "stderr").open("wb") as log:
            stuck = subprocess.Popen(command, stdout=writing, stderr=log, env=site.environment, cwd=tmp_path)
        try:
            file = tmp_path / "events.bin"
            file.write_bytes(os.urandom(2**20))
            site.run("data", "put", file, "--name", "events", "--replica", 1)
            site.until(lambda: [p for p in site.where("events")["placements"] if p["state"] == "held"])
            stuck.send_signal(signal.SIGTERM)
            assert stuck.wait(30) == 0, (tmp_path / "stderr").read_text()
        finally:
            if stuck.returncode is None:
                stuck.kill()
                stuck.wait(30)
    finally:
        os.close(reading)
        os.close(writing)
