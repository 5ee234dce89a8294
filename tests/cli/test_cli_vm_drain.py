"""`bitdew vm drain` by hand: what it refuses with which key, and what it says where nothing has to end."""

from __future__ import annotations

import time


def test_what_is_to_be_drained_has_to_be_said_and_to_be_there(bitdew, daemon, home, tmp_path):
    service = daemon("serve", "--port", 0, home=home)
    for words in ((), ("71c0", "--host", "pc-1")):
        ended = bitdew("vm", "drain", *words, "--json")
        assert (ended.code, ended.key) == (2, "input.invalid")
        assert "UID and --host" in ended.document["error"]["message"]
    nobody = bitdew("vm", "drain", "71c0", "--json")
    assert (nobody.code, nobody.key) == (3, "deployment.not-found")
    away = bitdew("vm", "drain", "--host", "pc-1", "--json")
    assert (away.code, away.key) == (3, "host.not-found")

    token = bitdew("token", "create", "--role", "worker", "--json").document["token"]
    joined = ["--name", "pc-1", "--home", tmp_path / "pc-1", "--listen", "127.0.0.1"]
    worker = daemon("worker", "join", service.ready["url"], "--token", token, *joined, home=home)
    deadline = time.monotonic() + 60
    while not bitdew("host", "ls", "--json").document["hosts"]:  # it is ready before the service has heard of it
        assert time.monotonic() < deadline
    empty = bitdew("vm", "drain", "--host", "pc-1", "--wait")
    assert (empty.code, empty.err) == (0, "")
    assert "No machine had to be drained." in empty.out
    assert bitdew("vm", "drain", "--host", "pc-1", "--json").document == {"machines": []}

    paged = bitdew("host", "ls", "--limit", 1, "--json").document
    assert ([one["name"] for one in paged["hosts"]], paged["next"]) == (["pc-1"], None)
    assert bitdew("host", "ls", "--after", "pc-1", "--json").document["hosts"] == []
    assert (worker.close(), service.close()) == (0, 0)
