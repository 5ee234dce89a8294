"""The owner's word with real processes and a real machine: it stands still within a second, and goes on."""

from __future__ import annotations

import shutil
import time

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
MIB = 2**20
TICKS = bytes.fromhex("fb baf803 b02e ee b486 b90100 31d2 cd15 ebee").ljust(510, b"\0") + b"\x55\xaa"
"""A boot sector that writes a dot to the first serial port every 66 ms, for ever."""


def test_a_machine_stands_still_while_its_owner_says_so_or_returns(site, tmp_path):
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("*** QEMU IS NOT TESTED: qemu-system-x86_64 not found")
    site.serve()
    site.worker(1)
    home = site.folder / "host1"
    image = tmp_path / "ticks.img"
    image.write_bytes(TICKS + bytes(MIB - len(TICKS)))
    site.run("disk", "add", image, "--name", "ticks", "--os", "none", "--replica", 1)
    made = site.run("vm", "deploy", "ticks", "--memory", "32MB")
    uid = made["machines"][0]["uid"]

    def state():
        (found,) = [one for one in site.run("vm", "ls")["machines"] if one["uid"] == uid]
        return found["state"]

    console = home / "machines" / uid / "console.log"

    def stands_still():
        size = console.stat().st_size
        time.sleep(1)
        return console.stat().st_size == size

    site.until(lambda: console.exists() and console.stat().st_size > 20)

    def owner(*words):
        return site.run("worker", *words, "--home", home)

    # The owner's word.
    shown = owner("pause", "--for", "2h")
    assert (shown["paused"], shown["machines_may_run"], shown["swarms"]) == (True, False, "stopped")
    time.sleep(1)
    assert stands_still()
    site.until(lambda: state() == "paused")
    (line,) = owner("status")["machines"]
    assert (line["state"], line["disk"], line["reason"]["key"]) == ("paused", "ticks", "host.in-use")
    assert owner("resume")["reasons"] == []
    site.until(lambda: not stands_still())
    site.until(lambda: state() == "running")

    # A rule: this worker has run for less than an hour, so that for all it knows someone was here within it.
    assert owner("rules", "--when", "idle", "--idle", "1h", "--witness", image)["rules"]["idle_minutes"] == 60
    site.until(lambda: state() == "paused")
    assert stands_still()
    shown = owner("status")
    assert (shown["paused"], shown["swarms"]) == (False, "capped")
    assert "someone uses it" in shown["reasons"][0]
    owner("rules", "--when", "always")
    site.until(lambda: not stands_still())

    # Caps: one machine more waits for another host, and the one that runs goes on.
    owner("limits", "--machines", 1)
    second = site.run("vm", "deploy", "ticks", "--memory", "32MB")
    told = site.run("vm", "explain", second["uid"])
    assert (told["running"], told["missing"]) == (0, 1)
    assert told["machines"], told
    assert not (home / "machines" / second["machines"][0]["uid"]).exists()
    assert state() == "running"
    site.run("vm", "stop", second["uid"])
    site.run("vm", "stop", uid)
    site.until(lambda: state() == "stopped")
