"""Users compete for hosts that come and go: nobody is held up by another's thousand jobs, large ones get their turn."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bitdew.scheduler.simulate_jobs import main
from bitdew.scheduler.simulation.job_figures import jain

MINUTE, HOUR = 60, 3600
EVEN = ("--churn", "0")


def report(capsys: pytest.CaptureFixture[str], *users: str, hosts: int = 6, options: tuple[str, ...] = ()) -> Any:
    asked = [word for user in users for word in ("--user", user)]
    code = main(["--hosts", str(hosts), *asked, *options, "--json"])
    written = capsys.readouterr()
    assert (code, written.err) == (0, "")
    return json.loads(written.out)


def test_one_seed_makes_one_report_and_another_seed_another(capsys: pytest.CaptureFixture[str]) -> None:
    users = "many at_once=60 minutes=3", "few hourly=6 ends=2"
    first, again = (report(capsys, *users) for _ in range(2))
    assert first == again
    assert report(capsys, *users, options=("--seed", "6")) != first


def test_a_burst_of_one_user_does_not_hold_up_another_and_equals_share_alike(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = report(capsys, "many at_once=150 minutes=3", "few hourly=12 minutes=3 ends=1", options=EVEN)
    many, few = found["users"]["many"], found["users"]["few"]
    assert many["wait"]["median"] > 4 * MINUTE
    assert few["wait"]["max"] < MINUTE
    assert many["unfinished"] == few["unfinished"] == 0
    equal = report(capsys, "a at_once=60 minutes=3", "b at_once=90 minutes=3", options=EVEN)
    assert equal["evenness"] > 0.95
    assert equal["contested hours"] > 0.1


def test_large_jobs_get_their_turn_among_small_ones_without_end(capsys: pytest.CaptureFixture[str]) -> None:
    users = "small at_once=200 minutes=2", "stream hourly=60 minutes=2 standing=6 ends=1"
    found = report(capsys, *users, "large at_once=4 minutes=5 cpus=4 begins=0.1", hosts=5, options=EVEN)
    large = found["users"]["large"]
    assert (large["done"], large["unfinished"]) == (4, 0)
    assert large["wait"]["max"] < 40 * MINUTE
    assert found["users"]["small"]["wait"]["max"] > large["wait"]["median"]


def test_what_is_urgent_goes_before_the_same_users_other_jobs_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "mixed at_once=150 minutes=3 urgent=0.2", "other hourly=12 minutes=3 ends=1", options=EVEN)
    mixed = found["users"]["mixed"]
    assert mixed["urgent wait"]["max"] < mixed["wait"]["median"]
    assert found["users"]["other"]["wait"]["max"] < MINUTE


def test_jobs_of_hosts_that_go_run_elsewhere_within_their_attempts(capsys: pytest.CaptureFixture[str]) -> None:
    users = "a at_once=60 minutes=20", "b at_once=40 minutes=5 failing=0.4 attempts=4"
    found = report(capsys, *users, hosts=8, options=("--churn", "2", "--absence", "0.5"))
    assert found["departures"] > 0
    assert found["runs lost"] > 0
    for its in found["users"].values():
        assert its["unfinished"] == 0
        assert its["done"] + its["failed"] == its["jobs"]
        assert its["jobs"] <= its["runs"] <= 4 * its["jobs"]
    assert found["users"]["b"]["runs"] > found["users"]["b"]["jobs"]


def test_replicas_find_out_who_lies(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "careful at_once=40 minutes=3 replicas=3 attempts=5", hosts=12, options=("--lying", "0.15"))
    assert found["users"]["careful"]["done"] == 40
    assert found["users"]["careful"]["runs"] > 80


def test_a_standing_job_has_so_many_jobs_under_way_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    found = report(capsys, "stream hourly=120 minutes=4 standing=3 ends=1", options=EVEN)
    its = found["users"]["stream"]
    assert (its["done"], its["unfinished"]) == (its["jobs"], 0)
    assert found["processor hours"] / found["hours"] <= 3


@pytest.mark.parametrize(
    ("user", "told"),
    [("a nonsense=1", "nonsense=1"), ("a hourly=x", "hourly=x"), ("a cpus=-1", "cpus=-1"), ("a name=b", "name=b")],
)
def test_what_says_nothing_of_a_users_jobs_is_told(capsys: pytest.CaptureFixture[str], user: str, told: str) -> None:
    assert main(["--user", user]) == 2
    assert told in capsys.readouterr().err
    assert main(["--user", "a", "--user", "a"]) == 2


def test_the_report_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--user", "few hourly=6 ends=1", "--hosts", "2"]) == 0
    out = capsys.readouterr().out
    assert "Violations: 0" in out
    assert "few" in out


def test_evenness_is_one_for_equals_and_least_where_one_has_all() -> None:
    assert jain([3, 3, 3]) == pytest.approx(1)
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert jain([0, 0]) == 1
