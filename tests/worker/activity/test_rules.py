"""The decision is pure: the owner's word and every rule take, nothing gives back, and each refusal has its reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from bitdew.worker.activity.rules import FREE, Observations, Pause, Rules, decide
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HARM = {"free": 0, "capped": 1, "stopped": 2}
MAYBE = st.none() | st.booleans()
RULES = st.builds(
    Rules,
    when=st.sampled_from(["always", "idle", "logged-out"]),
    idle_minutes=st.floats(0, 60),
    busy_percent=st.integers(0, 100),
    schedule=st.lists(st.sampled_from(["mon-fri 20:00-07:00", "10:00-14:00", "sun 00:00-24:00"]), max_size=2).map(
        tuple
    ),
    battery=st.booleans(),
    metered=st.booleans(),
    swarms=st.sampled_from(["free", "capped", "stopped"]),
)
SEEN = st.builds(
    Observations,
    local=st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    idle=st.none() | st.floats(0, 10_000),
    sessions=st.none() | st.integers(0, 5),
    busy=st.none() | st.floats(0, 1),
    on_battery=MAYBE,
    metered=MAYBE,
)
PAUSES = st.none() | st.builds(Pause, st.none() | st.datetimes(datetime(2026, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001


def takes_no_less(one, other):
    return one.machines <= other.machines and HARM[one.swarms] >= HARM[other.swarms]


@given(RULES, SEEN, PAUSES)
def test_a_reason_is_given_exactly_where_something_may_not_run(rules, seen, pause):
    verdict = decide(rules, seen, pause)
    assert bool(verdict.reasons) == (not verdict.machines or verdict.swarms != "free")


@given(RULES, SEEN)
def test_the_owners_word_stops_everything_whatever_the_rules_are(rules, seen):
    verdict = decide(rules, seen, Pause())
    assert (verdict.machines, verdict.swarms) == (False, "stopped")


@given(RULES, SEEN, PAUSES)
def test_a_pause_never_gives_anything_back(rules, seen, pause):
    assert takes_no_less(decide(rules, seen, pause), decide(rules, seen))


@given(RULES, SEEN, st.floats(0, 10_000))
def test_an_owner_who_was_there_more_lately_is_disturbed_no_more(rules, seen, idle):
    later = replace(seen, idle=idle if seen.idle is None else min(idle, seen.idle))
    known = seen if seen.idle is not None else replace(seen, idle=later.idle)
    assert takes_no_less(decide(rules, later), decide(rules, known))


@given(RULES, SEEN)
def test_what_can_not_be_seen_is_the_owners_in_doubt(rules, seen):
    blind = replace(seen, idle=None, sessions=None, busy=None)
    assert takes_no_less(decide(rules, blind), decide(rules, seen))


@given(RULES, SEEN)
def test_each_rule_taken_away_gives_something_or_nothing(rules, seen):
    for freer in ({"when": "always"}, {"busy_percent": 0}, {"schedule": ()}, {"battery": True}, {"metered": True}):
        assert takes_no_less(decide(rules, seen), decide(rules.model_copy(update=freer), seen))


@given(RULES, SEEN, PAUSES)
def test_only_time_ahead_is_told(rules, seen, pause):
    until = decide(rules, seen, pause).until
    assert until is None or until > seen.local


@given(SEEN)
def test_without_rules_everything_runs(seen):
    assert decide(Rules(battery=True, metered=True), seen) == FREE


@pytest.mark.parametrize(
    ("rules", "seen", "machines", "reason"),
    [
        (Rules(when="idle"), Observations(NOW, idle=299), False, "someone uses it"),
        (Rules(when="idle"), Observations(NOW, idle=300), True, ""),
        (Rules(when="idle"), Observations(NOW), False, "nothing here tells"),
        (Rules(when="logged-out"), Observations(NOW, sessions=2), False, "2 session(s)"),
        (Rules(when="logged-out"), Observations(NOW, sessions=0), True, ""),
        (Rules(busy_percent=30), Observations(NOW, busy=0.31), False, "more than 30 %"),
        (Rules(busy_percent=30), Observations(NOW, busy=0.3), True, ""),
        (Rules(), Observations(NOW, on_battery=True), False, "battery"),
        (Rules(battery=True), Observations(NOW, on_battery=True), True, ""),
        (Rules(schedule=("13:00-14:00",)), Observations(NOW), False, "13:00-14:00"),
        (Rules(schedule=("11:00-13:00",)), Observations(NOW), True, ""),
    ],
)
def test_machines_run_as_the_rule_says(rules, seen, machines, reason):
    verdict = decide(rules, seen)
    assert verdict.machines is machines
    assert reason in "; ".join(verdict.reasons)
    assert verdict.swarms == ("free" if machines else "capped")


def test_a_metered_network_stops_swarms_and_no_machine():
    verdict = decide(Rules(), Observations(NOW, metered=True))
    assert (verdict.machines, verdict.swarms) == (True, "stopped")
    assert decide(Rules(metered=True), Observations(NOW, metered=True)) == FREE


def test_a_pause_ends_by_itself():
    pause = Pause(NOW + timedelta(hours=2))
    assert decide(Rules(), Observations(NOW), pause).until == pause.until
    assert decide(Rules(), Observations(NOW + timedelta(hours=2)), pause) == FREE


@pytest.mark.parametrize(
    "impossible",
    [
        {"when": "never"},
        {"idle_minutes": -1},
        {"busy_percent": 101},
        {"schedule": ["x"]},
        {"schedule": ["1:00-2:00"] * 33},
    ],
)
def test_impossible_rules_are_refused(impossible):
    with pytest.raises(ValidationError):
        Rules(**impossible)
