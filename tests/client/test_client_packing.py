"""A folder's archive as a file: the same bytes as the folder's, room for it, and nothing left."""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import pytest

from bitdew.client import packing
from bitdew.client.folder import FolderSource
from bitdew.client.packing import packed
from bitdew.core.errors import BitDewError

MB = 2**20


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary files are kept."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    top = tmp_path / "inputs"
    (top / "deep").mkdir(parents=True)
    (top / "deep" / "noise").write_bytes(bytes(range(256)) * 4096 * 9)
    (top / "empty").touch()
    with (top / "sparse").open("wb") as file:
        file.truncate(40 * MB)
        file.seek(20 * MB)
        file.write(b"middle")
    (top / "link").symlink_to("deep/noise")
    return top


def compare(archive, folder):
    """The archive's size, when it was found to be the folder's, with its holes."""
    source = FolderSource(folder)
    assert archive.read_bytes() == source.read_at(0, source.size)
    with tarfile.open(archive) as tar:
        assert {one.name.rstrip("/") for one in tar} == {"deep", "deep/noise", "empty", "sparse", "link"}
    assert archive.stat().st_blocks * 512 < source.size - 30 * MB, "holes were written"
    return source.size


async def test_the_file_is_the_folders_archive_byte_by_byte_and_is_gone_afterwards(folder, scratch):
    told = []
    async with packed(folder, lambda done, total: told.append((done, total))) as archive:
        size = await asyncio.to_thread(compare, archive, folder)
    assert told[-1] == (size, size)
    assert told == sorted(told)
    assert await asyncio.to_thread(os.listdir, scratch) == []


async def test_without_room_nothing_is_written(folder, scratch, monkeypatch):
    free = shutil.disk_usage(scratch)
    monkeypatch.setattr(packing, "ROOM", free.free + MB)
    with pytest.raises(BitDewError) as caught:
        async with packed(folder):
            pytest.fail("it was packed")
    assert caught.value.key == "storage.full"
    assert await asyncio.to_thread(os.listdir, scratch) == []


async def test_a_folder_that_changes_while_it_is_read_is_refused(folder, scratch, monkeypatch):
    checked = FolderSource.check_unchanged

    def change_and_check(source):
        (folder / "empty").write_bytes(b"no longer")
        checked(source)

    monkeypatch.setattr(FolderSource, "check_unchanged", change_and_check)
    with pytest.raises(BitDewError) as caught:
        async with packed(folder):
            pytest.fail("it was packed")
    assert caught.value.key == "disk.changed"
    assert await asyncio.to_thread(os.listdir, scratch) == []


async def test_cancelled_while_it_is_read_it_leaves_nothing(folder, scratch):
    begun = asyncio.Event()

    async def pack():
        async with packed(folder, lambda *_: begun.set()):
            await asyncio.Event().wait()

    task = asyncio.create_task(pack())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(os.listdir, scratch) == []


async def test_what_no_archive_can_hold_is_refused(tmp_path, scratch):
    with pytest.raises(BitDewError) as caught:
        async with packed(Path(tmp_path / "nowhere")):
            pytest.fail("it was packed")
    assert caught.value.key == "disk.file-missing"
