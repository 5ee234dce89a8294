"""Data without bytes, with bytes and after their end: what is stored, what is told, and what is left of failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bitdew.core.content import ROOT_OF_NOTHING, Content, ContentHasher, piece_length_for
from bitdew.core.errors import BitDewError
from bitdew.core.ids import Uid
from bitdew.swarm.metainfo import build_metainfo
from bitdew.wire.models import DatumRequest

from .conftest import Rooms

SAMPLE, OTHER = (random.Random(seed).randbytes(200_000) for seed in (3, 4))


def content_of(data: bytes) -> Content:
    hasher = ContentHasher(len(data))
    hasher.update(data)
    return hasher.finish()


CONTENT = content_of(SAMPLE)


async def sent(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def refused(work: Awaitable[Any]) -> BitDewError:
    with pytest.raises(BitDewError) as refusal:
        await work
    return refusal.value


def asked(name: str, attribute: Any = None, content: Content = CONTENT, **changes: Any) -> DatumRequest:
    about = {"name": name, "root": content.root, "size": content.size, "attribute": attribute or {}}
    return DatumRequest(**(about | changes))


async def create(rooms: Rooms, *requests: DatumRequest) -> list[Uid]:
    return await rooms.data.create(requests, rooms.ada)


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "repository").rglob("*") if path.is_file()}


# Creating -------------------------------------------------------------------------------------------------------------


async def test_data_are_created_in_the_order_of_the_request_and_await_their_bytes(rooms: Rooms) -> None:
    await rooms.attributes.define("root", {"replica": 3, "lifetime": "7d"}, rooms.ada)
    uids = await create(rooms, asked("b", "root"), asked("a", {"replica": 2}), asked("c"))
    found = [await rooms.data.find(uid) for uid in uids]
    assert [one.data.name for one in found] == ["b", "a", "c"]
    assert [one.attribute.attribute.replicas for one in found] == [3, 2, 1]
    assert [one.attribute.name for one in found] == ["root", None, None]
    assert all(one.awaited and one.alive and not one.damaged for one in found)
    assert found[0].ends == found[0].data.created + timedelta(days=7)
    assert found[0].data.piece_length == piece_length_for(len(SAMPLE))
    assert found[0].info_hash == build_metainfo(CONTENT).info_hash


async def test_of_new_data_those_are_told_that_have_their_bytes_or_an_end(rooms: Rooms) -> None:
    await create(rooms, asked("first"))
    await rooms.data.receive("first", sent(SAMPLE), rooms.ada)
    rooms.told.clear()
    other = content_of(OTHER)
    _, *expected = await create(
        rooms,
        asked("waiting", content=other),
        asked("here"),
        asked("brief", {"lifetime": "1d"}, content=other),
        asked("bound", {"lifetime": "first"}, content=other),
    )
    assert rooms.told == [set(expected)]


async def test_of_a_request_with_one_impossible_datum_nothing_is_created(rooms: Rooms) -> None:
    for wrong in (asked("x", "nothing"), asked("x", {"replika": 1}), asked("x", size=0), asked("a")):
        assert await refused(create(rooms, asked("a"), wrong))
        assert await rooms.store.search() == []
    assert rooms.told == []


async def test_a_root_that_does_not_fit_its_size_is_refused_by_its_name(rooms: Rooms) -> None:
    for wrong in ({"size": 0}, {"root": ROOT_OF_NOTHING}):
        fault = await refused(create(rooms, asked("nothing", **wrong)))
        assert (fault.key, fault.fields["name"]) == ("input.invalid", "nothing")


async def test_an_empty_datum_is_one_like_others(rooms: Rooms, tmp_path: Path) -> None:
    (uid,) = await create(rooms, asked("nothing", content=content_of(b"")))
    datum = await rooms.data.find(uid)
    assert datum.awaited is True
    assert not (await rooms.data.receive("nothing", sent(), rooms.ada)).awaited
    (late,) = await create(rooms, asked("late", content=content_of(b"")))
    assert not (await rooms.data.find(late)).awaited
    assert files(tmp_path) == {ROOT_OF_NOTHING, f"{ROOT_OF_NOTHING}.torrent"}
    for name in ("nothing", "late"):
        await rooms.data.remove(name, rooms.ada)
    assert files(tmp_path) == set()


async def test_callers_at_the_same_moment_are_stored_together_and_fail_alone(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create(rooms, asked("taken"))
    transactions = []
    add_all = rooms.store.add_all

    async def counted(data: Any) -> None:
        transactions.append(len(data))
        await add_all(data)

    monkeypatch.setattr(rooms.store, "add_all", counted)
    requests = [*(asked(f"d{number}") for number in range(20)), asked("d0"), asked("taken"), asked("e", "nothing")]
    answers = await asyncio.gather(*(create(rooms, one) for one in requests), return_exceptions=True)
    faults = [answer.key for answer in answers if isinstance(answer, BitDewError)]
    assert sorted(faults) == ["attribute.not-found", "disk.name-taken", "disk.name-taken"]
    assert {one.data.name for one in await rooms.store.search()} == {"taken", *(f"d{number}" for number in range(20))}
    assert len(transactions) < 20
    assert len(transactions) != sum(transactions)


async def test_a_caller_that_goes_away_takes_no_one_along(rooms: Rooms) -> None:
    async with rooms.attributes.linking:  # so that the first one waits with all of them
        tasks = [asyncio.create_task(create(rooms, asked(f"d{number}"))) for number in range(3)]
        await asyncio.sleep(0.01)
        tasks[0].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert [len(answer) for answer in answers[1:] if isinstance(answer, list)] == [1, 1]


async def test_each_attribute_is_looked_up_once_for_all_data_of_a_request(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rooms.attributes.define("root", {}, rooms.ada)
    looked_up = []
    resolve = rooms.attributes.resolve

    async def counted(choice: Any, owner: str) -> Any:
        looked_up.append(choice)
        return await resolve(choice, owner)

    monkeypatch.setattr(rooms.attributes, "resolve", counted)
    many = [asked(f"n{number}", "root" if number % 2 else {"replica": 4}) for number in range(1000)]
    assert len(await create(rooms, *many)) == 1000
    assert len(looked_up) == 2


# Bytes ----------------------------------------------------------------------------------------------------------------


async def test_bytes_that_come_are_kept_and_seeded_for_all_data_of_that_content(rooms: Rooms, tmp_path: Path) -> None:
    first, second = await create(rooms, asked("one"), asked("two"))
    (other,) = await create(rooms, asked("other", content=content_of(OTHER)))
    rooms.told.clear()
    datum = await rooms.data.receive("one", sent(SAMPLE[:1000], SAMPLE[1000:]), rooms.ada)
    assert not datum.awaited
    assert rooms.told == [{first, second}]
    assert (await rooms.data.find(other)).awaited is True
    assert rooms.contents.repository.holds(CONTENT.root, CONTENT.size)
    assert files(tmp_path) == {CONTENT.root, f"{CONTENT.root}.torrent"}
    (late,) = await create(rooms, asked("late"))
    assert not (await rooms.data.find(late)).awaited


async def test_other_bytes_than_announced_are_refused_and_leave_nothing(rooms: Rooms, tmp_path: Path) -> None:
    await create(rooms, asked("one"))
    for wrong in ([OTHER], [SAMPLE, b"more"], [SAMPLE[:-1]], []):
        assert (await refused(rooms.data.receive("one", sent(*wrong), rooms.ada))).key == "disk.changed"
        assert files(tmp_path) == set()
    assert (await rooms.data.find("one")).awaited is True
    assert not (await rooms.data.receive("one", sent(SAMPLE), rooms.ada)).awaited


async def test_bytes_of_a_datum_that_has_them_or_is_another_ones_are_refused(rooms: Rooms) -> None:
    await create(rooms, asked("one"))
    assert (await refused(rooms.data.receive("one", sent(SAMPLE), rooms.grace))).key == "certificate.role"
    assert (await refused(rooms.data.receive("none", sent(SAMPLE), rooms.ada))).key == "data.not-found"
    await rooms.data.receive("one", sent(SAMPLE), rooms.operator)
    assert (await refused(rooms.data.receive("one", sent(SAMPLE), rooms.ada))).key == "input.invalid"


async def test_a_datum_that_is_removed_while_its_bytes_come_leaves_no_file(rooms: Rooms, tmp_path: Path) -> None:
    await create(rooms, asked("one"))

    async def removing() -> AsyncIterator[bytes]:
        yield SAMPLE
        await rooms.data.remove("one", rooms.ada)

    assert (await refused(rooms.data.receive("one", removing(), rooms.ada))).key == "data.not-found"
    assert files(tmp_path) == set()


async def test_damaged_bytes_are_mended_by_sending_them_again(rooms: Rooms) -> None:
    (uid,) = await create(rooms, asked("one"))
    await rooms.data.receive("one", sent(SAMPLE), rooms.ada)
    await rooms.contents.repository.withdraw(CONTENT.root)
    await rooms.store.mark_damaged(CONTENT.root, datetime.now(UTC), "rot", damaged=True)
    (late,) = await create(rooms, asked("late"))
    assert (await rooms.data.find(late)).awaited is True
    rooms.told.clear()
    assert not (await rooms.data.receive("one", sent(SAMPLE), rooms.ada)).damaged
    assert rooms.told == [{uid, late}]


async def test_data_that_were_announced_with_another_size_end_when_the_bytes_come(rooms: Rooms) -> None:
    wrong, right = await create(rooms, asked("wrong", size=5), asked("right"))
    await rooms.data.receive("right", sent(SAMPLE), rooms.ada)
    ended = (await rooms.store.get([wrong]))[wrong]
    assert not ended.alive
    assert ended.died_because == "it was announced with 5 bytes, and its content has 200000"
    assert (await rooms.data.find(right)).alive


# Changing and ending --------------------------------------------------------------------------------------------------


async def test_another_attribute_brings_another_end(rooms: Rooms) -> None:
    (uid,) = await create(rooms, asked("one", {"lifetime": "1d"}))
    made = await rooms.attributes.define("root", {"lifetime": "7d"}, rooms.ada)
    rooms.told.clear()
    assert (await refused(rooms.data.choose("one", "root", rooms.grace))).key == "certificate.role"
    assert (await rooms.data.choose("one", "root", rooms.ada)).uid == made.uid
    datum = await rooms.data.find("one")
    assert datum.ends == datum.data.created + timedelta(days=7)
    assert rooms.told == [{uid}]
    await rooms.data.choose("one", {}, rooms.ada)
    assert (await rooms.data.find("one")).ends is None


async def test_bytes_go_with_the_last_datum_that_has_them(rooms: Rooms, tmp_path: Path) -> None:
    one, two = await create(rooms, asked("one"), asked("two"))
    await rooms.data.receive("one", sent(SAMPLE), rooms.ada)
    assert (await refused(rooms.data.remove("one", rooms.grace))).key == "certificate.role"
    rooms.told.clear()
    await rooms.data.remove("one", rooms.ada)
    assert len(files(tmp_path)) == 2
    planned = await rooms.data.living(two)
    assert await rooms.data.end(planned, "its time was over")
    assert files(tmp_path) == set()
    assert not await rooms.data.end(planned, "again")
    assert rooms.told == [{one}, {two}]
    ended = await rooms.store.get([one, two])
    assert [ended[uid].died_because for uid in (one, two)] == ["ada removed it", "its time was over"]
    gone = await refused(rooms.data.living("one"))
    assert (gone.key, gone.why.endswith(" UTC: ada removed it")) == ("data.not-found", True)
    assert (await rooms.data.find("one")).data.uid == one
    (again,) = await create(rooms, asked("one"))
    assert (await rooms.data.find("one")).data.uid == again
    assert (await rooms.data.find(one)).alive is False


async def test_a_life_does_not_end_for_wishes_that_it_had_before(rooms: Rooms) -> None:
    (uid,) = await create(rooms, asked("one", {"lifetime": "1d"}))
    planned = await rooms.data.living(uid)
    await rooms.data.choose("one", {"lifetime": "7d"}, rooms.ada)
    assert not await rooms.data.end(planned, "its lifetime ended")
    assert await rooms.data.end(await rooms.data.living(uid), "its lifetime ended")


async def test_a_name_that_nothing_has_is_answered_with_the_nearest(rooms: Rooms) -> None:
    await create(rooms, asked("hep-inputs"), asked("other"))
    for name in ("hep-inputz", "ep-inputs", "Hep-inputs"):
        fault = await refused(rooms.data.find(name))
        assert (fault.key, fault.do) == ("data.not-found", "Did you mean 'hep-inputs'?")
    assert (await refused(rooms.data.find("zzz"))).do == "List what there is: bitdew data ls"


async def test_two_new_data_of_one_name_are_refused_as_such(rooms: Rooms) -> None:
    fault = await refused(create(rooms, asked("a"), asked("b"), asked("a")))
    assert (fault.key, fault.message) == ("disk.name-taken", "New data share a name: 'a'")
