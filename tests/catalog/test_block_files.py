"""The hashes of blocks lie beside what the repository holds: right, made once, and gone with it."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bitdew.catalog import blocks as module
from bitdew.catalog.blocks import WORTH, BlockFiles

from bitdew.core.blocks import proven, sketch_of
from bitdew.core.content import Content, ContentHasher
from bitdew.core.errors import BitDewError

SAMPLE = random.Random(7).randbytes(2 * WORTH + 777)


def stored(folder: Path, data: bytes = SAMPLE) -> Content:
    hasher = ContentHasher(len(data))
    hasher.update(data)
    content = hasher.finish()
    (folder / content.root).write_bytes(data)
    return content


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
async def blocks(tmp_path: Path) -> AsyncIterator[BlockFiles]:
    made = BlockFiles(tmp_path)
    work = asyncio.create_task(made.run())
    yield made
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def test_hashes_are_made_when_they_are_asked_for_and_the_root_proves_them(
    blocks: BlockFiles, tmp_path: Path
) -> None:
    content = stored(tmp_path)
    path = await blocks.file_of(content)
    assert proven(path.read_bytes(), content)
    assert await blocks.sketch(content) == sketch_of(path.read_bytes())


async def test_what_came_is_told_without_being_read_again(blocks: BlockFiles, tmp_path: Path) -> None:
    content = stored(tmp_path)
    blocks.want(content)
    path = await blocks.file_of(content)
    (tmp_path / content.root).unlink()
    assert await blocks.file_of(content) == path
    assert await BlockFiles(tmp_path).file_of(content) == path  # nor after a restart


async def test_all_who_ask_at_once_wait_for_one_reading(blocks: BlockFiles, tmp_path: Path) -> None:
    content = stored(tmp_path)
    assert len(set(await asyncio.gather(*(blocks.file_of(content) for _ in range(20))))) == 1
    assert names_in(tmp_path) == [content.root, f"{content.root}.blocks"]


async def test_a_damaged_a_short_and_a_missing_file_have_none(blocks: BlockFiles, tmp_path: Path) -> None:
    content = stored(tmp_path)
    for data in (bytes(len(SAMPLE)), SAMPLE[:-1], None):
        if data is None:
            (tmp_path / content.root).unlink()
        else:
            (tmp_path / content.root).write_bytes(data)
        with pytest.raises(BitDewError) as refusal:
            await blocks.file_of(content)
        assert refusal.value.key == "data.not-found"
        assert not any("blocks" in name for name in names_in(tmp_path))


async def test_a_small_content_has_none(blocks: BlockFiles, tmp_path: Path) -> None:
    with pytest.raises(BitDewError) as refusal:
        await blocks.sketch(stored(tmp_path, SAMPLE[: WORTH - 1]))
    assert refusal.value.key == "data.not-found"


async def test_they_go_with_the_content(blocks: BlockFiles, tmp_path: Path) -> None:
    content = stored(tmp_path)
    await blocks.sketch(content)
    (tmp_path / content.root).unlink()
    await blocks.remove(content.root)
    assert names_in(tmp_path) == []
    with pytest.raises(BitDewError):
        await blocks.sketch(content)


async def test_whoever_can_not_wait_that_long_is_told_when_to_ask_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAKING_SECONDS", 0.01)
    with pytest.raises(BitDewError) as refusal:
        await BlockFiles(tmp_path).file_of(stored(tmp_path))  # nobody makes them
    assert refusal.value.key == "help.busy"
    assert refusal.value.fields["retry_after"] > 0
