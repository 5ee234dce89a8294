"""Data, records and hosts' facts are values: they are compared by what they say, and can't be changed."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from bitdew.core.data import Data, ImageRecord, SignedRecord
from bitdew.core.host import Endpoint, HostFacts, Resources, Sharing
from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.core.orders import OrderKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def values() -> list[object]:
    """One of each, made anew."""
    uid, root = Uid("a" * 32), ContentRoot("b" * 64)
    return [
        Data(uid, "debian", root, 1, 65536, NOW, "c" * 32),
        ImageRecord(
            uid, "debian", root, "d" * 64, 1, "raw", "Debian", "x86_64", "1", "ada", NOW, NOW + timedelta(days=1)
        ),
        SignedRecord(b"{}", b"s", "pem"),
        Endpoint("127.0.0.1", 1),
        Sharing("qemu", "7.2"),
        Resources(),
        HostFacts(HostId("e" * 32), "pc-1"),
    ]


@pytest.mark.parametrize("at", range(len(values())))
def test_a_value_equals_another_that_says_the_same_and_none_that_does_not(at: int) -> None:
    one, other = values()[at], values()[at]
    assert one == other
    assert hash(one) == hash(other)
    first = dataclasses.fields(one)[0].name  # type: ignore[arg-type]
    assert dataclasses.replace(one, **{first: "something else"}) != other  # type: ignore[type-var]


@pytest.mark.parametrize("at", range(len(values())))
def test_a_value_can_not_be_changed(at: int) -> None:
    value = values()[at]
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)


def test_hosts_differ_by_their_labels() -> None:
    host = HostFacts(HostId("e" * 32), "pc-1", labels={"site": "lyon"})
    assert host != dataclasses.replace(host, labels={"site": "orsay"})


def test_orders_are_those_of_the_words() -> None:
    assert [str(kind) for kind in OrderKind] == ["place", "drop", "launch", "halt", "run", "cancel", "errand"]
