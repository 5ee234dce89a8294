"""A volunteer's caps with real processes: shown, changed while the worker runs, held on loopback, and kept."""

from __future__ import annotations

import random
import time

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
MB = 2**20
CAP = MB
SECONDS = 5.0
LATE = 1.0
"""Seconds by which what the service says of a host may lag, at either end."""
BURST = 2.5
"""Seconds at the full rate: see tests/swarm/test_limits.py."""


def test_the_volunteer_changes_the_caps_while_data_arrive_and_they_hold(site, tmp_path):
    site.serve("--connections", 20)
    worker = site.worker(1, "--quota", "4MB", "--connections", 50)
    home = site.folder / "host1"

    def limits(*options, **further):
        return site.run("worker", "limits", "--home", home, *options, **further)

    file = tmp_path / "events.bin"
    file.write_bytes(random.Random(7).randbytes(24 * MB))
    site.run("data", "put", file, "--name", "events", "--replica", 1, "--protocol", "bittorrent")
    shown = limits()
    assert (shown["running"], shown["quota"], shown["connections"]["cap"]) == (True, {"cap": 4 * MB, "now": 0}, 50)
    assert shown["upload"] == {"cap": 0, "now": 0}

    # A cap on what is not here yet; then the room that it waits for.
    assert [row["name"] for row in limits("--data", "events", "--download", CAP)["data"]] == ["events"]
    began = time.monotonic()
    limits("--quota", "64MB")
    site.until(lambda: [p for p in site.where("events")["placements"] if p["state"] == "fetching"])
    assert time.monotonic() - began < 15  # it did not take until the service would have looked again by itself

    def came():
        return site.placement("events", 1)["from_repository"]

    first, began = came(), time.monotonic()
    time.sleep(SECONDS)
    last, spent = came(), time.monotonic() - began
    assert last - first <= CAP * (1.15 * (spent + 2 * LATE) + BURST)
    (row,) = limits()["data"]
    assert row["download"]["cap"] == CAP
    assert 0 < row["download"]["now"] < 3 * CAP
    assert row["connections"]["now"] == 1
    assert site.placement("events", 1)["state"] == "fetching"
    limits("--data", "events", "--none")
    limits("--upload", "3MB")
    site.until(lambda: site.placement("events", 1)["state"] == "held")
    assert site.copy(1, site.where("events")["data"]["root"]).read_bytes() == file.read_bytes()

    # Less room than is held removes nothing; what was said is kept over a kill, and can be changed at rest.
    assert limits("--quota", "1MB")["quota"] == {"cap": MB, "now": 24 * MB}
    worker.kill()
    shown = limits("--download", "5MB")
    assert (shown["running"], shown["upload"]["cap"], shown["quota"]) == (False, 3 * MB, {"cap": MB, "now": None})
    site.worker(1)
    shown = limits()
    assert (shown["running"], shown["upload"]["cap"], shown["download"]["cap"]) == (True, 3 * MB, 5 * MB)
    assert {row["download"]["cap"] for row in shown["data"]} <= {0}
    site.until(lambda: site.placement("events", 1)["state"] == "held")
    assert limits("--connections", 0, code=2)["error"]["key"] == "input.invalid"
