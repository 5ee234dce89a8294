"""Small data go in one request: with the same outcome as others, also when the service vanishes in between."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from bitdew import Attribute, BitDewError
from bitdew.client.image import FileSource
from bitdew.core.content import ContentHasher
from bitdew.core.errors import error
from bitdew.wire import limits
from bitdew.wire.models import AnyDatum, DatumRequest, WholeRequest


@pytest.fixture
def hosts() -> int:
    return 1


@pytest.fixture
def asked(dew, monkeypatch) -> list[str]:
    """What is asked of the service."""
    found: list[str] = []
    real = dew.grid._line.call

    async def call(method, path, *rest, **more):
        found.append(f"{method} {path.rpartition('/')[0] if 'data/' in path else path}")
        return await real(method, path, *rest, **more)

    monkeypatch.setattr(dew.grid._line, "call", call)
    return found


@pytest.mark.parametrize("size", [0, 1, 16384, 65536, 65537, limits.SMALL])
async def test_small_data_are_one_request_and_come_back(dew, asked: list[str], size: int) -> None:
    raw = os.urandom(size)
    datum = await dew.put(raw, name="small")
    assert asked == ["POST /v1/whole"]
    assert await datum.read() == raw
    assert (await datum.held(1)).data.held == 1


async def test_what_is_not_small_is_uploaded(dew, asked: list[str]) -> None:
    datum = await dew.put(os.urandom(limits.SMALL + 1), name="larger")
    assert datum.size == limits.SMALL + 1
    assert "POST /v1/whole" not in asked


def files(folder: Path) -> dict[str, Path]:
    """Small files, and a small folder, each with a peculiarity."""
    found = {name: folder / name for name in ("plain", "empty", "link", "holes", "fünf wörter", "folder")}
    found["plain"].write_bytes(b"plain")
    found["empty"].touch()
    found["link"].symlink_to(found["plain"])
    with found["holes"].open("wb") as file:
        file.truncate(limits.SMALL)
        file.seek(1000)
        file.write(b"something")
    found["fünf wörter"].write_bytes(b"words")
    found["folder"].mkdir()
    (found["folder"] / "one").write_bytes(b"one")
    return found


async def test_a_small_file_or_folder_is_one_request_too_however_it_is_put(
    dew, asked: list[str], tmp_path: Path
) -> None:
    (tmp_path / "back").mkdir()
    for number, path in enumerate(files(tmp_path).values()):
        seen: list[tuple[int, int]] = []
        view = await dew.grid.put(path, f"d-{number}", sending=lambda *now, seen=seen: seen.append(now))
        assert asked == ["POST /v1/whole"]
        assert seen == [(view.size, view.size)]
        await dew.grid.get(view.name, tmp_path / "back" / view.name)
        asked.clear()
        again = await dew.put(path, name=f"again-{number}")
        assert asked == ["POST /v1/whole"]
        assert (again.root, again.view.kind) == (view.root, view.kind)
        asked.clear()
        back = tmp_path / "back" / view.name
        if path.is_dir():
            assert [(one.name, one.read_bytes()) for one in back.iterdir()] == [("one", b"one")]
        else:
            assert back.read_bytes() == path.read_bytes()


async def test_a_small_file_that_changes_while_it_is_read_is_not_put(dew, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "changing"
    path.write_bytes(b"before")
    for change in (b"after, and longer", b"short"):
        real = FileSource.read_at

        def read_at(self, offset, length, change=change, real=real):
            raw = real(self, offset, length)
            path.write_bytes(change)
            return raw

        with monkeypatch.context() as patched:
            patched.setattr(FileSource, "read_at", read_at)
            with pytest.raises(BitDewError) as fault:
                await dew.grid.put(path, "changing")
        assert fault.value.key == "disk.changed"
    assert [one.name async for one in dew.search()] == []


async def test_a_file_is_not_put_where_no_service_is_and_nobody_waits_for_one(grid, dew, tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"notes")
    await grid.stop_service()
    with pytest.raises(BitDewError) as fault:
        await dew.grid.put(tmp_path / "notes", "notes")
    assert fault.value.key == "service.unreachable"


async def test_a_small_file_keeps_its_wishes_and_says_its_progress(dew, tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"notes")
    seen = []
    datum = await dew.put(tmp_path / "notes", Attribute(replica=0), progress=lambda *now: seen.append(now))
    assert (datum.name, datum.attribute, seen) == ("notes", Attribute(replica=0), [(5, 5)])


async def test_a_datum_that_waits_for_these_bytes_gets_them_and_keeps_its_wishes(dew) -> None:
    hasher = ContentHasher(9)
    hasher.update(b"the bytes")
    root = hasher.finish().root
    wishes = {"replica": 0}
    (uid,) = await dew.grid.create([DatumRequest(name="waits", root=root, size=9, attribute=wishes)])
    with pytest.raises(BitDewError) as fault:
        await dew.put(b"no  bytes", name="waits")
    assert fault.value.key == "disk.changed"
    datum = await dew.put(b"the bytes", Attribute(replica=5), name="waits")
    assert (datum.uid, datum.attribute, await datum.read()) == (uid, Attribute(replica=0), b"the bytes")


async def test_refusals_are_those_of_an_upload_and_leave_nothing(grid, dew) -> None:
    await dew.put(b"x", name="taken")
    for name, attribute, key in [
        ("taken", None, "disk.name-taken"),
        ("a/b", None, "input.invalid"),
        ("fresh", "no-such-attribute", "attribute.not-found"),
    ]:
        with pytest.raises(BitDewError) as fault:
            await dew.put(b"y", attribute, name=name)
        assert fault.value.key == key
    uploads = grid.service.rooms.contents.repository.uploads
    assert uploads.under_way == ()


async def test_bytes_that_are_not_what_was_said_are_refused(dew) -> None:
    wrong = WholeRequest(name="wrong", root="0" * 64, raw=b"something")
    with pytest.raises(BitDewError) as fault:
        await dew.grid.call("POST", "/v1/whole", AnyDatum, body=wrong)
    assert fault.value.key == "disk.changed"
    assert [one.name async for one in dew.search()] == []


async def test_an_answer_that_was_lost_is_found_again(dew, monkeypatch) -> None:
    real, lost = dew.grid._line.call, []

    async def call(method, path, *rest, **more):
        reply = await real(method, path, *rest, **more)
        if path == "/v1/whole" and not lost:
            lost.append(path)
            raise error("service.unreachable", "It does not answer")
        return reply

    monkeypatch.setattr(dew.grid._line, "call", call)
    datum = await dew.put(b"once", name="once")
    assert lost
    assert await datum.read() == b"once"


async def test_a_service_that_is_away_is_waited_for(grid, dew) -> None:
    dew.grid.patience = 30.0
    await grid.stop_service()
    putting = asyncio.create_task(dew.put(b"late", name="late"))
    await asyncio.sleep(0.3)
    await grid.start_service()
    async with asyncio.timeout(30):
        assert (await putting).size == 4
