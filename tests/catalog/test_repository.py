"""The repository: bytes are identified while they come in, kept once, seeded, and never thrown away by themselves."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from bitdew.catalog.repository import Repository
from bitdew.catalog.upload_file import About
from bitdew.catalog.uploads import RESERVE, Upload
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bitdew.core.content import ROOT_OF_NOTHING, Content, ContentHasher, ContentTree
from bitdew.core.errors import BitDewError
from bitdew.core.host import Endpoint
from bitdew.core.ids import ContentRoot, new_uid
from bitdew.swarm.credentials import SwarmCredentials
from bitdew.swarm.metainfo import build_metainfo, read_metainfo
from bitdew.swarm.seeder.seeder import Seeder
from bitdew.swarm.session import Swarm
from bitdew.testing.clock import SkippingClock
from bitdew.trust.authority import Authority
from bitdew.trust.keys import certificate_request, new_key

MB = 2**20
BALLAST = random.Random(8).randbytes(8 * MB)
SAMPLE = random.Random(7).randbytes(3 * MB + 12345)


def content_of(data: bytes) -> Content:
    hasher = ContentHasher(len(data))
    hasher.update(data)
    return hasher.finish()


async def chunks(data: bytes, size: int = 700_001) -> AsyncIterator[bytes]:
    for offset in range(0, len(data), size):
        yield data[offset : offset + size]


async def begin(repository: Repository, size: int, name: str = "disk") -> Upload:
    return await repository.uploads.begin(About("ada", name, size))


async def upload(repository: Repository, data: bytes = SAMPLE, name: str = "disk") -> Upload:
    begun = await begin(repository, len(data), name)
    await repository.uploads.receive_all(begun.uid, chunks(data))
    return begun


async def keep(repository: Repository, data: bytes = SAMPLE) -> ContentRoot:
    metainfo = await repository.adopt(await upload(repository, data))
    await repository.seed(metainfo)
    return metainfo.content.root


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "repository"


@pytest.fixture
async def repository(folder: Path, swarm: Seeder) -> Repository:
    repository = Repository(folder, swarm)
    await repository.open({})
    return repository


# Receiving ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "size"), [(1, 1), (5, 1), (len(SAMPLE), 65537), (len(SAMPLE), 2**30)])
async def test_bytes_are_identified_and_stored_in_any_chunking(
    repository: Repository, folder: Path, length: int, size: int
) -> None:
    data = SAMPLE[:length]
    begun = await begin(repository, length, "disk")
    content = await repository.uploads.receive_all(begun.uid, chunks(data, size))
    assert content == content_of(data)
    assert (folder / "uploads" / begun.uid).read_bytes() == data


@given(data=st.binary(min_size=1, max_size=200_000), cuts=st.lists(st.integers(1, 70_000), min_size=1, max_size=20))
def test_no_chunking_changes_what_bytes_are(data: bytes, cuts: list[int]) -> None:
    hasher, offset, turn = ContentHasher(len(data)), 0, 0
    while offset < len(data):
        hasher.update(data[offset : offset + cuts[turn % len(cuts)]])
        offset += cuts[turn % len(cuts)]
        turn += 1
    assert hasher.finish() == content_of(data)


@pytest.mark.parametrize("announced", [len(SAMPLE) - 1, len(SAMPLE) + 1, 1, 2 * len(SAMPLE)])
async def test_more_or_fewer_bytes_than_announced_are_refused_and_freed(
    repository: Repository, folder: Path, announced: int
) -> None:
    begun = await begin(repository, announced, "disk")
    with pytest.raises(BitDewError) as refusal:
        await repository.uploads.receive_all(begun.uid, chunks(SAMPLE))
    assert refusal.value.key == "disk.changed"
    assert files_in(folder) == []
    with pytest.raises(BitDewError) as refusal:
        repository.uploads.upload(begun.uid)
    assert refusal.value.key == "upload.not-found"


async def test_a_stream_without_end_is_cut_off_at_the_announced_size(repository: Repository, folder: Path) -> None:
    begun = await begin(repository, 1000, "disk")
    seen = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal seen
        while True:
            seen += 1
            yield bytes(600)

    with pytest.raises(BitDewError):
        await repository.uploads.receive_all(begun.uid, endless())
    assert seen == 2
    assert files_in(folder) == []


async def test_more_than_there_is_room_for_is_refused_before_a_byte_comes(repository: Repository, folder: Path) -> None:
    with pytest.raises(BitDewError) as refusal:
        await begin(repository, 2**50, "disk")
    assert refusal.value.key == "storage.full"
    assert refusal.value.fields["needed"] == 2**50
    assert files_in(folder) == []


async def test_room_is_promised_to_one_upload_only(repository: Repository, folder: Path) -> None:
    about = os.statvfs(folder)
    most = about.f_bavail * about.f_frsize - RESERVE
    first = await begin(repository, int(most * 0.6), "disk")
    with pytest.raises(BitDewError) as refusal:
        await begin(repository, int(most * 0.6), "other")
    assert refusal.value.key == "storage.full"
    await repository.uploads.abandon(first.uid)
    assert await begin(repository, int(most * 0.6), "other")


@pytest.mark.parametrize("uid", ["", "nothing", "../../etc/passwd", "0" * 32])
async def test_an_unknown_upload_takes_no_bytes(repository: Repository, uid: str) -> None:
    with pytest.raises(BitDewError) as refusal:
        await repository.uploads.receive_all(uid, chunks(SAMPLE))
    assert refusal.value.key == "upload.not-found"
    await repository.uploads.abandon(uid)


async def test_bytes_come_once(repository: Repository, folder: Path) -> None:
    begun = await upload(repository)
    with pytest.raises(BitDewError) as refusal:
        await repository.uploads.receive_all(begun.uid, chunks(bytes(len(SAMPLE))))
    assert refusal.value.key == "input.invalid"
    assert (folder / "uploads" / begun.uid).read_bytes() == SAMPLE


async def test_an_upload_without_its_bytes_is_not_adopted(repository: Repository, folder: Path) -> None:
    begun = await begin(repository, 10, "disk")
    with pytest.raises(BitDewError) as refusal:
        await repository.adopt(begun)
    assert refusal.value.key == "input.invalid"
    assert files_in(folder) == [f"uploads/{begun.uid}"]


async def test_abandoning_frees_the_bytes_and_may_be_repeated(repository: Repository, folder: Path) -> None:
    begun = await upload(repository)
    assert files_in(folder) == [f"uploads/{begun.uid}"]
    await repository.uploads.abandon(begun.uid)
    await repository.uploads.abandon(begun.uid)
    assert files_in(folder) == []


@pytest.mark.parametrize("fault", [ConnectionResetError("gone"), RuntimeError("odd"), OSError(5, "I/O error")])
async def test_a_stream_that_breaks_off_forgets_the_upload(
    repository: Repository, folder: Path, fault: Exception
) -> None:
    begun = await begin(repository, len(SAMPLE), "disk")

    async def broken() -> AsyncIterator[bytes]:
        yield SAMPLE[:MB]
        raise fault

    with pytest.raises((type(fault), BitDewError)) as raised:
        await repository.uploads.receive_all(begun.uid, broken())
    assert isinstance(fault, ConnectionError) == isinstance(raised.value, ConnectionError)
    assert files_in(folder) == []
    with pytest.raises(BitDewError):
        repository.uploads.upload(begun.uid)


async def test_a_cancelled_stream_forgets_the_upload(repository: Repository, folder: Path) -> None:
    begun = await begin(repository, len(SAMPLE), "disk")
    under_way = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield SAMPLE[:MB]
        under_way.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(repository.uploads.receive_all(begun.uid, slow()))
    await under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(folder) == []


async def test_all_bytes_sent_again_after_a_break_go_on_where_it_broke_off(repository: Repository) -> None:
    begun = await repository.uploads.begin(About("ada", "disk", len(SAMPLE), "fingerprint"))

    async def broken() -> AsyncIterator[bytes]:
        yield SAMPLE[: 2 * MB]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await repository.uploads.receive_all(begun.uid, broken())
    there = begun.tree.known
    assert there > 20
    written = []
    put = begun.files.put

    def note(descriptor: int, tree: ContentTree, number: int, raw: bytes) -> bytes:
        written.append(number)
        return put(descriptor, tree, number, raw)

    begun.files.put = note  # type: ignore[method-assign]
    content = await repository.uploads.receive_all(begun.uid, chunks(SAMPLE))
    assert content == content_of(SAMPLE)
    assert len(written) == content.pieces - there


# A full disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for little more than the reserve."""
    if os.geteuid() != 0:
        pytest.skip("a full disk needs a small file system, and mounting one needs root")
    mounted = tmp_path / "small"
    mounted.mkdir()
    size = RESERVE + 16 * MB
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", mounted], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a full disk needs a small file system, and it can't be mounted: {done.stderr.strip()}")
    yield mounted
    subprocess.run(["umount", mounted], check=True)


async def test_a_disk_that_fills_up_meanwhile_is_an_error_and_leaves_nothing(small_disk: Path, swarm: Seeder) -> None:
    repository = Repository(small_disk / "repository", swarm)
    await repository.open({})
    kept = await keep(repository, SAMPLE[:100_000])
    begun = await begin(repository, 8 * MB, "disk")
    (small_disk / "ballast").write_bytes(bytes(RESERVE + 13 * MB))
    with pytest.raises(BitDewError) as refusal:
        await repository.uploads.receive_all(begun.uid, chunks(BALLAST))
    assert refusal.value.key == "storage.full"
    assert files_in(small_disk / "repository") == [f"files/{kept}", f"files/{kept}.torrent"]
    (small_disk / "ballast").unlink()
    assert await keep(repository, BALLAST)
    await repository.withdraw(kept)


async def test_the_reserve_is_never_given_away(small_disk: Path, swarm: Seeder) -> None:
    repository = Repository(small_disk / "repository", swarm)
    await repository.open({})
    with pytest.raises(BitDewError) as refusal:
        await begin(repository, 17 * MB, "disk")
    assert refusal.value.key == "storage.full"
    assert refusal.value.fields["free"] <= 16 * MB
    assert await begin(repository, 15 * MB, "disk")


# Keeping and seeding --------------------------------------------------------------------------------------------------


async def test_an_adopted_file_is_seeded_whole(
    repository: Repository, swarm: Seeder, authority: Authority, clock: SkippingClock, tmp_path: Path
) -> None:
    root = await keep(repository)
    key = new_key()
    request = certificate_request(key, "pc")
    issued = authority.sign_swarm(request, subject_id=new_uid(), name="pc", now=clock.now())
    credentials = SwarmCredentials(authority.certificate, issued.pem, key)
    metainfo = read_metainfo(await repository.metainfo(root), expected=root)
    async with await Swarm.start(Endpoint("127.0.0.2", 0), credentials) as host, asyncio.timeout(20):
        transfer = await host.add(metainfo, tmp_path / "copy", peers=[swarm.endpoint])
        await transfer.wait_held()
        assert hashlib.sha256((tmp_path / "copy").read_bytes()).digest() == hashlib.sha256(SAMPLE).digest()
    async with asyncio.timeout(10):
        while repository.egress(root) < len(SAMPLE):  # the session reports a few times a second
            await asyncio.sleep(0.02)


async def test_the_same_bytes_under_two_names_are_stored_once(repository: Repository, folder: Path) -> None:
    first, second = await keep(repository), await keep(repository)
    assert first == second
    assert files_in(folder) == [f"files/{first}", f"files/{first}.torrent"]
    assert await repository.is_whole(first)


async def test_deleting_frees_the_bytes_and_ends_the_seeding(
    repository: Repository, folder: Path, swarm: Seeder
) -> None:
    root = await keep(repository)
    assert len(swarm.offers) == 1
    await repository.delete(root)
    await repository.delete(root)
    assert files_in(folder) == []
    assert len(swarm.offers) == 0
    assert repository.egress(root) == 0


async def test_the_metainfo_of_unknown_content_is_not_found(repository: Repository) -> None:
    with pytest.raises(BitDewError) as refusal:
        await repository.metainfo(ContentRoot("0" * 64))
    assert refusal.value.key == "data.not-found"


async def test_a_torrent_that_was_damaged_is_not_handed_out(repository: Repository, folder: Path) -> None:
    root = await keep(repository)
    torrent = folder / "files" / f"{root}.torrent"
    torrent.write_bytes(torrent.read_bytes()[:-40])
    with pytest.raises(BitDewError) as refusal:
        await repository.metainfo(root)
    assert refusal.value.key == "data.not-found"


@pytest.mark.parametrize(
    ("offset", "fresh"), [(0, b"\x00" * 10), (len(SAMPLE) - 1, b"?"), (len(SAMPLE), b"one byte more")]
)
async def test_a_file_that_rotted_is_not_whole(repository: Repository, folder: Path, offset: int, fresh: bytes) -> None:
    root = await keep(repository)
    assert await repository.is_whole(root)
    with (folder / "files" / root).open("r+b") as file:
        file.seek(offset)
        file.write(fresh)
    assert not await repository.is_whole(root)


async def test_content_that_is_not_there_is_not_whole(repository: Repository) -> None:
    assert not await repository.is_whole(ContentRoot("0" * 64))


async def test_the_content_of_no_bytes_is_held_like_others_without_a_swarm(
    repository: Repository, folder: Path, swarm: Swarm
) -> None:
    assert not repository.holds(ROOT_OF_NOTHING, 0)
    assert await keep(repository, b"") == ROOT_OF_NOTHING
    assert (repository.holds(ROOT_OF_NOTHING, 0), repository.holds(ROOT_OF_NOTHING, 1)) == (True, False)
    assert (repository.seeded(), len(swarm.offers)) == ({ROOT_OF_NOTHING}, 0)
    assert (await repository.file_of(ROOT_OF_NOTHING)).read_bytes() == b""
    assert read_metainfo(await repository.metainfo(ROOT_OF_NOTHING)).content.size == 0
    assert await repository.is_whole(ROOT_OF_NOTHING)
    restarted = Repository(folder, swarm)
    assert await restarted.open({(ROOT_OF_NOTHING, 0): True}) == []
    assert restarted.holds(ROOT_OF_NOTHING, 0)
    await restarted.delete(ROOT_OF_NOTHING)
    assert (restarted.holds(ROOT_OF_NOTHING, 0), restarted.seeded(), files_in(folder)) == (False, set(), [])
    with pytest.raises(BitDewError) as refusal:
        await restarted.file_of(ROOT_OF_NOTHING)
    assert refusal.value.key == "data.not-found"


# Opening --------------------------------------------------------------------------------------------------------------


async def test_what_is_stored_is_seeded_again_after_a_restart(
    repository: Repository, folder: Path, swarm: Seeder
) -> None:
    root = await keep(repository)
    await repository.withdraw(root)
    restarted = Repository(folder, swarm)
    assert await restarted.open({(root, len(SAMPLE)): True}) == []
    assert list(swarm.offers) == [build_metainfo(content_of(SAMPLE)).info_hash]


async def test_a_missing_a_cut_and_an_untold_file_are_damaged_and_the_others_are_seeded(
    repository: Repository, folder: Path, swarm: Seeder
) -> None:
    parts = [SAMPLE[:n] for n in (100_000, 200_000, 300_000, 400_000)]
    missing, cut, untold, good = [await keep(repository, part) for part in parts]
    for root in (missing, cut, untold, good):
        await repository.withdraw(root)
    (folder / "files" / missing).unlink()
    os.truncate(folder / "files" / cut, 150_000)
    (folder / "files" / f"{untold}.torrent").unlink()
    sizes = [100_000, 200_000, 300_000, 400_000]
    restarted = Repository(folder, swarm)
    damaged = await restarted.open(dict.fromkeys(zip((missing, cut, untold, good), sizes, strict=True), True))
    assert set(damaged) == {missing, cut, untold}
    assert list(swarm.offers) == [build_metainfo(content_of(parts[3])).info_hash]


async def test_files_of_no_known_datum_are_reported_and_kept(
    repository: Repository, folder: Path, swarm: Seeder
) -> None:
    root = await keep(repository)
    await repository.withdraw(root)
    before = files_in(folder)
    with capture_logs() as logs:
        assert await Repository(folder, swarm).open({}) == []
    assert [log["files"] for log in logs if log["log_level"] == "warning"] == [[root]]
    assert files_in(folder) == before


async def test_uploads_of_an_ended_process_are_cleared(repository: Repository, folder: Path, swarm: Seeder) -> None:
    await upload(repository)
    await Repository(folder, swarm).open({})
    assert files_in(folder) == []


async def test_a_damaged_file_is_mended_by_the_same_bytes(repository: Repository, folder: Path, swarm: Seeder) -> None:
    root = await keep(repository)
    os.truncate(folder / "files" / root, 5)
    assert not await repository.is_whole(root)
    assert await keep(repository) == root
    assert await repository.is_whole(root)
    assert len(swarm.offers) == 1
