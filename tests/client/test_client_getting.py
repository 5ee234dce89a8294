"""Getting bytes back, against a real service in this process: whole, verified, resumed, and never over anything."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from types import SimpleNamespace

import pytest

from bitdew import Attribute, BitDew, BitDewError
from bitdew.client import getting, ranges
from bitdew.client.enrolment import enrol
from bitdew.client.part import PartFile
from bitdew.core.content import ContentHasher
from bitdew.core.data import Kind
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire.models import DatumRequest

MB = 2**20
NOWHERE = Attribute(replica=0)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "events.root"
    path.write_bytes(random.Random(7).randbytes(9 * MB + 17))
    return path


@pytest.fixture
def folder(tmp_path):
    top = tmp_path / "run"
    (top / "logs").mkdir(parents=True)
    (top / "logs" / "one").write_text("a line\n")
    (top / "data").write_bytes(random.Random(8).randbytes(3 * MB))
    (top / "go").write_text("#!/bin/sh\n")
    (top / "go").chmod(0o755)
    (top / "last").symlink_to("logs/one")
    return top


async def refused(work):
    with pytest.raises(BitDewError) as fault:
        await work
    return fault.value


class Line:
    """What goes over a connection, and how it may break."""

    def __init__(self, client, *, breaks_after=None, spoil=False):
        self.left, self.spoil, self.asked, self.broke = breaks_after, spoil, [], asyncio.Event()
        self._whole = client._line.download
        client._line.download = self.download

    async def download(self, path, start, end, **named):
        self.asked.append((start, end))
        async for chunk in self._whole(path, start, end, **named):
            if self.left is not None:
                self.left -= len(chunk)
                if self.left < 0:
                    self.broke.set()
                    raise BitDewError("service.unreachable", "it broke off")
            yield bytes(len(chunk)) if self.spoil else chunk


@pytest.mark.parametrize("size", [0, 1, 16384, 65536, 65537, 9 * MB + 17])
async def test_a_file_comes_back_as_it_was(grid, tmp_path, size):
    (tmp_path / "file").write_bytes(random.Random(size).randbytes(size))
    await grid.client.put(tmp_path / "file", "one", NOWHERE)
    seen = []
    got = await grid.client.get("one", tmp_path / "back", fetching=lambda *told: seen.append(told))
    assert (got.path, got.fetched, got.data.name) == (tmp_path / "back", size, "one")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
    assert seen[-1:] == [(size, size)][:size]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "file"]


async def test_without_a_path_it_comes_into_the_current_folder_under_its_name(grid, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    await grid.client.put(file, "one", NOWHERE)
    assert (await grid.client.get("one")).path == tmp_path / "one"
    assert (tmp_path / "one").read_bytes() == file.read_bytes()


async def test_a_folder_comes_back_as_a_folder_or_as_an_archive(grid, folder, tmp_path):
    datum = await grid.client.put(folder, "run", NOWHERE)
    assert (datum.kind, (await grid.client.datum("run")).kind) == (Kind.FOLDER, Kind.FOLDER)
    await grid.client.get("run", tmp_path / "back")
    assert (tmp_path / "back" / "data").read_bytes() == (folder / "data").read_bytes()
    assert (tmp_path / "back" / "last").read_text() == "a line\n"
    assert os.access(tmp_path / "back" / "go", os.X_OK)
    got = await grid.client.get("run", tmp_path / "run.tar", archive=True)
    assert got.path.stat().st_size == datum.size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "run", "run.tar"]


async def test_the_same_folder_made_elsewhere_is_the_same_content(grid, folder, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "other", symlinks=True)
    one = await grid.client.put(folder, "one", NOWHERE)
    sent = []
    other = await grid.client.put(tmp_path / "other", "other", NOWHERE, sending=lambda *told: sent.append(told))
    assert (one.root, sent) == (other.root, [])


async def test_a_folder_that_changes_while_it_is_put_is_not_put(grid, folder):
    def change(*_: object) -> None:
        os.utime(folder / "go", (1, 1))

    assert (await refused(grid.client.put(folder, "run", NOWHERE, sending=change))).key == "disk.changed"
    assert [one async for one in grid.client.data()] == []


async def test_zeros_are_not_fetched_and_stay_holes(grid, tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"begin")
        file.seek(64 * MB - 3)
        file.write(b"end")
    await grid.client.put(path, "one", NOWHERE)
    got = await grid.client.get("one", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert got.fetched <= MB
    assert (tmp_path / "back").stat().st_blocks * 512 <= 2 * MB


async def test_what_broke_off_goes_on_where_it_stopped(grid, file, tmp_path, monkeypatch):
    monkeypatch.setattr(getting, "ATTEMPTS", 1)
    monkeypatch.setattr(getting, "RUN", MB)
    await grid.client.put(file, "one", NOWHERE)
    line = Line(grid.client, breaks_after=4 * MB)
    assert (await refused(grid.client.get("one", tmp_path / "back"))).key == "service.unreachable"
    assert not (tmp_path / "back").exists()
    line.left = None
    checked = []
    got = await grid.client.get("one", tmp_path / "back", checking=lambda *told: checked.append(told))
    assert 0 < got.fetched < file.stat().st_size - MB
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    assert checked[-1] == (got.data.size, got.data.size)


async def test_a_line_that_breaks_for_a_moment_is_borne(grid, file, tmp_path):
    await grid.client.put(file, "one", NOWHERE)
    line = Line(grid.client, breaks_after=3 * MB)
    getting_it = asyncio.create_task(grid.client.get("one", tmp_path / "back"))
    await line.broke.wait()
    line.left = None
    await getting_it
    assert (tmp_path / "back").read_bytes() == file.read_bytes()


async def test_what_was_spoilt_meanwhile_is_fetched_again(grid, file, tmp_path):
    datum = await grid.client.put(file, "one", NOWHERE)
    part = tmp_path / f"back.{datum.root[:16]}.part"
    spoilt = bytearray(file.read_bytes())
    spoilt[5 * MB] ^= 1
    part.write_bytes(bytes(spoilt) + b"too much")
    got = await grid.client.get("one", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    assert got.fetched == 65536


async def test_wrong_bytes_are_never_put_anywhere(grid, file, tmp_path):
    await grid.client.put(file, "one", NOWHERE)
    Line(grid.client, spoil=True)
    assert (await refused(grid.client.get("one", tmp_path / "back"))).key == "swarm.corrupt"
    assert (await refused(grid.client.read("one", 5, 10))).key == "swarm.corrupt"
    (part,) = [path for path in tmp_path.iterdir() if path != file]
    assert (part.suffix, part.stat().st_blocks) == (".part", 0)


async def test_nothing_is_overwritten_without_force(grid, file, folder, tmp_path):
    await grid.client.put(file, "one", NOWHERE)
    await grid.client.put(folder, "run", NOWHERE)
    there, inside = tmp_path / "there", tmp_path / "inside"
    there.write_text("precious")
    inside.mkdir()
    for name, target in (("one", there), ("run", there), ("one", inside), ("run", inside)):
        assert (await refused(grid.client.get(name, target))).key == "data.in-the-way"
    for name, target in (("one", inside), ("run", there)):
        assert (await refused(grid.client.get(name, target, force=True))).key == "data.in-the-way"
    assert (there.read_text(), list(inside.iterdir())) == ("precious", [])
    await grid.client.get("one", there, force=True)
    await grid.client.get("run", inside, force=True)
    assert there.read_bytes() == file.read_bytes()
    assert (inside / "data").read_bytes() == (folder / "data").read_bytes()


async def test_what_comes_to_the_target_meanwhile_stays(grid, file, tmp_path, monkeypatch):
    await grid.client.put(file, "one", NOWHERE)
    there = tmp_path / "there"
    there.write_text("precious")
    with monkeypatch.context() as later:
        later.setattr(getting, "_require_free", lambda *_, **__: None)  # it was free when this began
        fault = await refused(grid.client.get("one", there))
    assert (fault.key, there.read_text()) == ("data.in-the-way", "precious")
    there.unlink()
    assert (await grid.client.get("one", there)).fetched == 0


async def test_a_disk_without_room_is_told_before_anything_is_fetched(grid, file, folder, tmp_path, monkeypatch):
    await grid.client.put(file, "one", NOWHERE)
    size = (await grid.client.put(folder, "run", NOWHERE)).size
    line = Line(grid.client)
    monkeypatch.setattr(getting.shutil, "disk_usage", lambda _path: SimpleNamespace(free=9 * MB))
    fault = await refused(grid.client.get("one", tmp_path / "back"))
    assert (fault.key, fault.fields["free"], line.asked) == ("storage.full", 9 * MB, [])
    monkeypatch.setattr(getting.shutil, "disk_usage", lambda _path: SimpleNamespace(free=size + MB))
    assert (await refused(grid.client.get("run", tmp_path / "back"))).key == "storage.full"


async def test_two_do_not_fetch_into_one_file(grid, file, tmp_path):
    await grid.client.put(file, "one", NOWHERE)
    content = await grid.client._content(await grid.client.datum("one"))
    part = PartFile(tmp_path / f"back.{content.root[:16]}.part", content)
    try:
        assert (await refused(grid.client.get("one", tmp_path / "back"))).key == "storage.locked"
    finally:
        part.close()


async def test_what_is_cancelled_can_go_on(grid, file, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(getting, "RUN", MB)
    for name, source in (("one", file), ("run", folder)):
        await grid.client.put(source, name, NOWHERE)
        begun = asyncio.Event()
        work = asyncio.create_task(grid.client.get(name, tmp_path / "back", fetching=lambda *_, b=begun: b.set()))
        await begun.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert not (tmp_path / "back").exists()
        got = await grid.client.get(name, tmp_path / "back")
        assert got.fetched < got.data.size
        (tmp_path / "back").rename(tmp_path / f"{name}.back")


async def test_unpacking_that_is_cancelled_leaves_nothing_half_done(grid, folder, tmp_path):
    await grid.client.put(folder, "run", NOWHERE)
    begun, cancelled, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def told(*_):
        loop.call_soon_threadsafe(begun.set)
        cancelled.wait(30)  # or else it may be over before it is cancelled

    work = asyncio.create_task(grid.client.get("run", tmp_path / "back", unpacking=told))
    await begun.wait()
    work.cancel()
    await asyncio.sleep(0)
    cancelled.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert {path.suffix for path in tmp_path.iterdir()} <= {"", ".part", ".root"}
    assert (await grid.client.get("run", tmp_path / "back")).fetched == 0


async def test_bytes_that_are_not_in_the_repository_are_told_as_such(grid, tmp_path):
    hasher = ContentHasher(3)
    hasher.update(b"abc")
    root = hasher.finish().root
    await grid.client.create([DatumRequest(name="later", root=root, size=3, attribute={"replica": 0})])
    fault = await refused(grid.client.read("later", 0, 1))
    assert (fault.key, "repository does not have" in fault.why) == ("data.nowhere", True)
    fault = await refused(grid.client.get("later", tmp_path / "back"))
    assert (fault.key, "repository does not have" in fault.why) == ("data.nowhere", True)
    assert (await refused(grid.client.get("none"))).key == "data.not-found"


async def test_what_has_ended_can_not_be_fetched_any_more(grid, file, tmp_path):
    await grid.client.put(file, "one", NOWHERE)
    await grid.client.remove("one")
    fault = await refused(grid.client.get("one", tmp_path / "back"))
    assert (fault.key, "removed it" in fault.why) == ("data.not-found", True)


async def test_a_folder_to_put_it_in_has_to_be_there(grid, file, tmp_path):
    await grid.client.put(file, "one", NOWHERE)
    assert (await refused(grid.client.get("one", tmp_path / "no" / "back"))).key == "disk.file-missing"


async def test_an_archive_that_is_none_is_refused_and_can_be_had_as_a_file(grid, file, tmp_path):
    datum = await grid.client.put(file, "one", NOWHERE)
    wrong = DatumRequest(name="wrong", root=datum.root, size=datum.size, kind=Kind.FOLDER, attribute={"replica": 0})
    await grid.client.create([wrong])
    assert (await refused(grid.client.get("wrong", tmp_path / "back"))).key == "input.invalid"
    assert (await grid.client.get("wrong", tmp_path / "back", archive=True)).fetched == 0
    assert (tmp_path / "back").read_bytes() == file.read_bytes()


async def test_any_range_can_be_read(grid, file):
    await grid.client.put(file, "one", NOWHERE)
    raw = file.read_bytes()
    for start, end in ((0, 0), (0, 1), (65535, 65537), (MB - 7, 4 * MB + 9), (len(raw) - 1, len(raw)), (0, len(raw))):
        assert await grid.client.read("one", start, end) == raw[start:end]
    for start, end in ((-1, 5), (7, 5), (0, len(raw) + 1)):
        assert (await refused(grid.client.read("one", start, end))).key == "input.invalid"


async def test_the_hashes_of_what_is_read_in_many_parts_are_asked_for_once(grid, file, tmp_path, monkeypatch):
    monkeypatch.setattr(ranges, "KNOWN", 2)
    asked = []
    call = grid.client._call

    async def counted(method, path, reply, **named):
        asked.append(path)
        return await call(method, path, reply, **named)

    monkeypatch.setattr(grid.client, "_call", counted)
    for number in range(3):
        (tmp_path / "other").write_bytes(random.Random(number).randbytes(70_000))
        await grid.client.put(tmp_path / "other", f"n{number}", NOWHERE)
        for start in range(0, 1000, 100):
            await grid.client.read(f"n{number}", start, start + 100)
    assert sum("/metainfo/" in path for path in asked) == 3
    assert len(grid.client._contents) == 2


async def test_no_more_can_be_read_at_once_than_memory_bears(grid, file, monkeypatch):
    await grid.client.put(file, "one", NOWHERE)
    monkeypatch.setattr(ranges, "LARGEST_READ", 100)
    assert (await refused(grid.client.read("one", 0, 101))).key == "input.too-large"


async def test_users_get_what_publishers_put(grid, file, tmp_path):
    await grid.client.put(file, "one", NOWHERE)
    token = (await grid.client.create_token("user")).token or ""
    await enrol(grid.service.url, token, "ada", IdentityFolder(grid.folder / "ada"), [Role.USER])
    async with BitDew.connect(grid.folder / "ada") as ada:
        await ada.get("one", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()


async def test_where_there_are_no_hard_links_nothing_is_overwritten_either(grid, file, tmp_path, monkeypatch):
    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("bitdew.client.part.os.link", no_link)
    await grid.client.put(file, "one", NOWHERE)
    there = tmp_path / "there"
    there.write_text("precious")
    with monkeypatch.context() as later:
        later.setattr(getting, "_require_free", lambda *_, **__: None)  # it was free when this began
        fault = await refused(grid.client.get("one", there))
    assert (fault.key, there.read_text()) == ("data.in-the-way", "precious")
    there.unlink()
    await grid.client.get("one", there)
    assert there.read_bytes() == file.read_bytes()
