"""Uploads part by part: what came stays, whatever breaks off in between, and the bytes are what is computed here."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bitdew.catalog import receiving
from bitdew.catalog.upload_file import About, UploadFile
from bitdew.catalog.uploads import FORGET, Upload, Uploads
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.content import BLOCK, SMALLEST_PIECE, Content, ContentHasher
from bitdew.core.errors import BitDewError
from bitdew.testing.clock import SkippingClock
from bitdew.wire import limits

MB = 2**20
PIECE = SMALLEST_PIECE
SAMPLE = random.Random(5).randbytes(20 * PIECE + 777)
MARK = "ab" * 32
HOW = ["whole", "broken off first", "restarted before"]


def content_of(data: bytes) -> Content:
    hasher = ContentHasher(len(data))
    hasher.update(data)
    return hasher.finish()


async def chunks(data: bytes, size: int = 100_001) -> AsyncIterator[bytes]:
    for offset in range(0, len(data), size):
        yield data[offset : offset + size]


async def broken(data: bytes, fault: Exception) -> AsyncIterator[bytes]:
    async for chunk in chunks(data):
        yield chunk
    raise fault


async def refused(work: Awaitable[Any]) -> str:
    with pytest.raises(BitDewError) as refusal:
        await work
    return refusal.value.key


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def begun(uploads: Uploads, size: int = len(SAMPLE), fingerprint: str = MARK, **changes: Any) -> Upload:
    return await uploads.begin(About(**({"owner": "ada", "name": "one"} | changes), size=size, fingerprint=fingerprint))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


@pytest.fixture
async def uploads(folder: Path, clock: SkippingClock) -> Uploads:
    uploads = Uploads(folder, clock)
    await uploads.open()
    return uploads


async def restarted(folder: Path, clock: SkippingClock) -> Uploads:
    """What a service that was killed finds when it starts again."""
    again = Uploads(folder, clock)
    await again.open()
    return again


# Parts ----------------------------------------------------------------------------------------------------------------


async def test_parts_come_in_any_order_and_at_once(uploads: Uploads) -> None:
    upload = await begun(uploads)
    edges = [0, 3 * PIECE, 4 * PIECE, 11 * PIECE, len(SAMPLE)]
    parts = list(itertools.pairwise(edges))
    random.Random(1).shuffle(parts)
    told = await asyncio.gather(
        *(uploads.receive(upload.uid, start, chunks(SAMPLE[start:end], 7_000 + start)) for start, end in parts)
    )
    assert max(told) == len(SAMPLE)
    assert upload.there() == [(0, len(SAMPLE))]
    assert await uploads.complete(upload.uid, content_of(SAMPLE).root) == content_of(SAMPLE)
    assert upload.files.path.read_bytes() == SAMPLE


@pytest.mark.parametrize(
    ("offset", "length", "key"),
    [
        (1, PIECE, "input.invalid"),
        (BLOCK, PIECE, "input.invalid"),
        (len(SAMPLE) + PIECE, 1, "input.invalid"),
        (0, PIECE - 1, "input.invalid"),
        (0, PIECE + 1, "input.invalid"),
        (20 * PIECE, 778, "disk.changed"),
    ],
)
async def test_a_part_that_is_not_whole_pieces_within_the_size_is_refused(
    uploads: Uploads, offset: int, length: int, key: str
) -> None:
    upload = await begun(uploads)
    assert await refused(uploads.receive(upload.uid, offset, chunks((SAMPLE * 2)[:length]))) == key
    await uploads.receive(upload.uid, 0, chunks(SAMPLE))
    assert (await uploads.complete(upload.uid)).root == content_of(SAMPLE).root


async def test_a_part_is_no_larger_than_allowed(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PART", 2 * PIECE)
    upload = await begun(uploads)
    assert await refused(uploads.receive(upload.uid, 0, chunks(SAMPLE[: 3 * PIECE], PIECE))) == "input.invalid"
    assert upload.there() == [(0, 2 * PIECE)]


async def test_more_parts_at_once_than_allowed_are_refused(uploads: Uploads) -> None:
    upload = await begun(uploads)
    hold = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        await hold.wait()
        yield SAMPLE[:PIECE]

    tasks = [asyncio.create_task(uploads.receive(upload.uid, 0, held())) for _ in range(limits.PARTS)]
    await asyncio.sleep(0)
    assert await refused(uploads.receive(upload.uid, 0, chunks(SAMPLE))) == "input.invalid"
    hold.set()
    await asyncio.gather(*tasks)
    assert upload.there() == [(0, PIECE)]


async def test_the_pieces_of_a_part_that_breaks_off_stay(uploads: Uploads) -> None:
    upload = await begun(uploads)
    with pytest.raises(ConnectionResetError):
        await uploads.receive(upload.uid, 2 * PIECE, broken(SAMPLE[2 * PIECE : 5 * PIECE + 9], ConnectionResetError()))
    assert upload.there() == [(2 * PIECE, 5 * PIECE)]
    await uploads.receive(upload.uid, 0, chunks(SAMPLE[: 2 * PIECE]))
    await uploads.receive(upload.uid, 5 * PIECE, chunks(SAMPLE[5 * PIECE :]))
    assert (await uploads.complete(upload.uid)).root == content_of(SAMPLE).root


async def test_the_pieces_of_a_cancelled_part_stay(uploads: Uploads) -> None:
    upload = await begun(uploads)
    under_way = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield SAMPLE[: 3 * PIECE]
        under_way.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(uploads.receive(upload.uid, 0, slow()))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upload.there() == [(0, 3 * PIECE)]


async def test_a_silent_sender_is_given_up_and_its_pieces_stay(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SILENCE", 0.05)
    upload = await begun(uploads)

    async def silent() -> AsyncIterator[bytes]:
        yield SAMPLE[:PIECE]
        await asyncio.Event().wait()

    assert await refused(uploads.receive(upload.uid, 0, silent())) == "upload.not-found"
    assert upload.there() == [(0, PIECE)]


async def test_a_piece_that_is_there_is_not_written_again(uploads: Uploads) -> None:
    upload = await begun(uploads)
    await uploads.receive(upload.uid, 0, chunks(SAMPLE))
    await uploads.receive(upload.uid, 0, chunks(bytes(len(SAMPLE))))
    assert upload.files.path.read_bytes() == SAMPLE
    assert await uploads.complete(upload.uid) == content_of(SAMPLE)


async def test_the_same_part_twice_at_once_is_written_by_one(uploads: Uploads) -> None:
    upload = await begun(uploads)
    other = random.Random(9).randbytes(len(SAMPLE))
    await asyncio.gather(
        *(uploads.receive(upload.uid, 0, chunks(data, size)) for data in (SAMPLE, other) for size in (30_000, 90_000))
    )
    kept = upload.files.path.read_bytes()
    assert await uploads.complete(upload.uid) == content_of(kept)


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), OSError(5, "Input/output error")])
async def test_a_disk_that_fails_is_told_and_what_was_durable_stays(
    uploads: Uploads, fault: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await begun(uploads)
    await uploads.receive(upload.uid, 0, chunks(SAMPLE[:PIECE]))

    def failing(*_: object) -> bytes:
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(UploadFile, "put", failing)
        key = await refused(uploads.receive(upload.uid, PIECE, chunks(SAMPLE[PIECE:])))
    assert key == ("storage.full" if fault.errno == 28 else "storage.failed")
    assert upload.there() == [(0, PIECE)]
    await uploads.receive(upload.uid, PIECE, chunks(SAMPLE[PIECE:]))
    assert await uploads.complete(upload.uid) == content_of(SAMPLE)


async def test_what_cannot_be_made_durable_is_not_there(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await begun(uploads)

    def failing(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(UploadFile, "sync", failing)
        assert await refused(uploads.receive(upload.uid, 0, chunks(SAMPLE))) == "storage.failed"
    assert upload.there() == []


# Completing -----------------------------------------------------------------------------------------------------------


async def test_what_was_not_sent_is_zeros_and_takes_no_room(uploads: Uploads) -> None:
    size = 64 * MB
    upload = await begun(uploads, size)
    length = upload.tree.piece_length
    await uploads.receive(upload.uid, 5 * length, chunks(SAMPLE[:length]))
    whole = bytes(5 * length) + SAMPLE[:length] + bytes(size - 6 * length)
    assert await uploads.complete(upload.uid, content_of(whole).root) == content_of(whole)
    assert upload.files.path.read_bytes() == whole
    assert upload.files.path.stat().st_blocks * 512 < 2 * MB


async def test_blocks_of_zeros_that_are_sent_are_not_written(uploads: Uploads) -> None:
    size = 16 * MB
    upload = await begun(uploads, size)
    whole = SAMPLE[: 3 * BLOCK] + bytes(size - 5 * BLOCK) + SAMPLE[: 2 * BLOCK]
    await uploads.receive(upload.uid, 0, chunks(whole))
    assert await uploads.complete(upload.uid) == content_of(whole)
    assert upload.files.path.read_bytes() == whole
    assert upload.files.path.stat().st_blocks * 512 < MB


async def test_what_a_killed_process_left_where_zeros_belong_is_cleared(
    uploads: Uploads, folder: Path, clock: SkippingClock
) -> None:
    upload = await begun(uploads)
    await uploads.receive(upload.uid, 0, chunks(SAMPLE[:PIECE]))
    with upload.files.path.open("r+b") as file:  # written, and never recorded
        file.seek(PIECE)
        file.write(b"x" * (5 * PIECE))
    again = await restarted(folder, clock)
    part = SAMPLE[: 2 * BLOCK] + bytes(PIECE - 2 * BLOCK)
    await again.receive(upload.uid, 2 * PIECE, chunks(part))
    whole = SAMPLE[:PIECE] + bytes(PIECE) + part
    whole += bytes(len(SAMPLE) - len(whole))
    assert await again.complete(upload.uid, content_of(whole).root) == content_of(whole)
    assert upload.files.path.read_bytes() == whole


async def test_other_bytes_than_the_sender_read_are_refused_and_freed(uploads: Uploads, folder: Path) -> None:
    upload = await begun(uploads)
    await uploads.receive(upload.uid, 0, chunks(SAMPLE[:-1] + b"?"))
    assert await refused(uploads.complete(upload.uid, content_of(SAMPLE).root)) == "disk.changed"
    assert names_in(folder) == []
    assert await refused(uploads.complete(upload.uid)) == "upload.not-found"


async def test_completing_waits_for_no_sender_and_takes_no_part_afterwards(uploads: Uploads) -> None:
    upload = await begun(uploads)
    goes_on = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        await goes_on.wait()
        yield bytes(PIECE)

    late = asyncio.create_task(uploads.receive(upload.uid, PIECE, stuck()))
    await uploads.receive(upload.uid, 0, chunks(SAMPLE[:PIECE]))
    whole = SAMPLE[:PIECE] + bytes(len(SAMPLE) - PIECE)
    assert await uploads.complete(upload.uid) == await uploads.complete(upload.uid) == content_of(whole)
    goes_on.set()
    assert await refused(late) in {"upload.not-found", "input.invalid"}
    assert await refused(uploads.receive(upload.uid, 0, chunks(SAMPLE))) == "input.invalid"


@given(data=st.data(), pieces=st.integers(0, 12), rest=st.integers(0, PIECE - 1))
def test_any_parts_in_any_order_with_breaks_and_restarts_make_the_same_content(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, pieces: int, rest: int
) -> None:
    size = pieces * PIECE + rest
    raw = bytearray(SAMPLE[:size])
    count = -(-size // PIECE)
    zeros = data.draw(st.sets(st.integers(0, count - 1))) if count else set()
    for number in zeros:
        raw[number * PIECE : (number + 1) * PIECE] = bytes(min(PIECE, size - number * PIECE))
    parts = []
    for number in data.draw(st.permutations(sorted(set(range(count)) - zeros))):
        wide = data.draw(st.integers(1, 3))
        parts.append((number * PIECE, min(size, (number + wide) * PIECE), data.draw(st.sampled_from(HOW))))

    async def run(folder: Path) -> None:
        clock = SkippingClock()
        uploads = Uploads(folder, clock)
        await uploads.open()
        upload = await begun(uploads, size)
        for start, end, how in parts:
            if how == "broken off first":
                cut = (start + end) // 2
                with pytest.raises(ConnectionResetError):
                    await uploads.receive(upload.uid, start, broken(bytes(raw[start:cut]), ConnectionResetError()))
            elif how == "restarted before":
                there = upload.there()
                uploads = Uploads(folder, clock)
                await uploads.open()
                upload = uploads.upload(upload.uid)
                assert upload.there() == there
            await uploads.receive(upload.uid, start, chunks(bytes(raw[start:end])))
        assert await uploads.complete(upload.uid, content_of(bytes(raw)).root) == content_of(bytes(raw))
        assert upload.files.path.read_bytes() == raw

    asyncio.run(run(tmp_path_factory.mktemp("parts")))


# Going on -------------------------------------------------------------------------------------------------------------


async def test_the_same_sender_finds_its_upload_again_and_nobody_else_does(uploads: Uploads) -> None:
    first = await begun(uploads)
    assert await begun(uploads) is first
    others = [
        await begun(uploads, owner="grace"),
        await begun(uploads, name="two"),
        await begun(uploads, size=len(SAMPLE) - 1),
        await begun(uploads, fingerprint="cd" * 32),
        await begun(uploads, fingerprint=""),
        await begun(uploads, fingerprint=""),
    ]
    assert len({one.uid for one in [first, *others]}) == 7
    assert uploads.upload(first.uid, "ada") is first
    with pytest.raises(BitDewError) as refusal:
        uploads.upload(first.uid, "grace")
    assert refusal.value.key == "upload.not-found"


async def test_of_two_who_begin_the_same_upload_at_once_both_get_it(uploads: Uploads, folder: Path) -> None:
    both = await asyncio.gather(begun(uploads), begun(uploads))
    assert both[0] is both[1]
    assert [name for name in names_in(folder) if name.endswith(".upload")] == [f"{both[0].uid}.upload"]


async def test_a_service_that_was_restarted_goes_on_where_it_was(
    uploads: Uploads, folder: Path, clock: SkippingClock
) -> None:
    upload = await begun(uploads)
    await uploads.receive(upload.uid, 4 * PIECE, chunks(SAMPLE[4 * PIECE : 9 * PIECE]))
    fleeting = await begun(uploads, fingerprint="")
    again = await restarted(folder, clock)
    found = await begun(again)
    assert (found.uid, found.there(), found.about) == (upload.uid, [(4 * PIECE, 9 * PIECE)], upload.about)
    assert not fleeting.files.path.exists()
    await again.receive(found.uid, 0, chunks(SAMPLE[: 4 * PIECE]))
    await again.receive(found.uid, 9 * PIECE, chunks(SAMPLE[9 * PIECE :]))
    assert await again.complete(found.uid) == content_of(SAMPLE)


async def test_a_complete_upload_is_still_one_after_a_restart(
    uploads: Uploads, folder: Path, clock: SkippingClock
) -> None:
    upload = await begun(uploads)
    await uploads.receive(upload.uid, 0, chunks(SAMPLE))
    await uploads.complete(upload.uid)
    again = await restarted(folder, clock)
    assert await again.complete(upload.uid) == content_of(SAMPLE)


def torn(record: Path) -> None:
    raw = record.read_bytes()
    record.write_bytes(raw[:40] + bytes([raw[40] ^ 1]) + raw[41:])


@pytest.mark.parametrize(
    ("suffix", "harm", "there"),
    [
        (".pieces", torn, [(0, PIECE), (2 * PIECE, 4 * PIECE)]),
        (".pieces", lambda path: os.truncate(path, 50), [(0, PIECE)]),
        (".pieces", lambda path: os.truncate(path, 0), []),
        (".pieces", lambda path: path.write_bytes(path.read_bytes() + b"more"), [(0, 4 * PIECE)]),
        (".pieces", os.unlink, None),
        (".upload", os.unlink, None),
        (".upload", lambda path: path.write_text("{"), None),
        (".upload", lambda path: path.write_text(path.read_text().replace('"ada"', "7")), None),
        (".upload", lambda path: path.write_text("[" * 100_000), None),
        ("", lambda path: os.truncate(path, 5), None),
        ("", os.unlink, None),
    ],
)
async def test_what_is_damaged_counts_as_not_there(  # type: ignore[no-untyped-def]
    uploads: Uploads, folder: Path, clock: SkippingClock, suffix: str, harm, there: list[tuple[int, int]] | None
) -> None:
    upload = await begun(uploads)
    await uploads.receive(upload.uid, 0, chunks(SAMPLE[: 4 * PIECE]))
    harm(folder / f"{upload.uid}{suffix}")
    again = await restarted(folder, clock)
    if there is None:
        assert await refused(again.complete(upload.uid)) == "upload.not-found"
        assert names_in(folder) == []
    else:
        assert again.upload(upload.uid).there() == there


async def test_an_upload_that_nobody_goes_on_with_is_forgotten_also_over_a_restart(
    uploads: Uploads, folder: Path, clock: SkippingClock
) -> None:
    first = await begun(uploads)
    await uploads.receive(first.uid, 0, chunks(SAMPLE[:PIECE]))
    clock.skip(FORGET - 60)
    second = await begun(uploads, name="two")
    await uploads.receive(second.uid, 0, chunks(SAMPLE[:PIECE]))
    clock.skip(120)
    again = await restarted(folder, clock)
    assert await refused(again.complete(first.uid)) == "upload.not-found"
    assert again.upload(second.uid).there() == [(0, PIECE)]
    clock.skip(FORGET)
    await begun(again, name="three")
    assert await refused(again.complete(second.uid)) == "upload.not-found"


async def test_an_upload_is_not_forgotten_while_a_part_of_it_comes(uploads: Uploads, clock: SkippingClock) -> None:
    upload = await begun(uploads)
    goes_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield SAMPLE[:PIECE]
        await goes_on.wait()
        yield SAMPLE[PIECE:]

    task = asyncio.create_task(uploads.receive(upload.uid, 0, slow()))
    await asyncio.sleep(0)
    clock.skip(timedelta(hours=5).total_seconds())
    await begun(uploads, name="two")
    goes_on.set()
    await task
    assert await uploads.complete(upload.uid) == content_of(SAMPLE)


async def test_room_is_kept_for_what_is_still_to_come_and_not_for_what_is_known_to_be_empty(
    uploads: Uploads, folder: Path
) -> None:
    about = os.statvfs(folder)
    free = about.f_bavail * about.f_frsize
    assert await refused(begun(uploads, 2 * free, name="full")) == "storage.full"
    sparse = await begun(uploads, min(2 * free, 2**40), name="sparse", empty=min(2 * free, 2**40) - MB)
    assert sparse.lacking == MB
    assert sparse.files.path.stat().st_blocks * 512 < MB


async def test_one_sender_has_so_many_uploads_under_way_and_no_more(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UPLOADS", 2)
    first, _second = await begun(uploads), await begun(uploads, name="two")
    assert await refused(begun(uploads, name="three")) == "input.invalid"
    assert await begun(uploads) is first
    await begun(uploads, name="three", owner="grace")
    await uploads.abandon(first.uid)
    await begun(uploads, name="three")
