"""Disks over HTTPS against a real service: what may be added by whom, and that nothing is left of what may not."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bitdew.client.enrolment import enrol
from bitdew.client.grid import BitDew
from bitdew.core.attribute import Attribute
from bitdew.core.content import Content, ContentHasher
from bitdew.core.data import ImageRecord
from bitdew.core.errors import BitDewError
from bitdew.core.ids import ContentRoot, new_uid
from bitdew.swarm.metainfo import build_metainfo
from bitdew.testing.grid import Grid
from bitdew.trust.identity import Identity, IdentityFolder
from bitdew.trust.records import sign_record
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context
from bitdew.wire import models as m
from bitdew.wire.transport import Transport

SAMPLE = random.Random(9).randbytes(300_000)
OTHER = random.Random(10).randbytes(300_000)


@pytest.fixture
async def grid() -> AsyncIterator[Grid]:
    async with Grid(0) as grid:
        yield grid


@pytest.fixture
async def line(grid: Grid) -> AsyncIterator[Transport]:
    """The operator's own connection, for what the client would not send."""
    identity = grid.client.identity
    context = await asyncio.to_thread(client_context, identity.ca, identity.identity)
    async with Transport(grid.service.url, context) as line:
        yield line


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(SAMPLE)
    return path


def files_of(grid: Grid) -> list[str]:
    folder = grid.folder / "service" / "repository"
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.suffix)


def content_of(data: bytes) -> Content:
    hasher = ContentHasher(len(data))
    hasher.update(data)
    return hasher.finish()


async def sent(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def uploaded(line: Transport, name: str = "disk", data: bytes = SAMPLE) -> str:
    begun = await line.call("POST", "/v1/uploads", m.UploadReply, body=m.UploadRequest(name=name, size=len(data)))
    done = await line.call("PUT", f"/v1/uploads/{begun.upload}", m.UploadDone, body=sent(data))
    assert (done.root, done.size) == (content_of(data).root, len(data))
    return begun.upload


def record(identity: Identity, name: str = "disk", data: bytes = SAMPLE, **changes: Any) -> m.RecordModel:
    assert identity.signing is not None
    content, now = content_of(data), datetime.now(UTC)
    plain = ImageRecord(
        uid=new_uid(),
        name=name,
        root=content.root,
        info_hash=build_metainfo(content).info_hash,
        size=content.size,
        format="raw",
        os="Debian",
        arch="x86_64",
        version="1",
        publisher=identity.subject.name,
        issued=now,
        expires=now + timedelta(days=1),
    )
    return m.RecordModel.of(sign_record(replace(plain, **changes), identity.signing))


async def add(line: Transport, upload: str, signed: m.RecordModel, **wishes: Any) -> m.DiskView:
    request = m.DiskRequest(upload=upload, record=signed, attribute=wishes)
    return await line.call("POST", "/v1/disks", m.DiskView, body=request)


async def refused(line: Transport, upload: str, signed: m.RecordModel, **wishes: Any) -> str:
    with pytest.raises(BitDewError) as refusal:
        await add(line, upload, signed, **wishes)
    return refusal.value.key


async def joined(grid: Grid, exits: AsyncExitStack, role: str, name: str) -> BitDew:
    token = (await grid.client.create_token(role, uses=1)).token or ""  # type: ignore[arg-type]
    folder = grid.folder / name
    await enrol(grid.service.url, token, name, IdentityFolder(folder), {Role(role)})
    return await exits.enter_async_context(BitDew.connect(folder))


# Adding ---------------------------------------------------------------------------------------------------------------


async def test_a_disk_that_was_added_is_shown_found_by_name_and_uid_and_seeded(grid: Grid, image: Path) -> None:
    added = await grid.client.add_disk(image, "disk", Attribute(replica=2), os="Debian", version="7")
    assert await grid.client.disk("disk") == await grid.client.disk(added.uid) == added
    assert await grid.client.disks() == [added]
    assert (added.os, added.version, added.wanted, added.held, added.damaged) == ("Debian", "7", 2, 0, False)
    assert added.publisher == "operator"
    assert added.info_hash in grid.service.swarm.offers


async def test_a_name_that_is_taken_is_refused_before_any_upload(grid: Grid, image: Path, line: Transport) -> None:
    await grid.client.add_disk(image, "disk")
    with pytest.raises(BitDewError) as refusal:
        await line.call("POST", "/v1/uploads", m.UploadReply, body=m.UploadRequest(name="disk", size=10**6))
    assert refusal.value.key == "disk.name-taken"


async def test_a_name_that_was_taken_meanwhile_is_refused_and_the_upload_stays(grid: Grid, line: Transport) -> None:
    identity = grid.client.identity
    first, second = await uploaded(line), await uploaded(line, data=OTHER)
    await add(line, first, record(identity))
    assert await refused(line, second, record(identity, data=OTHER)) == "disk.name-taken"
    await line.call("DELETE", f"/v1/uploads/{second}", m.Nothing)
    assert files_of(grid) == [content_of(SAMPLE).root]


async def test_of_two_who_add_one_name_at_once_one_wins_and_nothing_is_left_of_the_other(
    grid: Grid, line: Transport
) -> None:
    identity = grid.client.identity
    uploads = [await uploaded(line), await uploaded(line, data=OTHER)]
    answers = await asyncio.gather(
        add(line, uploads[0], record(identity)),
        add(line, uploads[1], record(identity, data=OTHER)),
        return_exceptions=True,
    )
    (won,) = [answer for answer in answers if isinstance(answer, m.DiskView)]
    (lost,) = [answer for answer in answers if isinstance(answer, BitDewError)]
    assert lost.key == "disk.name-taken"
    for upload in uploads:
        await line.call("DELETE", f"/v1/uploads/{upload}", m.Nothing)
    assert files_of(grid) == [won.root]


async def test_an_upload_makes_one_disk_however_often_it_is_asked_for_at_once(grid: Grid, line: Transport) -> None:
    upload = await uploaded(line)
    signed = record(grid.client.identity)
    answers = await asyncio.gather(*(add(line, upload, signed) for _ in range(4)), return_exceptions=True)
    assert len([a for a in answers if isinstance(a, m.DiskView)]) == 1
    assert {a.key for a in answers if isinstance(a, BitDewError)} <= {"upload.not-found", "disk.name-taken"}
    assert len(await grid.client.disks()) == 1


async def test_the_same_bytes_added_and_removed_at_once_under_two_names_stay(
    grid: Grid, line: Transport, image: Path
) -> None:
    await grid.client.add_disk(image, "old")
    upload = await uploaded(line, "new")
    await asyncio.gather(grid.client.remove_disk("old"), add(line, upload, record(grid.client.identity, "new")))
    assert files_of(grid) == [content_of(SAMPLE).root]
    assert list(grid.service.swarm.offers) == [build_metainfo(content_of(SAMPLE)).info_hash]


# Records --------------------------------------------------------------------------------------------------------------


async def test_the_record_of_other_bytes_is_refused(grid: Grid, line: Transport) -> None:
    upload = await uploaded(line)
    assert await refused(line, upload, record(grid.client.identity, data=OTHER)) == "disk.changed"
    assert await add(line, upload, record(grid.client.identity))


async def test_a_tampered_record_is_refused(grid: Grid, line: Transport) -> None:
    upload, good = await uploaded(line), record(grid.client.identity)
    worse = [
        good.model_copy(update={"payload": good.payload.replace(b"Debian", b"Devuan")}),
        good.model_copy(update={"signature": bytes(64)}),
        good.model_copy(update={"signature": good.signature[:-1]}),
        good.model_copy(update={"certificate": grid.client.identity.identity.certificate}),
        good.model_copy(update={"certificate": "nothing"}),
    ]
    assert [await refused(line, upload, bad) for bad in worse] == ["disk.signature"] * len(worse)
    assert await add(line, upload, good)


async def test_a_record_signed_for_another_name_is_refused(grid: Grid, line: Transport) -> None:
    upload = await uploaded(line, "disk")
    assert await refused(line, upload, record(grid.client.identity, "desk")) == "disk.signature"
    assert await add(line, upload, record(grid.client.identity, "disk"))


async def test_a_record_of_another_swarm_is_refused_and_the_upload_stays_usable(grid: Grid, line: Transport) -> None:
    upload = await uploaded(line)
    assert await refused(line, upload, record(grid.client.identity, info_hash="0" * 64)) == "disk.signature"
    assert await add(line, upload, record(grid.client.identity))
    assert files_of(grid) == [content_of(SAMPLE).root]


async def test_a_record_that_is_over_or_from_the_future_is_refused(grid: Grid, line: Transport) -> None:
    upload, now = await uploaded(line), datetime.now(UTC)
    over = record(grid.client.identity, issued=now - timedelta(seconds=60), expires=now - timedelta(seconds=1))
    early = record(grid.client.identity, issued=now + timedelta(days=1), expires=now + timedelta(days=2))
    assert [await refused(line, upload, bad) for bad in (over, early)] == ["disk.signature"] * 2


async def test_a_record_can_not_be_used_for_a_second_datum(grid: Grid, line: Transport) -> None:
    signed = record(grid.client.identity)
    await add(line, await uploaded(line), signed)
    await grid.client.remove_disk("disk")
    upload = await uploaded(line)
    assert await refused(line, upload, signed) == "disk.signature"
    assert await grid.client.disks() == []
    await line.call("DELETE", f"/v1/uploads/{upload}", m.Nothing)
    assert files_of(grid) == []


# Wishes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wishes", "key"),
    [
        ({"replika": 2}, "attribute.invalid"),
        ({"replica": -2}, "attribute.invalid"),
        ({"replica": "many"}, "attribute.invalid"),
        ({"requires": "site in ("}, "attribute.requires"),
    ],
)
async def test_an_attribute_that_can_not_be_read_leaves_the_upload_usable(
    grid: Grid, line: Transport, wishes: dict[str, Any], key: str
) -> None:
    upload = await uploaded(line)
    assert await refused(line, upload, record(grid.client.identity), **wishes) == key
    assert (await add(line, upload, record(grid.client.identity), replica=3)).wanted == 3


async def test_a_disk_without_its_bytes_is_refused(grid: Grid, line: Transport) -> None:
    body = m.UploadRequest(name="disk", size=len(SAMPLE))
    begun = await line.call("POST", "/v1/uploads", m.UploadReply, body=body)
    assert await refused(line, begun.upload, record(grid.client.identity)) == "input.invalid"
    assert await refused(line, "0" * 32, record(grid.client.identity)) == "upload.not-found"


async def test_a_sender_that_goes_away_in_the_middle_leaves_nothing(grid: Grid, line: Transport) -> None:
    begun = await line.call("POST", "/v1/uploads", m.UploadReply, body=m.UploadRequest(name="disk", size=len(SAMPLE)))
    under_way = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield SAMPLE[:100_000]
        under_way.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(line.call("PUT", f"/v1/uploads/{begun.upload}", m.UploadDone, body=half()))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        while files_of(grid):
            await asyncio.sleep(0.01)
    assert await refused(line, begun.upload, record(grid.client.identity)) == "upload.not-found"


# Who may --------------------------------------------------------------------------------------------------------------


async def test_only_its_owner_or_an_operator_removes_a_disk(grid: Grid, image: Path) -> None:
    async with AsyncExitStack() as exits:
        owner = await joined(grid, exits, "publisher", "ada")
        stranger = await joined(grid, exits, "publisher", "grace")
        user = await joined(grid, exits, "user", "alan")
        await owner.add_disk(image, "one")
        await owner.add_disk(image, "two")
        for other in (stranger, user):
            with pytest.raises(BitDewError) as refusal:
                await other.remove_disk("one")
            assert refusal.value.key == "certificate.role"
        assert len(files_of(grid)) == 1
        await owner.remove_disk("one")
        assert len(files_of(grid)) == 1  # the other name's bytes are the same
        await grid.client.remove_disk("two")
        assert files_of(grid) == []
        assert await owner.disks() == []


async def test_users_add_no_disks_and_workers_see_none(grid: Grid, line: Transport) -> None:
    async with AsyncExitStack() as exits:
        user = await joined(grid, exits, "user", "alan")
        begun = m.UploadRequest(name="disk", size=10)
        worker = await joined(grid, exits, "worker", "pc")
        asked = [
            user._call("POST", "/v1/uploads", m.UploadReply, body=begun),
            user.create_token("operator"),
            worker.disks(),
            worker.hosts(),
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [a.key for a in answers if isinstance(a, BitDewError)] == ["certificate.role"] * len(asked)
        assert await user.disks() == []


async def test_an_unknown_name_is_not_found(grid: Grid) -> None:
    asked = [grid.client.disk("x"), grid.client.remove_disk("x"), grid.client.where("x"), grid.client.explain("x")]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [a.key for a in answers if isinstance(a, BitDewError)] == ["data.not-found"] * len(asked)


async def test_a_removed_disks_name_is_free_again(grid: Grid, image: Path) -> None:
    old = await grid.client.add_disk(image, "disk")
    await grid.client.remove_disk("disk")
    new = await grid.client.add_disk(image, "disk")
    assert old.uid != new.uid
    with pytest.raises(BitDewError):
        await grid.client.disk(old.uid)


# Damage ---------------------------------------------------------------------------------------------------------------


async def test_a_damaged_datum_is_mended_by_adding_the_same_bytes_again(grid: Grid, image: Path) -> None:
    added = await grid.client.add_disk(image, "disk")
    await grid.stop_service()
    os.truncate(grid.folder / "service" / "repository" / "files" / added.root, 5)
    await grid.start_service()
    assert (await grid.client.disk("disk")).damaged
    assert added.info_hash not in grid.service.swarm.offers
    again = await grid.client.add_disk(image, "again")
    assert again.root == added.root
    assert [disk.damaged for disk in await grid.client.disks()] == [False, False]
    assert added.info_hash in grid.service.swarm.offers
    assert await grid.service.rooms.contents.repository.is_whole(again.root)


async def suspected(grid: Grid, root: str) -> None:
    """Let the repository look at its own copy, until it has."""
    grid.service.rooms.contents.suspect(ContentRoot(root))
    async with asyncio.timeout(10):
        while grid.service.rooms.contents._suspected:
            await asyncio.sleep(0.01)


async def test_a_suspected_copy_that_is_good_stays_and_a_bad_one_is_withdrawn(grid: Grid, image: Path) -> None:
    added = await grid.client.add_disk(image, "disk")
    await suspected(grid, added.root)
    assert not (await grid.client.disk("disk")).damaged
    await suspected(grid, "0" * 64)  # a content that nobody added
    path = grid.folder / "service" / "repository" / "files" / added.root
    with path.open("r+b") as file:
        file.write(b"rotten")
    await suspected(grid, added.root)
    assert (await grid.client.disk("disk")).damaged
    assert added.info_hash not in grid.service.swarm.offers
    assert path.exists()
