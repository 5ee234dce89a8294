"""Inputs are there to be read, and the host's copy stays what it was, whatever the job does."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from bitdew.worker.jobs import inputs
from bitdew.worker.jobs.outputs import collect
from bitdew.worker.jobs.running import Runner
from bitdew.worker.jobs.warden import plan

from bitdew.core.errors import BitDewError

from .conftest import MB, python, shell

CHANGES = """
import os
def tried(what):
    try: what()
    except OSError: pass
for name in ("in.bin", "a/b/in.bin"):
    assert open(name, "rb").read() == b"delivered" * 1000
    tried(lambda: os.chmod(name, 0o666))
    tried(lambda: open(name, "r+b").write(b"XXXX"))
    tried(lambda: os.truncate(name, 3))
    tried(lambda: os.utime(name, (1, 1)))
    tried(lambda: os.link(name, name + ".link"))
    tried(lambda: os.rename(name, name + ".moved"))
    tried(lambda: os.unlink(name))
"""


@pytest.mark.parametrize("way", ["shown", "copied"])
@pytest.mark.parametrize("machine", [False, True], ids=["native", "machine"])
async def test_a_job_reads_its_inputs_and_never_changes_the_hosts_copy(way: str, machine: bool, tmp_path: Path) -> None:
    runner = Runner(anything=machine)
    found = await runner.isolation(tmp_path)
    if way == "shown" and plan.MOUNTS not in found.means:
        pytest.skip("this system gives a job no view of its own")
    if way == "copied" and os.getuid() == 0 and not machine:
        pytest.skip("root's jobs have a view of their own")
    if way == "copied":
        assert runner._probed is not None
        alone = {plan.LANDLOCK} if not machine else set()
        runner._probed = type(found)(frozenset(alone & runner._probed.means), found.landlock)
    copy = tmp_path / "held"
    copy.write_bytes(b"delivered" * 1000)
    copy.chmod(0o644)
    before = copy.stat()
    run = python(tmp_path, CHANGES)
    for name in ("in.bin", "a/b/in.bin"):
        assert await runner.stage(run, name, copy) in ({"shown"} if way == "shown" else {"copied", "cloned"})
    report = await (await runner.start(run)).wait()
    assert report.succeeded, report
    after = copy.stat()
    assert copy.read_bytes() == b"delivered" * 1000
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, 1)
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    await runner.close()


async def test_a_copy_that_is_the_owners_alone_is_given_as_bytes(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "held").write_bytes(b"x" * 100)
    (tmp_path / "held").chmod(0o600)
    run = shell(tmp_path, "cat in")
    await runner.stage(run, "in", tmp_path / "held")
    assert (await (await runner.start(run)).wait()).tail == b"x" * 100


async def test_inputs_that_are_shown_take_no_room_and_are_no_outputs(runner: Runner, tmp_path: Path) -> None:
    if plan.MOUNTS not in (await runner.isolation(tmp_path)).means:
        pytest.skip("this system gives a job no view of its own")
    (tmp_path / "held").write_bytes(os.urandom(8 * MB))
    run = shell(tmp_path, "cksum < in > out; sleep 0.5", disk=MB)
    await runner.stage(run, "in", tmp_path / "held")
    assert (await (await runner.start(run)).wait()).succeeded
    found = await asyncio.to_thread(collect, run.work, ["*"], exclude=["in"])
    assert [output.name for output in found.found] == ["out"]


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "held"
    with source.open("wb") as file:
        file.seek(64 * MB)
        file.write(b"end")
        file.truncate(100 * MB)
    place = inputs.place_for(tmp_path / "work", "in") if (tmp_path / "work").mkdir() is None else source
    assert inputs.copy(source, place) in {"copied", "cloned"}
    assert place.stat().st_size == 100 * MB
    assert place.stat().st_blocks * 512 < MB
    with place.open("rb") as file:
        file.seek(64 * MB)
        assert file.read(4) == b"end\0"
    assert place.stat().st_mode & 0o777 == 0o444


def test_an_empty_input_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "held").touch()
    (tmp_path / "work").mkdir()
    inputs.copy(tmp_path / "held", place := inputs.place_for(tmp_path / "work", "in"))
    assert place.read_bytes() == b""


async def test_staging_that_is_cancelled_ends_before_all_is_copied(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def slow(reading: int, writing: int, at: int, size: int) -> int:
        nonlocal asked
        asked += 1
        loop.call_soon_threadsafe(begun.set)
        return os.pwrite(writing, b"x", at)

    loop, begun = asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(inputs, "_copy_part", slow)
    monkeypatch.setattr(inputs, "_CLONE", 0)
    await runner.isolation(tmp_path)
    assert runner._probed is not None
    runner._probed = type(runner._probed)(frozenset({plan.LANDLOCK}), 7)
    (tmp_path / "held").write_bytes(b"x" * 2 * MB)
    task = asyncio.create_task(runner.stage(shell(tmp_path, "true"), "in", tmp_path / "held"))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asked < 2 * MB


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a\nb", "a\0b", "x" * 256, "/".join("a" * 17), "a/"]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BitDewError) as refused:
        inputs.place_for(tmp_path, name)
    assert refused.value.key == "input.invalid"
    assert list(tmp_path.iterdir()) == []


def test_two_inputs_can_not_have_one_name(tmp_path: Path) -> None:
    inputs.place_for(tmp_path, "a/b")
    for name in ("a/b", "a", "a/b/c"):
        with pytest.raises(BitDewError, match="in the way"):
            inputs.place_for(tmp_path, name)


def test_what_is_not_held_can_not_be_copied(tmp_path: Path) -> None:
    place = inputs.place_for(tmp_path, "in")
    with pytest.raises(BitDewError) as refused:
        inputs.copy(tmp_path / "none", place)
    assert refused.value.key == "storage.failed"
