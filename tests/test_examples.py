"""The examples for developers run as they stand, each on a real grid."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import bitdew
from bitdew import BitDewError
from bitdew.testing.grid import Grid

EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> Any:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
async def grid(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Grid]:
    async with Grid(hosts=3) as grid:
        (grid.folder / "profiles").symlink_to(grid.folder)
        monkeypatch.setenv("BITDEW_HOME", str(grid.folder))
        monkeypatch.setenv("BITDEW_PROFILE", "operator")
        yield grid


async def becomes(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises((asyncio.CancelledError, BaseExceptionGroup)):
        await task


async def test_the_updater_has_one_release_follow_the_other(grid: Grid, tmp_path: Path, capsys) -> None:
    (tmp_path / "app").write_bytes(b"one")
    updater = example("updater")
    await updater.main(tmp_path / "app", "1")
    (tmp_path / "app").write_bytes(b"two")
    await updater.main(tmp_path / "app", "2")
    assert "3 hosts have app-2; 1 before it end" in capsys.readouterr().out
    async with bitdew.connect() as dew:
        old = await dew.find("app-1")
        async with asyncio.timeout(30):
            while (await old.refresh()).alive or old.view.held:
                await asyncio.sleep(0.05)
        assert [one.name async for one in dew.search("app-")] == ["app-2", "app-mark-2"]


async def test_files_are_shared_by_whoever_takes_part(grid: Grid, tmp_path: Path) -> None:
    share = example("share")
    raw = os.urandom(200_000)
    (tmp_path / "holiday.mp4").write_bytes(raw)
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
    url, token = grid.service.url, grid.token
    ann = asyncio.create_task(share.main(url, token, tmp_path / "ann", str(tmp_path / "holiday.mp4")))
    bob = asyncio.create_task(share.main(url, token, tmp_path / "bob"))
    try:
        copies = [tmp_path / name / "holiday.mp4" for name in ("ann", "bob")]
        await becomes(lambda: all(path.exists() for path in copies) or ann.done() or bob.done())
        assert [path.read_bytes() == raw for path in copies] == [True, True]
        where = await grid.client.where("holiday.mp4")
        assert "host1" not in {copy.host_name for copy in where.placements}
    finally:
        await asyncio.gather(ended(ann), ended(bob))


async def test_a_pipeline_counts_what_comes_also_after_a_restart(grid: Grid) -> None:
    async with bitdew.connect() as dew:

        async def counts(name: str) -> bytes:
            async with asyncio.timeout(30):
                while True:
                    try:
                        return await dew.read(f"{name}.counts")
                    except BitDewError as fault:
                        if fault.key != "data.not-found":
                            raise
                        await asyncio.sleep(0.05)

        running = asyncio.create_task(example("pipeline").main())
        async with asyncio.timeout(30):
            while not any(one.name == "texts" for one in await dew.grid.attributes()):
                await asyncio.sleep(0.02)
        await dew.put(b"to be or not to be", "texts", name="hamlet")
        assert (await counts("hamlet")).splitlines()[:2] == [b"to 2", b"be 2"]
        await ended(running)
        await dew.put(b"all the world", "texts", name="as-you-like-it")
        running = asyncio.create_task(example("pipeline").main())
        assert await counts("as-you-like-it") == b"all 1\nthe 1\nworld 1\n"
        await ended(running)


async def test_a_disk_is_placed_in_ten_lines(grid: Grid, tmp_path: Path, capsys) -> None:
    (tmp_path / "root.img").write_bytes(bytes(510) + b"\x55\xaa" + os.urandom(100_000 - 512))
    place = example("place_disk").main
    await asyncio.to_thread(place, str(tmp_path / "root.img"), "cpus >= 1")
    told = capsys.readouterr().out
    assert "held on host" in told
    assert "is to run" in told


async def test_a_master_counts_words_on_many_workers(
    grid: Grid, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("vm1", "vm2"):
        await grid.add_host(name, jobs="anything", memory=4 * 2**30, cpus=2)
    (tmp_path / "hamlet").write_text("to be or not to be")
    monkeypatch.chdir(tmp_path)
    await example("master_worker").main(tmp_path / "hamlet", ["to", "be", "or"])
    assert capsys.readouterr().out.splitlines()[-3:] == ["to: 2", "be: 2", "or: 1"]


async def test_pi_is_estimated_by_calls_on_many_hosts(grid: Grid) -> None:
    for name in ("vm1", "vm2"):
        await grid.add_host(name, jobs="anything", memory=4 * 2**30, cpus=2)
    pi = example("estimate_pi")
    vars(pi)["hits"].__module__ = "__main__"  # as where it is run: functions of the program itself go along
    assert 3.1 < await asyncio.to_thread(pi.main, 2) < 3.2
