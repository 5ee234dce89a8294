"""`bitdew worker settings`: what each setting is, and where that comes from."""

from __future__ import annotations

import json

import pytest
from bitdew.worker.settings import WorkerSettings


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("BITDEW_WORKER_UPLOAD", "2MB")
    settings = WorkerSettings(home=tmp_path / "host", name="pc-7", quota=2**30)
    settings.save()
    (settings.home / "worker.toml").write_text("[activity]\nwhen = 'idle'\n")
    return settings.home


def test_each_value_is_shown_with_its_place(bitdew, host):
    document = bitdew("worker", "settings", "--home", host, "--json").document
    found = {one["key"]: (one["value"], one["source"], one["where"]) for one in document["settings"]}
    assert found["quota"] == (2**30, "command", str(host / "worker.json"))
    assert found["upload"] == (2**21, "environment", "BITDEW_WORKER_UPLOAD")
    assert found["activity.when"] == ("idle", "file", str(host / "worker.toml"))
    assert found["connections"] == (500, "default", "")
    shown = bitdew("worker", "settings", "--home", host, "--changed").out
    assert "1.0 GB" in shown
    assert "connections" not in shown


def test_what_a_command_said_is_taken_back(bitdew, host):
    done = bitdew("worker", "settings", "--home", host, "--forget", "quota", "--json")
    assert {one["key"]: one["source"] for one in done.document["settings"]}["quota"] == "default"
    assert json.loads((host / "worker.json").read_text()) == {"name": "pc-7"}
    done = bitdew("worker", "settings", "--home", host, "--forget", "quota", "--json")
    assert (done.code, done.key) == (2, "input.invalid")


def test_what_is_no_setting_stops_every_command_with_the_nearest(bitdew, host):
    (host / "worker.toml").write_text("quotta = 5")
    for words in (["settings"], ["limits"], ["share", "ls"], ["run"]):
        done = bitdew("worker", *words, "--home", host, "--json")
        assert (done.code, done.key) == (2, "input.invalid"), words
        assert done.document["error"]["do"] == "Did you mean quota?"
