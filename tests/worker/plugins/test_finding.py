"""Installed plug-ins are found by their entry points, and what is none is said to be none."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
from bitdew.worker.plugins.contract import GROUP, Plugin
from bitdew.worker.plugins.finding import installed, load
from structlog.testing import capture_logs

from bitdew.core.errors import BitDewError
from bitdew.wire import limits

CONTRACT = "bitdew.worker.plugins.contract:Plugin"


def point(name, value=CONTRACT):
    return EntryPoint(name, value, GROUP)


def test_each_name_is_found_once_and_loaded_only_when_it_is_made():
    makers = installed([point("b"), point("a"), point("a"), point("broken", "no.such.module:Plugin")])
    assert list(makers) == ["a", "b", "broken"]
    assert type(load("a", makers["a"]).plugin) is Plugin
    with pytest.raises(ModuleNotFoundError):
        load("broken", makers["broken"])


def test_names_that_are_none_and_names_that_two_claim_are_left_out_and_said():
    with capture_logs() as told:
        makers = installed([point("no name"), point("a", "first:A"), point("a", "second:A")])
    assert list(makers) == ["a"]
    assert [line["key"] for line in told] == ["plugin.failed", "input.invalid"]


def test_a_host_has_a_bounded_number_of_them():
    assert len(installed([point(f"p{number}") for number in range(limits.PLUGINS + 1)])) == limits.PLUGINS


def test_only_entry_points_of_our_group_are_looked_at():
    assert all(name != "bitdew" for name in installed())


def test_what_it_says_of_itself_is_kept_within_reason():
    class Mine(Plugin):
        seconds = 10_000
        again_seconds = 7
        whole = 1

    loaded = load("mine", Mine)
    assert (loaded.seconds, loaded.again, loaded.whole) == (600.0, 7, True)
    Mine.seconds = 0
    assert load("mine", Mine).seconds == 10.0


class Endless(Plugin):
    seconds = float("inf")


class Negative(Plugin):
    again_seconds = -1.0


class Text(Plugin):
    seconds = "10"


@pytest.mark.parametrize("make", [dict, lambda: Plugin, Endless, Negative, Text])
def test_what_does_not_keep_the_contract_is_refused(make):
    with pytest.raises(BitDewError) as caught:
        load("mine", make)
    assert caught.value.key == "plugin.failed"
