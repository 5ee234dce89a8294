"""The agenda: nothing that changed, waits or was offered is ever left out, and nothing is looked at for nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bitdew.scheduler.agenda import Agenda, Standing
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.ids import Uid

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def standing(attribute: str = "a", *, priority: int = 0, age: int = 0) -> Standing:
    return Standing(Uid(attribute), priority, NOW - timedelta(seconds=age))


def settle(agenda: Agenda, uid: Uid, wake_at: datetime | None, open_as: Standing | None) -> None:
    agenda.settle(uid, wake_at, open_as or standing(), is_open=open_as is not None)


def uids(*names: str) -> list[Uid]:
    return [Uid(name) for name in names]


def test_what_changed_is_taken_once() -> None:
    agenda = Agenda()
    agenda.look_at(uids("x", "y", "x"))
    assert agenda.busy
    assert agenda.take(10, NOW) == ["x", "y"]
    assert agenda.take(10, NOW) == []
    assert not agenda.busy


def test_a_datum_wakes_at_its_instant_and_not_before() -> None:
    agenda = Agenda()
    settle(agenda, Uid("x"), LATER, None)
    assert agenda.wake_at == LATER
    assert agenda.take(10, NOW) == []
    assert agenda.take(10, LATER) == ["x"]
    assert agenda.wake_at is None


def test_a_new_instant_replaces_the_old_one() -> None:
    agenda = Agenda()
    settle(agenda, Uid("x"), NOW, None)
    settle(agenda, Uid("x"), LATER, None)
    assert agenda.wake_at == LATER
    assert agenda.take(10, NOW) == []
    settle(agenda, Uid("x"), None, None)
    assert agenda.take(10, LATER) == []


def test_instants_that_were_replaced_do_not_pile_up() -> None:
    agenda = Agenda()
    for second in range(10_000):
        settle(agenda, Uid("x"), NOW + timedelta(seconds=second), None)
    assert len(agenda._instants) <= 1_100


def test_an_offer_brings_the_open_data_of_that_attribute_oldest_first_and_by_priority() -> None:
    agenda = Agenda()
    settle(agenda, Uid("young"), None, standing("a", age=1))
    settle(agenda, Uid("old"), None, standing("a", age=9))
    settle(agenda, Uid("urgent"), None, standing("b", priority=5))
    settle(agenda, Uid("other"), None, standing("c"))
    agenda.offer(uids("a", "b", "unknown"))
    assert agenda.take(10, NOW) == ["urgent", "old", "young"]
    assert not agenda.busy
    assert list(agenda.open_data()) == ["urgent", "old", "young", "other"]


def test_a_datum_that_needs_nothing_any_more_is_not_offered() -> None:
    agenda = Agenda()
    settle(agenda, Uid("x"), None, standing("a"))
    settle(agenda, Uid("x"), None, None)
    agenda.offer(uids("a"))
    assert agenda.take(10, NOW) == []
    assert len(agenda) == 0
    assert not agenda.open_attributes


def test_a_sweep_goes_on_where_it_stopped_and_leaves_room_for_what_changes() -> None:
    agenda = Agenda()
    waiting = [Uid(f"w{number:02}") for number in range(20)]
    for number, uid in enumerate(waiting):
        settle(agenda, uid, None, standing("a", age=100 - number))
    agenda.offer(uids("a"))
    swept = []
    for number in range(20):
        agenda.look_at([Uid(f"c{number}{copy}") for copy in range(10)])
        taken = agenda.take(8, NOW)
        assert len(taken) == 8
        swept += [uid for uid in taken if uid.startswith("w")]
        assert sum(uid.startswith("c") for uid in taken) >= 6
        if len(swept) >= 20:
            break
    assert swept == waiting


def test_an_offer_during_a_sweep_goes_through_the_data_once_more() -> None:
    agenda = Agenda()
    for number in range(6):
        settle(agenda, Uid(f"w{number}"), None, standing("a", age=100 - number))
    agenda.offer(uids("a"))
    first = agenda.take(4, NOW)
    agenda.offer(uids("a"))
    rest = agenda.take(100, NOW)
    again = agenda.take(100, NOW)
    assert first + rest == [f"w{number}" for number in range(6)]
    assert again == [f"w{number}" for number in range(6)]
    assert not agenda.busy


def test_an_offer_is_not_lost_on_a_datum_whose_priority_changes_meanwhile() -> None:
    agenda = Agenda()
    settle(agenda, Uid("x"), None, standing("a", priority=1))
    agenda.offer(uids("a"))
    settle(agenda, Uid("x"), None, standing("a", priority=0))
    assert agenda.take(10, NOW) == ["x"]
    assert not agenda.busy


def test_what_is_gone_is_forgotten() -> None:
    agenda = Agenda()
    agenda.look_at(uids("x"))
    settle(agenda, Uid("x"), LATER, standing())
    agenda.forget(Uid("x"))
    agenda.offer(uids("a"))
    assert agenda.take(10, LATER) == []
    assert not agenda.watches(Uid("x"))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 3), st.integers(0, 2)),
            st.tuples(st.just("look"), st.integers(0, 9), st.just(0), st.just(0)),
            st.tuples(st.just("offer"), st.just(0), st.integers(0, 3), st.just(0)),
            st.tuples(st.just("take"), st.integers(1, 5), st.just(0), st.just(0)),
        ),
        max_size=60,
    )
)
def test_nothing_that_was_offered_or_changed_is_ever_left_out(steps: list[tuple[str, int, int, int]]) -> None:
    agenda, changed, offered = Agenda(), set[str](), set[str]()
    attribute_of: dict[str, str] = {}
    for kind, number, attribute, priority in steps:
        uid = Uid(f"d{number}")
        match kind:
            case "settle" if attribute:
                if attribute_of.get(uid) != f"a{attribute}":
                    offered.discard(uid)
                settle(agenda, uid, None, standing(f"a{attribute}", priority=priority))
                attribute_of[uid] = f"a{attribute}"
            case "settle":
                settle(agenda, uid, None, None)
                attribute_of.pop(uid, None)
                offered.discard(uid)
            case "look":
                agenda.look_at([uid])
                changed.add(uid)
            case "offer":
                agenda.offer([Uid(f"a{attribute}")])
                offered |= {u for u, a in attribute_of.items() if a == f"a{attribute}"}
            case _:
                taken = set(agenda.take(number, NOW))
                changed, offered = changed - taken, offered - taken
    for _ in range(200):
        taken = set(agenda.take(3, NOW))
        changed, offered = changed - taken, offered - taken
    assert not changed
    assert not offered
    assert not agenda.busy


def test_repairs_that_were_held_back_get_their_turn_by_priority_then_age_as_many_as_may_begin() -> None:
    agenda = Agenda()
    for number in range(10):
        agenda.settle(Uid(f"d{number}"), None, standing(age=number), held_back=True)
    agenda.settle(Uid("urgent"), None, standing(priority=3), held_back=True)
    assert agenda.held_back == 11
    assert agenda.take(100, NOW) == []
    assert agenda.take(100, NOW, repairs=2) == ["urgent", "d9", "d8", "d7"]
    assert agenda.held_back == 7
    agenda.settle(Uid("d6"), None, standing())
    assert agenda.take(100, NOW, repairs=1) == ["d5", "d4"]


def test_changed_data_of_higher_priority_are_planned_first_also_those_that_wait_for_nothing() -> None:
    agenda = Agenda()
    for name, priority in (("low", -5), ("urgent", 9), ("usual", 0)):
        agenda.settle(Uid(name), LATER, standing(priority=priority))
    assert agenda.take(10, NOW) == []
    assert [agenda.take(1, LATER) for _ in range(3)] == [["urgent"], ["usual"], ["low"]]
