"""`bitdew worker check`: its words, its JSON and its exit code."""

from __future__ import annotations

import pytest
from bitdew.worker.checking import check, disk


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    async def none(_settings):
        return []

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(check, "_hypervisors", none)
    monkeypatch.setattr(disk, "WRITTEN", 2**20)


def test_a_host_without_problems_ends_with_0_and_says_what_to_do_about_the_rest(bitdew, tmp_path):
    done = bitdew("worker", "check", "--home", tmp_path / "host")
    assert done.code == 0, done.out
    assert "WARNING  service" in done.out
    assert "service: Join one" in done.out
    assert "0 problem(s)" in done.out


def test_a_problem_ends_with_1_and_json_says_which(bitdew, tmp_path):
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "worker.toml").write_text("quotta = 1")
    done = bitdew("worker", "check", "--home", tmp_path / "host", "--json")
    assert (done.code, done.document["ready"]) == (1, False)
    (problem,) = [one for one in done.document["findings"] if one["state"] == "problem"]
    assert (problem["what"], problem["do"]) == ("settings", "Did you mean quota?")


def test_what_is_no_url_is_wrong_usage(bitdew, tmp_path):
    done = bitdew("worker", "check", "grid", "--home", tmp_path / "host", "--json")
    assert (done.code, done.key) == (2, "input.invalid")
