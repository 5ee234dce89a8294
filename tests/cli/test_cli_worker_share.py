"""`bitdew worker share`: what a volunteer types, and what comes of it."""

from __future__ import annotations

import pytest
from bitdew.worker.settings import WorkerSettings


@pytest.fixture
def host(tmp_path):
    settings = WorkerSettings(home=tmp_path / "host", name="pc-7")
    settings.save()
    return settings.home


@pytest.fixture
def tool(tmp_path):
    made = tmp_path / "tool"
    made.write_text("#!/bin/sh\necho tool 1.2.3\n")
    made.chmod(0o755)
    return made


def test_an_application_is_shared_listed_and_taken_back(bitdew, host, tool):
    done = bitdew("worker", "share", "add", "tool", "--command", f"{tool} --version", "--program", tool, "--home", host)
    assert done.code == 0, done.err
    assert "tool  1.2.3    application" in done.out
    listed = bitdew("worker", "share", "ls", "--home", host, "--json").document
    assert listed["running"] is False
    (one,) = listed["sharings"]
    assert (one["name"], one["version"], one["offered"]) == ("tool", "1.2.3", True)
    assert (one["programs"], one["command"]) == ({"tool": str(tool)}, [str(tool), "--version"])
    assert bitdew("worker", "share", "rm", "tool", "--home", host).out == "tool is shared no more.\n"
    assert bitdew("worker", "share", "ls", "--home", host, "--json").document["sharings"] == []


def test_what_is_not_there_is_kept_and_its_reason_told(bitdew, host, tool):
    tool.unlink()
    (one,) = bitdew("worker", "share", "add", "tool", "--command", f"{tool} -v", "--home", host, "--json").document[
        "sharings"
    ]
    assert (one["offered"], one["why"]) == (False, f"{tool} is not there, or can't be run")
    assert "tool" in WorkerSettings.load(host).sharings


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["tool"], "nothing tells how tool is asked"),
        (["rooot"], "did you mean root?"),
        (["qemu"], "tries qemu by itself"),
        (["tool", "--command", ""], "empty"),
        (["tool", "--command", "'open"], "quotation"),
        (["tool", "--command", "a", "--python", "b"], "in one way"),
        (["../x", "--command", "a"], "pattern"),
        (["tool", "--command", "tool", "--program", "../sh"], "neither the name"),
    ],
)
def test_what_can_not_be_shared_is_refused_and_changes_nothing(bitdew, host, words, why):
    before = (host / "worker.json").read_bytes()
    done = bitdew("worker", "share", "add", *words, "--home", host, "--json")
    assert (done.code, done.key) == (2, "input.invalid")
    assert why in str(done.document["error"])
    assert (host / "worker.json").read_bytes() == before


def test_what_is_not_shared_can_not_be_taken_back(bitdew, host):
    done = bitdew("worker", "share", "rm", "tool", "--home", host, "--json")
    assert (done.code, done.key) == (3, "sharing.not-found")


def test_the_known_names_are_listed(bitdew):
    known = {row["name"]: row for row in bitdew("worker", "share", "known", "--json").document["known"]}
    assert known["root"]["tried"] == "root-config --version"
    assert known["numpy"]["tried"] == "import numpy"
    assert "gsl" in bitdew("worker", "share", "known").out


def test_a_home_without_a_worker_is_told(bitdew, tmp_path):
    for words in (["ls"], ["add", "root"], ["rm", "root"]):
        assert bitdew("worker", "share", *words, "--home", tmp_path / "none", "--json").key == "profile.missing"
