"""`bitdew worker limits` where no worker runs: what people and programs are told, and what is refused."""

from __future__ import annotations

import pytest
from bitdew.worker.settings import WorkerSettings


@pytest.fixture
def host(tmp_path):
    settings = WorkerSettings(home=tmp_path / "host", name="pc-7", upload=2**20, data={"hep": {"download": 2048}})
    settings.save()
    return settings.home


def test_the_caps_are_shown_in_full(bitdew, host):
    shown = bitdew("worker", "limits", "--home", host)
    assert shown.code == 0
    assert "pc-7 does not run" in shown.out
    words = [line.split() for line in shown.out.splitlines()]
    assert ["upload", "1.0", "MB/s", "-"] in words
    assert ["download", "none", "-"] in words
    assert ["connections", "500", "-"] in words
    assert ["quota", "20.0", "GB", "-"] in words
    assert ["hep", "-", "none", "-", "2.0", "KB/s", "-", "none"] in words


def test_what_is_changed_is_shown_and_kept(bitdew, host):
    changed = bitdew(
        "worker",
        "limits",
        "--home",
        host,
        "--upload",
        0,
        "--download",
        "2MB",
        "--connections",
        4,
        "--quota",
        "1GB",
        "--json",
    )
    assert changed.document == bitdew("worker", "limits", "--home", host, "--json").document
    caps = {what: changed.document[what]["cap"] for what in ("upload", "download", "connections", "quota")}
    assert caps == {"upload": 0, "download": 2 * 2**20, "connections": 4, "quota": 2**30}
    assert WorkerSettings.load(host).download == 2 * 2**20


def test_a_datums_caps_come_and_go(bitdew, host):
    changed = bitdew(
        "worker", "limits", "--home", host, "--data", "hep", "--data", "tools", "--connections", 3, "--json"
    )
    assert {row["name"]: (row["download"]["cap"], row["connections"]["cap"]) for row in changed.document["data"]} == {
        "hep": (2048, 3),
        "tools": (0, 3),
    }
    gone = bitdew("worker", "limits", "--home", host, "--data", "hep", "--none", "--json")
    assert [row["name"] for row in gone.document["data"]] == ["tools"]


@pytest.mark.parametrize(
    "options",
    [
        ["--none"],
        ["--data", "hep"],
        ["--data", "hep", "--none", "--upload", "1MB"],
        ["--data", "hep", "--quota", "1MB"],
        ["--data", "not a name", "--upload", "1MB"],
        ["--upload", "much"],
        ["--connections", "0"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(bitdew, host, options):
    before = (host / "worker.json").read_bytes()
    refused = bitdew("worker", "limits", "--home", host, *options, "--json")
    assert (refused.code, refused.key) == (2, "input.invalid")
    assert (host / "worker.json").read_bytes() == before


def test_where_no_worker_joined_the_way_to_join_is_told(bitdew, tmp_path):
    refused = bitdew("worker", "limits", "--home", tmp_path / "nowhere")
    assert refused.code == 5
    assert "bitdew worker join" in refused.err
