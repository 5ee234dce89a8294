"""The commands against real daemons: a service and a worker as processes of their own."""

import signal

import pytest

from bitdew import __version__


def test_a_grid_is_run_by_commands_alone(bitdew, daemon, home, tmp_path):
    service = daemon("serve", "--port", 0, "--name", "lab", home=home)
    assert service.ready["ready"] is True
    assert bitdew("user", "show", "--json").document["role"] == "operator"

    token = bitdew("token", "create", "--role", "worker", "--note", "pc", "--json").document
    assert token["command"] == f"bitdew worker join {service.ready['url']} --token {token['token']}"
    assert [one["note"] for one in bitdew("token", "ls", "--json").document["tokens"]] == ["pc"]

    joined = ["--name", "pc-1", "--home", tmp_path / "pc-1", "--listen", "127.0.0.1", "--label", "site=orsay"]
    worker = daemon("worker", "join", service.ready["url"], "--token", token["token"], *joined, home=home)
    assert worker.ready["name"] == "pc-1"

    made = bitdew("disk", "make", tmp_path / "d.raw", "--line", "hello", "--size", "1MB", "--json")
    assert made.document["size"] == (tmp_path / "d.raw").stat().st_size == 2**20
    added = bitdew("disk", "add", tmp_path / "d.raw", "--name", "d", "--requires", "site=orsay", "--wait", "--json")
    assert (added.code, added.document["held"]) == (0, 1)
    assert [one["host_name"] for one in added.document["placements"]] == ["pc-1"]
    again = bitdew("disk", "add", tmp_path / "d.raw", "--name", "d", "--json")
    assert (again.code, again.key) == (4, "disk.name-taken")

    shown = {
        ("disk", "ls"): "d ",
        ("disk", "show", "d"): "root",
        ("disk", "where", "d"): "pc-1",
        ("disk", "explain", "d"): "1 held",
        ("host", "ls"): "site=orsay",
        ("vm", "ls"): "no machine",
        ("token", "ls"): "no token",
        ("health",): "lab is well",
        ("user", "show"): "operator",
    }
    for words, text in shown.items():
        ended = bitdew(*words)
        assert (ended.code, ended.err) == (0, "")
        assert text in ended.out
        assert bitdew(*words, "--json").document

    assert bitdew("disk", "rm", "d").code == 0
    assert bitdew("disk", "show", "d", "--json").key == "data.not-found"
    assert bitdew("health", "--json").document == {"well": True, "leads": True, "name": "lab", "version": __version__}
    files = home / "service" / "repository" / "files"
    files.rename(home / "away")
    ill = bitdew("health", "--json")
    while ill.code == 0:  # an answer serves for a second
        ill = bitdew("health", "--json")
    assert (ill.code, ill.key) == (7, "storage.failed")
    (home / "away").rename(files)
    assert (worker.close(), service.close()) == (0, 0)
    away = bitdew("health", "--json")
    assert (away.code, away.key) == (6, "service.unreachable")


def test_joining_again_keeps_the_host_and_run_goes_on_with_it(bitdew, daemon, home, tmp_path):
    service = daemon("serve", "--port", 0, home=home)
    token = bitdew("token", "create", "--role", "worker", "--json").document["token"]
    join = ["worker", "join", service.ready["url"], "--token", token, "--home", tmp_path / "pc", "--enrol-only"]
    first = bitdew(*join, "--quota", "1GB", "--json").document
    assert bitdew(*join, "--json").document == first
    worker = daemon("worker", "run", "--home", tmp_path / "pc", home=home)
    assert worker.ready["host"] == first["host"]
    worker.close()
    impossible = bitdew(*join, "--listen", "somewhere", "--json")
    assert (impossible.code, impossible.key) == (2, "input.invalid")


def test_a_user_joins_and_is_refused_what_only_operators_may(bitdew, daemon, home):
    service = daemon("serve", "--port", 0, home=home)
    token = bitdew("token", "create", "--role", "user", "--json").document["token"]
    joined = bitdew(
        "user", "join", service.ready["url"], "--token", token, "--name", "ada", "--profile", "ada", "--json"
    )
    assert (joined.document["role"], joined.document["signs"]) == ("user", False)
    assert bitdew("disk", "ls", "--profile", "ada").code == 0
    assert bitdew("token", "ls", "--profile", "ada", "--json").key == "certificate.role"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_service_ends_in_order_by_a_signal(daemon, number):
    service = daemon("serve", "--port", 0)
    service.process.send_signal(number)
    assert service.ended() == 0


def test_a_daemon_follows_its_starter_into_the_end(daemon):
    service = daemon("serve", "--port", 0)
    service.process.stdin.close()
    assert service.ended() == 0


def test_a_port_in_use_and_a_home_in_use_are_told(bitdew, daemon, tmp_path):
    service = daemon("serve", "--port", 0)
    port = service.ready["url"].rpartition(":")[2]
    taken = bitdew("serve", "--port", port, "--home", tmp_path / "other", "--json")
    assert (taken.code, taken.key) == (7, "port.in-use")
    locked = bitdew("serve", "--port", 0, "--home", service.ready["home"], "--json")
    assert (locked.code, locked.key) == (7, "storage.locked")


def test_a_second_service_leaves_the_profile_of_the_first_alone(bitdew, daemon, home, tmp_path):
    daemon("serve", "--port", 0, home=home)
    other = daemon("serve", "--port", 0, "--home", tmp_path / "other", "--name", "lab", home=home)
    assert other.ready["profile_name"] == "lab"
    assert bitdew("user", "show", "--profile", "lab", "--json").document["url"] == other.ready["url"]
    assert bitdew("user", "show", "--json").document["url"] != other.ready["url"]
