"""Two looks at a datum's copies amount to events: each change once, and nothing where nothing changed."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from bitdew.client.events import EventKind, seen
from bitdew.core.ids import new_uid
from bitdew.core.states import PlacementState
from bitdew.wire.models import DataView, PlacementView, WhereReply

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UID = new_uid()
SHOWN = sorted(set(PlacementState) - {PlacementState.GONE})


def look(copies: dict[str, tuple[PlacementState, int]], alive: bool = True) -> WhereReply:
    datum = DataView(
        uid=UID,
        name="datum",
        root="0" * 64,
        info_hash="0" * 64,
        size=1000,
        created=NOW,
        owner="me",
        alive=alive,
        died_because="" if alive else "me removed it",
        attribute={},
        wanted=1,
        held=0,
        intended=0,
        egress=0,
    )
    placements = [
        PlacementView(
            host=host * 32,
            host_name=f"host-{host}",
            state=state,
            since=NOW,
            done=done,
            size=1000,
            from_repository=0,
            from_peers=0,
            cause="it was wished",
        )
        for host, (state, done) in copies.items()
    ]
    return WhereReply(version=1, data=datum, placements=placements)


LOOKS = st.dictionaries(
    st.sampled_from("abcd"), st.tuples(st.sampled_from(SHOWN), st.integers(0, 1000)), max_size=4
).map(look)


@given(LOOKS)
def test_two_equal_looks_tell_nothing(reply: WhereReply) -> None:
    assert list(seen(reply, reply)) == []


@given(st.lists(LOOKS, min_size=1, max_size=6))
def test_whoever_hears_all_events_knows_what_the_last_look_showed(replies: list[WhereReply]) -> None:
    known: dict[str, EventKind] = {}
    for before, now in zip([None, *replies], replies, strict=False):
        for event in seen(before, now):
            assert event.host is not None
            known[event.host] = event.kind
    shown = {one.host: EventKind(str(one.state)) for one in replies[-1].placements}
    assert {host: kind for host, kind in known.items() if kind is not EventKind.GONE} == shown


def test_events_read_as_people_say_them() -> None:
    states = {"a": (PlacementState.FETCHING, 404), "b": (PlacementState.HELD, 1000)}
    assert [str(event) for event in seen(None, look(states))] == ["fetching 40 % on host-a", "held on host-b"]
    further = look({**states, "a": (PlacementState.FETCHING, 409)})
    assert list(seen(look(states), further)) == []
    assert [str(event) for event in seen(further, look({**states, "a": (PlacementState.FETCHING, 410)}))] == [
        "fetching 41 % on host-a"
    ]


def test_the_end_of_a_life_is_told_with_its_reason_and_once() -> None:
    alive, dead = look({}), look({}, alive=False)
    assert [str(event) for event in seen(alive, dead)] == ["ended: me removed it"]
    assert list(seen(dead, dead)) == []
