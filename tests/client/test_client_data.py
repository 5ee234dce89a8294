"""Attributes and data through the developer's API, against a real service and workers in this process."""

import asyncio
import hashlib
import os
import random

import pytest

from bitdew import Attribute, BitDew, BitDewError
from bitdew.client.enrolment import enrol
from bitdew.client.image import FileSource
from bitdew.client.reading import Reader
from bitdew.testing.grid import Grid
from bitdew.trust.identity import IdentityFolder
from bitdew.trust.roles import Role
from bitdew.wire import limits
from bitdew.wire.models import DatumRequest, DiskView, UploadDone

MB = 2**20


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "inputs.bin"
    path.write_bytes(random.Random(1).randbytes(MB + 7))
    return path


async def refused(work):
    with pytest.raises(BitDewError) as caught:
        await work
    return caught.value


def announced(name, attribute=None, size=5):
    root = hashlib.sha256(name.encode()).hexdigest()
    return DatumRequest(name=name, root=root, size=size, attribute=attribute or {})


def stored(grid):
    folder = grid.folder / "service" / "repository"
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and not path.suffix)


# Attributes -----------------------------------------------------------------------------------------------------------


async def test_an_attribute_is_defined_changed_shown_and_forgotten(grid):
    client = grid.client
    made = await client.define("root", Attribute(replica=3, fault_tolerance=True))
    assert (made.wishes, made.version, made.data) == ({"replica": 3, "ft": True}, 1, 0)
    assert (await refused(client.define("root", {}, replace=False))).key == "attribute.name-taken"
    changed = await client.define("root", {"replica": 2})
    assert (changed.uid, changed.wishes, changed.version) == (made.uid, {"replica": 2}, 2)
    assert await client.attributes() == [changed] == [await client.attribute("root")]
    await client.forget("root")
    assert await client.attributes() == []
    assert (await refused(client.attribute("root"))).key == "attribute.not-found"


async def test_a_dangling_name_comes_back_with_the_nearest(grid):
    await grid.client.create([announced("hep-inputs")])
    fault = await refused(grid.client.define("near", {"affinity": "hep-input"}))
    assert (fault.key, fault.do) == ("attribute.dangling", "Did you mean 'hep-inputs'?")


async def test_a_user_reads_attributes_and_data_and_changes_none(grid, tmp_path, file):
    await grid.client.define("root", {})
    await grid.client.create([announced("one")])
    token = (await grid.client.create_token("user")).token
    await enrol(grid.service.url, token, "ada", IdentityFolder(tmp_path / "user"), {Role.USER})
    async with BitDew.connect(tmp_path / "user") as user:
        assert len(await user.attributes()) == 1
        assert (await user.datum("one")).name == "one"
        for work in (
            user.define("mine", {}),
            user.forget("root"),
            user.create([announced("two")]),
            user.put(file, "two"),
            user.choose("one", "root"),
            user.remove("one"),
        ):
            assert (await refused(work)).key == "certificate.role"


# Data -----------------------------------------------------------------------------------------------------------------


async def test_data_are_created_in_batches_and_listed_page_by_page(grid, monkeypatch):
    monkeypatch.setattr(limits, "BATCH", 4)
    monkeypatch.setattr(limits, "PAGE", 3)
    names = [f"run-{number}" for number in range(9)] + ["other"]
    uids = await grid.client.create(announced(name) for name in names)
    assert [(await grid.client.datum(uid)).name for uid in uids] == names
    assert [one.name async for one in grid.client.data()] == sorted(names)
    assert [one.name async for one in grid.client.data("run-")] == names[:-1]
    page = await grid.client.page("run-", after="run-4", limit=2)
    assert ([one.name for one in page.data], page.next) == (["run-5", "run-6"], "run-6")


async def test_a_datum_tells_its_wishes_and_its_end(grid):
    await grid.client.define("brief", {"lifetime": "7d", "replica": 2})
    await grid.client.create([announced("one", "brief"), announced("two", {"replica": 0})])
    one, two = await grid.client.datum("one"), await grid.client.datum("two")
    assert (one.attribute_name, one.attribute, one.wanted) == ("brief", {"lifetime": "7d", "replica": 2}, 2)
    assert (one.awaited, one.is_disk, (one.ends - one.created).days) == (True, False, 7)
    assert (two.attribute_name, two.attribute, two.wanted, two.ends) == (None, {"replica": 0}, 0, None)
    await grid.client.choose("one", Attribute(replica=5))
    assert ((await grid.client.datum("one")).wanted, (await grid.client.datum("one")).ends) == (5, None)
    await grid.client.choose("one", "brief")
    assert (await grid.client.datum("one")).ends == one.ends


async def test_a_file_that_is_put_is_in_the_repository_and_was_read_once(grid, file, monkeypatch):
    read, sent, places = [], [], []
    read_at = FileSource.read_at

    def noted(self, offset, length):
        places.append((offset, length))
        return read_at(self, offset, length)

    monkeypatch.setattr(FileSource, "read_at", noted)
    datum = await grid.client.put(
        file, "inputs", reading=lambda *done: read.append(done), sending=lambda *done: sent.append(done)
    )
    assert (datum.name, datum.size, datum.awaited, datum.is_disk) == ("inputs", MB + 7, False, False)
    assert (read, sent[-1]) == ([], (datum.size, datum.size))
    assert sum(length for _, length in places) == datum.size
    assert stored(grid) == [datum.root]
    assert datum.info_hash in grid.service.swarm.offers


async def test_bytes_that_are_there_are_not_sent_again(grid, file):
    first = await grid.client.put(file, "one")
    read, sent = [], []
    second = await grid.client.put(
        file, "two", reading=lambda *done: read.append(done), sending=lambda *done: sent.append(done)
    )
    assert (second.root, second.awaited, read[-1], sent) == (first.root, False, (MB + 7, MB + 7), [])
    disk = await grid.client.add_disk(file, "three")
    assert (disk.root, stored(grid)) == (first.root, [first.root])
    for name in ("one", "three"):
        await grid.client.remove(name)
    assert stored(grid) == [first.root]
    await grid.client.remove("two")
    assert stored(grid) == []


@pytest.mark.parametrize("at", [0, MB // 2, MB + 6])
async def test_other_bytes_of_the_same_size_are_sent_though_they_look_alike(grid, file, tmp_path, at):
    first = await grid.client.put(file, "one")
    other = tmp_path / "other"
    changed = bytearray(file.read_bytes())
    changed[at] ^= 1
    other.write_bytes(changed)
    second = await grid.client.put(other, "two")
    assert second.root != first.root
    assert sorted(stored(grid)) == sorted([first.root, second.root])
    kept = grid.folder / "service" / "repository" / "files" / second.root
    assert await asyncio.to_thread(kept.read_bytes) == changed


async def test_bytes_that_go_away_while_they_are_identified_are_sent(grid, file):
    await grid.client.put(file, "one")
    loop, removing = asyncio.get_running_loop(), []

    def reading(*_):
        if not removing:
            removing.append(loop.create_task(grid.client.remove("one")))

    identify = Reader.identify

    async def slow(self, progress=None):
        content = await identify(self, progress)
        await removing[0]
        return content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Reader, "identify", slow)
        second = await grid.client.put(file, "two", reading=reading)
    assert (stored(grid), second.awaited) == ([second.root], False)


async def test_an_empty_file_is_a_datum_and_no_disk(grid, tmp_path):
    empty = tmp_path / "empty"
    empty.touch()
    datum = await grid.client.put(empty, "nothing")
    assert (datum.size, datum.root, datum.awaited) == (0, hashlib.sha256(b"").hexdigest(), False)
    assert stored(grid) == [datum.root]
    assert (await refused(grid.client.add_disk(empty, "disk"))).key == "disk.empty"
    await grid.client.put(empty, "again")
    await grid.client.remove("nothing")
    assert stored(grid) == [datum.root]
    await grid.client.remove("again")
    assert stored(grid) == []


async def test_a_datum_that_awaits_these_bytes_gets_them_and_another_of_its_name_is_refused(grid, file, tmp_path):
    datum = await grid.client.put(file, "one")
    await grid.client.remove("one")
    await grid.client.create([DatumRequest(name="one", root=datum.root, size=datum.size, attribute={"replica": 4})])
    filled = await grid.client.put(file, "one")
    assert (filled.awaited, filled.wanted) == (False, 4)
    assert (await refused(grid.client.put(file, "one"))).key == "disk.name-taken"
    (tmp_path / "other").write_bytes(b"other")
    assert (await refused(grid.client.put(tmp_path / "other", "one"))).key == "disk.name-taken"


async def test_bytes_that_are_not_those_a_datum_awaits_are_refused_before_or_after_they_are_sent(grid, file, tmp_path):
    datum = await grid.client.put(file, "there")
    await grid.client.remove("there")
    await grid.client.create([DatumRequest(name="one", root=datum.root, size=datum.size)])
    other, sent = tmp_path / "other", []
    other.write_bytes(b"other")
    fault = await refused(grid.client.put(other, "one", sending=lambda *done: sent.append(done)))
    assert (fault.key, sent) == ("disk.changed", [])
    other.write_bytes(random.Random(2).randbytes(datum.size))
    assert (await refused(grid.client.put(other, "one"))).key == "disk.changed"
    assert (stored(grid), (await grid.client.datum("one")).awaited) == ([], True)
    assert not (await grid.client.put(file, "one")).awaited


async def test_an_unknown_attribute_is_told_before_the_file_is_read(grid, file):
    read = []
    fault = await refused(grid.client.put(file, "one", "root", sending=lambda *done: read.append(done)))
    assert (fault.key, read) == ("attribute.not-found", [])
    fault = await refused(grid.client.add_disk(file, "one", "root", progress=lambda *done: read.append(done)))
    assert (fault.key, read) == ("attribute.not-found", [])


async def test_a_disk_is_added_under_a_defined_attribute_and_is_a_datum_too(grid, file):
    await grid.client.define("root", {"replica": 2})
    disk = await grid.client.add_disk(file, "hep", "root")
    assert (disk.attribute_name, disk.wanted, disk.is_disk) == ("root", 2, True)
    datum = await grid.client.datum("hep")
    assert isinstance(datum, DiskView)
    assert datum == disk
    assert [(one.name, one.is_disk) async for one in grid.client.data()] == [("hep", True)]
    await grid.client.put(file, "plain")
    assert (await refused(grid.client.disk("plain"))).key == "data.not-found"
    assert [one.name for one in await grid.client.disks()] == ["hep"]


@pytest.mark.parametrize("change", [lambda path: os.utime(path, ns=(1, 1)), lambda path: os.truncate(path, 5)])
async def test_a_file_that_changes_while_it_is_read_leaves_nothing(grid, file, change):
    assert (await refused(grid.client.put(file, "one", sending=lambda *_: change(file)))).key == "disk.changed"
    assert (stored(grid), [one async for one in grid.client.data()]) == ([], [])


@pytest.mark.parametrize("name", ["../disks", "a/b", ""])
async def test_what_can_not_be_a_name_is_refused_here(grid, file, name):
    client = grid.client
    for work in (client.put(file, name), client.datum(name), client.attribute(name), client.remove(name)):
        assert (await refused(work)).key == "input.invalid"


async def test_copies_of_data_are_placed_followed_and_explained(file):
    async with Grid(2) as grid:
        await grid.client.define("both", {"replica": 2})
        datum = await grid.client.put(file, "one", "both")
        async with asyncio.timeout(60):
            async for reply in grid.client.watch("one"):
                if reply.data.held == 2:
                    break
        assert reply.data.uid == datum.uid
        told = await grid.client.explain("one")
        assert (told.wanted, told.held, told.missing, told.data.attribute_name) == (2, 2, 0, "both")
        assert {host.verdict for host in told.hosts} == {"holds"}
        await grid.client.remove("one")
        assert not (await grid.client.where("one")).data.alive
        ended = await refused(grid.client.remove("one"))
        assert (ended.key, ended.why.endswith("operator removed it")) == ("data.not-found", True)


async def test_bytes_that_nobody_awaits_are_refused_however_many_are_on_their_way(grid, file):
    async def zeros(count):
        for _ in range(count):
            yield bytes(MB)

    async def content(name, count):
        target = f"/v1/data/{name}/content"
        return await grid.client._call("PUT", target, UploadDone, body=zeros(count), seconds=30)

    await grid.client.put(file, "one")
    assert (await refused(content("one", 8))).key == "input.invalid"
    assert (await refused(content("none", 8))).key == "data.not-found"
    await grid.client.create([announced("short", size=MB), announced("long", size=8 * MB)])
    assert (await refused(content("short", 8))).key == "disk.changed"
    assert (await refused(content("long", 7))).key == "disk.changed"
    assert (await refused(content("long", 8))).key == "disk.changed"
    assert len(stored(grid)) == 1
