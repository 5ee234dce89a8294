"""Sending that breaks off goes on where it stopped, sends nothing twice, and nothing that is zeros."""

import asyncio
import os
import random
import shutil

import pytest

from bitdew import BitDew, BitDewError
from bitdew.client import sending
from bitdew.client.image import FileSource
from bitdew.core.content import ContentHasher, piece_length_for

MB = 2**20
SIZE = 40 * MB + 5
PIECE = piece_length_for(SIZE)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "inputs.bin"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Attempts follow each other at once, and parts are small."""
    monkeypatch.setattr(sending, "PAUSE", 0.05)
    monkeypatch.setattr(sending, "PART", 4 * MB)


@pytest.fixture
def sent(monkeypatch):
    """The pieces that were handed to the line, each as often as it was."""
    handed, sliced = [], sending.sliced

    def noted(raw):
        handed.append(len(raw))
        return sliced(raw)

    monkeypatch.setattr(sending, "sliced", noted)
    return handed


def root_of(path):
    hasher = ContentHasher(path.stat().st_size)
    hasher.update(path.read_bytes())
    return hasher.finish().root


def uploads(grid):
    return grid.service.rooms.contents.repository.uploads._uploads


async def refused(work):
    with pytest.raises(BitDewError) as caught:
        await work
    return caught.value


async def test_a_line_that_breaks_again_and_again_is_gone_on_with(grid, file, monkeypatch):
    chance, sliced, whole, breaks = random.Random(4), sending.sliced, [], []

    def breaking(raw):
        for number, chunk in enumerate(sliced(raw)):
            if number == 0 and len(breaks) < 12 and chance.random() < 0.1:
                breaks.append(len(raw))
                raise ConnectionResetError("the line broke")
            yield chunk
        whole.append(len(raw))

    monkeypatch.setattr(sending, "sliced", breaking)
    datum = await grid.client.put(file, "one")
    assert (datum.root, len(breaks)) == (root_of(file), 12)
    # Each break costs the pieces that were under way, and no more.
    assert sum(whole) < SIZE + len(breaks) * sending.LANES * 8 * PIECE
    assert uploads(grid) == {}


async def test_a_service_that_restarts_in_the_middle_is_gone_on_with(grid, file, sent):
    loop, restarting = asyncio.get_running_loop(), []

    async def restart():
        await grid.stop_service()
        await grid.start_service()

    def progress(done, total):
        if not restarting and done > total // 2:
            restarting.append(loop.create_task(restart()))

    async with BitDew.connect(grid.folder / "operator") as client:
        datum = await client.put(file, "one", sending=progress)
        await restarting[0]
    assert datum.root == root_of(file)
    assert SIZE <= sum(sent) < 1.7 * SIZE
    kept = grid.folder / "service" / "repository" / "files" / datum.root
    assert await asyncio.to_thread(root_of, kept) == datum.root


@pytest.mark.parametrize("add", ["put", "add_disk"])
async def test_what_was_cancelled_goes_on_with_the_same_call(grid, file, sent, add):
    begun, told = asyncio.Event(), {"put": "sending", "add_disk": "progress"}[add]

    def progress(done, total):
        if done > total // 2:
            begun.set()

    task = asyncio.create_task(getattr(grid.client, add)(file, "one", **{told: progress}))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [one async for one in grid.client.data()] == []
    async with asyncio.timeout(10):
        while any(upload.parts for upload in uploads(grid).values()):
            await asyncio.sleep(0.01)
    (upload,) = uploads(grid).values()
    there = sum(end - start for start, end in upload.there())
    assert there > SIZE // 4
    sent.clear()
    datum = await getattr(grid.client, add)(file, "one")
    assert datum.root == root_of(file)
    assert sum(sent) == SIZE - there
    assert uploads(grid) == {}


async def test_a_file_that_changed_since_is_sent_from_its_beginning(grid, file, sent):
    begun = asyncio.Event()
    task = asyncio.create_task(grid.client.put(file, "one", sending=lambda *_: begun.set()))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    file.write_bytes(random.Random(2).randbytes(SIZE))
    sent.clear()
    datum = await grid.client.put(file, "one")
    assert (datum.root, sum(sent)) == (root_of(file), SIZE)


async def test_a_service_that_stays_away_is_given_up_with_what_to_do(grid, file):
    stopping = []

    def progress(done, total):
        if not stopping and done > total // 2:
            stopping.append(asyncio.ensure_future(grid.stop_service()))

    async with BitDew.connect(grid.folder / "operator") as client:
        client.patience = 0.3
        fault = await refused(client.put(file, "one", sending=progress))
        await stopping[0]
        assert (fault.key, "goes on where it stopped" in fault.do) == ("service.unreachable", True)
        await grid.start_service()
        datum = await client.put(file, "one")
    assert datum.root == root_of(file)


async def test_zeros_are_neither_sent_nor_written(grid, tmp_path, sent):
    path = tmp_path / "sparse"
    size = 96 * MB
    length = piece_length_for(size)
    with path.open("wb") as file:
        file.truncate(size)
        for at in (0, 30 * MB, size - 7):
            file.seek(at)
            file.write(random.Random(at).randbytes(7))
        file.seek(50 * MB)
        file.write(bytes(8 * MB))  # no hole, and yet nothing but zeros
    datum = await grid.client.put(path, "sparse")
    assert datum.root == root_of(path)
    assert sum(sent) == 3 * length
    kept = grid.folder / "service" / "repository" / "files" / datum.root
    about = await asyncio.to_thread(kept.stat)
    assert (about.st_size, about.st_blocks * 512 < MB) == (size, True)
    assert await asyncio.to_thread(root_of, kept) == datum.root


async def test_nothing_but_zeros_is_a_datum_of_which_nothing_is_sent(grid, tmp_path, sent):
    path = tmp_path / "zeros"
    path.write_bytes(bytes(3 * MB + 1))
    datum = await grid.client.put(path, "zeros")
    assert (datum.root, sent) == (root_of(path), [])


async def test_a_disk_of_more_than_a_hundred_gigabytes_is_added_in_seconds_if_it_is_mostly_holes(grid, tmp_path, sent):
    path, size = tmp_path / "huge", 130 * 2**30
    if shutil.disk_usage(tmp_path).free < 2 * 2**30:
        pytest.skip("it needs some room")
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(77 * 2**30)
        file.write(b"something")
    source = await asyncio.to_thread(FileSource, path)
    told = source.holes()
    source.close()
    if not told:
        pytest.skip("this file system does not tell holes")
    async with asyncio.timeout(60):
        disk = await grid.client.add_disk(path, "huge")
    assert (disk.size, sum(sent)) == (size, piece_length_for(size))
    kept = grid.folder / "service" / "repository" / "files" / disk.root
    assert (await asyncio.to_thread(kept.stat)).st_blocks * 512 < MB


@pytest.mark.parametrize("change", [lambda path: os.utime(path, ns=(1, 1)), lambda path: os.truncate(path, MB)])
async def test_a_file_that_changes_while_it_is_sent_leaves_nothing(grid, file, change):
    fault = await refused(grid.client.put(file, "one", sending=lambda *_: change(file)))
    assert (fault.key, uploads(grid)) == ("disk.changed", {})


async def test_nobody_sees_or_spoils_the_upload_of_another(grid, file, tmp_path):
    from bitdew.client.enrolment import enrol
    from bitdew.trust.identity import IdentityFolder
    from bitdew.trust.roles import Role
    from bitdew.wire.models import Nothing, UploadReply, UploadRequest, UploadView

    token = (await grid.client.create_token("publisher")).token
    await enrol(grid.service.url, token, "grace", IdentityFolder(tmp_path / "grace"), {Role.PUBLISHER})
    asked = UploadRequest(name="one", size=MB, fingerprint="ab" * 32)
    mine = (await grid.client._call("POST", "/v1/uploads", UploadReply, body=asked)).upload
    async with BitDew.connect(tmp_path / "grace") as grace:
        theirs = (await grace._call("POST", "/v1/uploads", UploadReply, body=asked)).upload
        assert theirs != mine
        path = f"/v1/uploads/{mine}"
        assert (await refused(grace._call("GET", path, UploadView))).key == "upload.not-found"
        assert (await refused(grace._call("POST", f"{path}/datum", Nothing))).key == "upload.not-found"
        await grace._call("DELETE", path, Nothing)
    assert (await grid.client._call("GET", f"/v1/uploads/{mine}", UploadView)).there == []
