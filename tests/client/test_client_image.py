"""A file on its way to the repository: read once, identified while it is read, refused if it is not what it was."""

import asyncio
import os
import random

import pytest

from bitdew.client.image import CHUNK, ImageFile
from bitdew.core.content import ContentHasher
from bitdew.core.errors import BitDewError


def content_of(data):
    hasher = ContentHasher(len(data))
    hasher.update(data)
    return hasher.finish()


async def read(path, progress=None):
    """Everything that the file gives, and what it is."""
    image = await asyncio.to_thread(ImageFile, path)
    try:
        data = b"".join([chunk async for chunk in image.chunks(progress)])
        return data, await asyncio.to_thread(image.finish)
    finally:
        await image.close()


async def read_on(chunks):
    async for _ in chunks:
        pass


@pytest.mark.parametrize("size", [1, 16384, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
async def test_the_bytes_arrive_in_order_and_are_identified_on_the_way(tmp_path, size):
    data = random.Random(size).randbytes(size)
    path = tmp_path / "disk.raw"
    path.write_bytes(data)
    seen = []
    assert await read(path, lambda *figures: seen.append(figures)) == (data, content_of(data))
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


async def test_the_file_is_read_once(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(3 * CHUNK))
    image = await asyncio.to_thread(ImageFile, path)
    try:
        async for _ in image.chunks():
            pass
        await asyncio.to_thread(image.finish)
        assert image._file.tell() == 3 * CHUNK
        assert image._hasher.seen == 3 * CHUNK
    finally:
        await image.close()


def test_what_is_no_file_of_bytes_is_refused_with_its_own_key(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "file").write_bytes(b"x")
    refused = {}
    for name in ("missing", "pipe", "empty", "file/below", "x" * 300, ""):
        with pytest.raises(BitDewError) as caught:
            ImageFile(tmp_path / name)
        refused[name[:10]] = caught.value.key
    assert refused == {
        "missing": "disk.file-missing",
        "pipe": "input.invalid",
        "empty": "disk.empty",
        "file/below": "disk.file-unreadable",
        "x" * 10: "disk.file-unreadable",
        "": "input.invalid",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_unreadable(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(BitDewError, match="can't be read"):
        ImageFile(path)


def touch(path):
    os.utime(path, ns=(1, 1))


def replace(path):
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def grow(path):
    with path.open("ab") as file:
        file.write(b"more")


def remove(path):
    path.unlink()


@pytest.mark.parametrize(
    ("change", "told"), [(touch, "modification"), (replace, "inode"), (grow, "size"), (remove, "looked at")]
)
async def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path, change, told):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(2 * CHUNK))
    image = await asyncio.to_thread(ImageFile, path)
    try:
        async for _ in image.chunks():
            pass
        await asyncio.to_thread(change, path)
        with pytest.raises(BitDewError, match=told) as caught:
            await asyncio.to_thread(image.finish)
        assert caught.value.key == "disk.changed"
    finally:
        await image.close()


async def test_a_file_that_shrinks_ends_the_reading_and_says_why(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(4 * CHUNK))
    image = await asyncio.to_thread(ImageFile, path)
    try:
        chunks = image.chunks()
        await anext(chunks)
        os.truncate(path, CHUNK)
        with pytest.raises(BitDewError) as caught:
            await read_on(chunks)
        assert image.fault is caught.value
        assert caught.value.key == "disk.changed"
    finally:
        await image.close()


async def test_closing_waits_for_the_read_that_is_under_way(tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(4 * CHUNK))
    image = await asyncio.to_thread(ImageFile, path)
    chunks = image.chunks()
    await anext(chunks)
    reading = image._ahead
    assert reading is not None
    await image.close()
    assert reading.done()
    assert image._file.closed
    await chunks.aclose()
