"""The simulator's command: a seed is a run, the rules hold through churn and a bad network, and bad input is told."""

from __future__ import annotations

import json

import pytest
from bitdew.scheduler.simulate import main

SMALL = ["--hosts", "30", "--data", "12", "--hours", "8", "--size", "200MB", "--seed", "5"]


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main([*SMALL, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_seed_makes_one_report_and_another_seed_another(capsys: pytest.CaptureFixture[str]) -> None:
    first, again = (report(capsys, "--churn", "0.1") for _ in range(2))
    assert first == again
    assert report(capsys, "--churn", "0.1", "--seed", "6") != first


def test_no_rule_is_broken_when_hosts_come_and_go_and_replies_are_lost_repeated_and_late(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = report(capsys, "--churn", "0.2", "--loss", "0.1", "--repeat", "0.1", "--reorder", "0.1", "--wiped", "0.5")
    assert found["violations"] == {}
    assert found["hosts"]["departures"] > 0
    assert found["time to repair"]["count"] > 0
    assert found["bytes"]["moved"] >= found["bytes"]["least"] > 0


def test_a_third_of_the_hosts_may_go_at_once_and_what_they_held_is_made_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = report(capsys, "--churn", "0", "--mass-loss", "2:0.3")
    assert found["violations"] == {}
    assert found["time to repair"]["count"] > 0
    assert found["time to repair"]["unfinished"] == 0
    assert found["short at the end"] == {}


def test_attributes_of_all_kinds_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(
        capsys,
        *("--attr", "attr base = { replica = 2, ft = true, spread = site }"),
        *("--attr", "attr near = { affinity = base-1 }"),
        *("--attr", "attr brief = { replica = 2, lifetime = 2h }"),
        *("--attr", "attr apart = { distrib = 1 }"),
    )
    assert found["violations"] == {}
    assert found["data"]["ended"] == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--hosts", "0"], "--hosts"),
        (["--churn", "nan"], "churn"),
        (["--mass-loss", "noon"], "mass-loss"),
        (["--attr", "attr x = { replicas = 3 }"], "replica"),
        (["--nonsense"], "nonsense"),
        (["--loss", "2"], "loss"),
    ],
)
def test_bad_input_is_told_with_a_key_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "Key:" in said
    assert "Traceback" not in said
