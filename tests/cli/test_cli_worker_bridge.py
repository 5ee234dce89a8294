"""`bitdew worker bridge` where no worker runs: what is set up, shown and refused."""

from __future__ import annotations

import json
import sys

import pytest
from bitdew.worker.settings import WorkerSettings


@pytest.fixture
def host(tmp_path):
    WorkerSettings(home=tmp_path / "host", name="pc-7").save()
    return tmp_path / "host"


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "hook.key"
    path.touch(mode=0o600)
    path.write_text("0123456789abcdef")
    return path


def kept(host):
    return json.loads((host / "worker.json").read_text()).get("bridges", {})


def test_bridges_of_each_kind_are_set_up_listed_and_taken_away(bitdew, host, secret_file):
    at = ("--home", host, "--json")
    only = ("--attr", "root", "--attr", "hep-*", "--data", "d1", "--label", "site=orsay")
    made = bitdew("worker", "bridge", "xwhep", "--url", "http://127.0.0.1:4327", "--again", "1m", *only, *at)
    assert made.code == 0, made.err
    made = bitdew(
        "worker", "bridge", "webhook", "--url", "https://example.org/?token=x", "--secret-file", secret_file, *at
    )
    assert made.code == 0, made.err
    made = bitdew("worker", "bridge", "command", "--name", "mine", *at, sys.executable, "-c", "--pass", "a b")
    assert made.code == 0, made.err
    assert kept(host)["xwhep"] == {
        "kind": "xwhep",
        "url": "http://127.0.0.1:4327",
        "again": 60.0,
        "elsewhere": False,
        "only": {"data": ["d1"], "attributes": ["root", "hep-*"], "labels": {"site": "orsay"}},
    }
    assert kept(host)["webhook"]["secret_file"] == str(secret_file)
    assert kept(host)["mine"]["words"] == [sys.executable, "-c", "--pass", "a b"]
    listed = bitdew("worker", "bridge", "ls", *at)
    assert listed.document == made.document
    assert [(line["name"], line["target"]) for line in listed.document["bridges"]] == [
        ("mine", f"{sys.executable} -c --pass a b"),
        ("webhook", "https://example.org/"),
        ("xwhep", "http://127.0.0.1:4327"),
    ]
    shown = bitdew("worker", "bridge", "ls", "--home", host)
    assert "does not run" in shown.out
    assert "d1, attr root, attr hep-*, site=orsay" in shown.out
    assert "xwhep" in bitdew("worker", "status", "--home", host).out
    gone = bitdew("worker", "bridge", "rm", "xwhep", *at)
    assert [line["name"] for line in gone.document["bridges"]] == ["mine", "webhook"]
    assert sorted(kept(host)) == ["mine", "webhook"]


def test_the_same_name_again_takes_the_place_of_what_was_there(bitdew, host):
    for port in (1, 2):
        bitdew("worker", "bridge", "xwhep", "--url", f"http://127.0.0.1:{port}", "--home", host)
    assert [bridge["url"] for bridge in kept(host).values()] == ["http://127.0.0.1:2"]


def test_nobody_is_told_at_first_and_that_is_said(bitdew, host):
    assert "Nobody is told" in bitdew("worker", "bridge", "ls", "--home", host).out


@pytest.mark.parametrize(
    ("arguments", "code", "key"),
    [
        (["xwhep", "--url", "http://10.0.0.7:80"], 2, "input.invalid"),
        (["xwhep", "--url", "nowhere"], 2, "input.invalid"),
        (["xwhep", "--url", "http://127.0.0.1:1", "--again", "0s"], 2, "input.invalid"),
        (["xwhep", "--url", "http://127.0.0.1:1", "--attr", "a b"], 2, "input.invalid"),
        (["xwhep", "--url", "http://127.0.0.1:1", "--label", "orsay"], 2, "input.invalid"),
        (["xwhep", "--url", "http://127.0.0.1:1", "--name", "a b"], 2, "input.invalid"),
        (["webhook", "--url", "https://example.org", "--secret-file", "/no/such/file"], 7, "storage.failed"),
        (["command", "/no/such/program"], 2, "input.invalid"),
        (["rm", "xwhep"], 3, "bridge.not-found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_impossible_is_refused_and_changes_nothing(bitdew, host, arguments, code, key):
    kind, *rest = arguments
    refused = bitdew("worker", "bridge", kind, "--home", host, "--json", *rest)
    assert (refused.code, refused.key) == (code, key)
    assert kept(host) == {}


def test_a_door_elsewhere_has_to_be_asked_for(bitdew, host):
    made = bitdew("worker", "bridge", "xwhep", "--url", "http://10.0.0.7:80", "--elsewhere", "--home", host)
    assert made.code == 0
    assert kept(host)["xwhep"]["elsewhere"]
