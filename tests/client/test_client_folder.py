"""A real folder as a source of bytes, and back: real files, links, holes, and the real `tar`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitdew.client import folder as room
from bitdew.client.folder import FolderSource
from bitdew.client.source import ByteSource
from bitdew.client.unpacking import CHUNK, Unpacking
from bitdew.core.content import BLOCK
from bitdew.core.errors import BitDewError
from bitdew.core.tree import Entry, EntryKind, header


def whole(source: ByteSource) -> bytes:
    return source.read_at(0, source.size)


def state(top: Path) -> dict[str, object]:
    """What is in a folder: bytes and whether they are executable, links, and folders."""
    found: dict[str, object] = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = None
        else:
            found[name] = path.read_bytes(), os.access(path, os.X_OK) and bool(path.stat().st_mode & 0o100)
    return found


def unpack(raw: bytes, target: Path, *, force: bool = False) -> None:
    Unpacking(lambda offset, length: raw[offset : offset + length], len(raw), target).run(force=force)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A folder with some of everything."""
    made = tmp_path / "top"
    (made / "src" / "deep" / "er").mkdir(parents=True)
    (made / "nothing here").mkdir()
    (made / "empty").touch()
    (made / "data.bin").write_bytes(os.urandom(3 * BLOCK + 17))
    (made / "run.sh").write_text("#!/bin/sh\necho hello\n")
    (made / "run.sh").chmod(0o750)
    (made / "src" / "deep" / "\u00e9t\u00e9").write_text("summer")
    (made / "src" / ("long" * 50)).write_text("a long name")
    (made / "src" / "up").symlink_to("../data.bin")
    (made / "src" / "nowhere").symlink_to("missing")
    (made / "a folder").symlink_to("src")
    with (made / "sparse").open("wb") as file:
        file.seek(5 * 2**20)
        file.write(b"end")
    return made


def test_a_folder_comes_back_as_it_was(top: Path, tmp_path: Path) -> None:
    source = FolderSource(top)
    unpack(whole(source), tmp_path / "back")
    assert state(tmp_path / "back") == state(top)
    assert whole(FolderSource(tmp_path / "back")) == whole(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "top"]


def test_gnu_tar_unpacks_the_same_folder(top: Path, tmp_path: Path) -> None:
    assert shutil.which("tar")
    archive = tmp_path / "top.tar"
    archive.write_bytes(whole(FolderSource(top)))
    (tmp_path / "back").mkdir()
    done = subprocess.run(["tar", "-xf", archive, "-C", tmp_path / "back"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert state(tmp_path / "back") == state(top)


def test_owners_times_and_other_permissions_change_nothing(top: Path) -> None:
    before = whole(FolderSource(top))
    os.utime(top / "data.bin", (1, 2))
    (top / "data.bin").chmod(0o600)
    (top / "run.sh").chmod(0o777)
    assert whole(FolderSource(top)) == before
    (top / "run.sh").chmod(0o644)
    assert whole(FolderSource(top)) != before


NAME = st.text(st.sampled_from("abcXYZ \u00e9\u4e2d.-_"), min_size=1, max_size=6).filter(lambda n: n not in {".", ".."})
TREE = st.recursive(
    st.one_of(
        st.binary(max_size=100).map(lambda raw: ("file", raw, False)),
        st.sampled_from([BLOCK - 1, BLOCK, 3 * BLOCK + 5]).map(lambda size: ("file", b"x" * size, True)),
        NAME.map(lambda name: ("link", name, False)),
    ),
    lambda inside: st.dictionaries(NAME, inside, max_size=5).map(lambda names: ("folder", names, False)),
    max_leaves=12,
)


def build(place: Path, names: dict, order: list[str]) -> None:
    place.mkdir()
    for name in order:
        kind, what, executable = names[name]
        path = place / name
        if kind == "folder":
            build(path, what, list(what))
        elif kind == "link":
            path.symlink_to(what)
        else:
            path.write_bytes(what)
            path.chmod(0o755 if executable else 0o644)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.dictionaries(NAME, TREE, max_size=6), chance=st.randoms())
def test_any_tree_round_trips_and_is_the_same_in_whatever_order_it_was_made(tmp_path_factory, names, chance) -> None:
    place = tmp_path_factory.mktemp("trees")
    build(place / "one", names, list(names))
    build(place / "two", names, chance.sample(list(names), len(names)))
    raw = whole(FolderSource(place / "one"))
    assert whole(FolderSource(place / "two")) == raw
    unpack(raw, place / "back")
    assert state(place / "back") == state(place / "one")
    shutil.rmtree(place)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_range_is_the_same_as_in_the_whole(top: Path, data) -> None:
    source = FolderSource(top)
    expected = whole(source)
    start = data.draw(st.integers(0, source.size))
    end = data.draw(st.integers(start, min(source.size, start + 3 * BLOCK)))
    assert source.read_at(start, end - start) == expected[start:end]


def test_holes_are_told_where_they_are_in_the_archive(top: Path) -> None:
    source = FolderSource(top)
    raw, holes = whole(source), source.holes()
    assert sum(end - start for start, end in holes) >= 4 * 2**20
    assert all(not any(raw[start:end]) for start, end in holes)
    assert holes == sorted(holes)


def test_zeros_stay_holes_when_they_come_back(top: Path, tmp_path: Path) -> None:
    unpack(whole(FolderSource(top)), tmp_path / "back")
    about = (tmp_path / "back" / "sparse").stat()
    assert (about.st_size, about.st_blocks * 512 <= CHUNK + 8192) == (5 * 2**20 + 3, True)


def test_the_fingerprint_is_that_of_an_unchanged_folder(top: Path) -> None:
    before = FolderSource(top).fingerprint
    assert FolderSource(top).fingerprint == before
    (top / "empty").write_text("x")
    assert FolderSource(top).fingerprint != before
    assert len(before) == 64


# What is refused ------------------------------------------------------------------------------------------------------


def refused(work, *arguments, **named) -> BitDewError:
    with pytest.raises(BitDewError) as fault:
        work(*arguments, **named)
    return fault.value


def test_sockets_and_pipes_are_refused_by_name(top: Path) -> None:
    os.mkfifo(top / "src" / "pipe")
    fault = refused(FolderSource, top)
    assert (fault.key, fault.why, fault.fields["path"]) == ("input.invalid", "it is a pipe", "src/pipe")
    (top / "src" / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as one:
        os.chdir(top)
        one.bind("socket")
        assert refused(FolderSource, top).why == "it is a socket"


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../..", "src/../..", "src/../data.bin"])
def test_links_that_may_lead_out_are_refused(top: Path, target: str) -> None:
    (top / "link").symlink_to(target)
    assert refused(FolderSource, top).key == "input.invalid"


def test_a_name_that_is_not_utf_8_is_refused(top: Path) -> None:
    Path(os.fsdecode(os.fsencode(top) + b"/bad\xff")).touch()
    assert refused(FolderSource, top).why == "its name is not UTF-8"


def test_what_is_not_there_or_too_much_is_refused(top: Path, monkeypatch) -> None:
    assert refused(FolderSource, top / "missing").key == "disk.file-missing"
    assert refused(FolderSource, top / "empty").key == "disk.file-unreadable"
    monkeypatch.setattr(room, "ENTRIES", 3)
    assert refused(FolderSource, top).key == "input.too-large"


def test_a_folder_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    deep.joinpath(*["d"] * 129).mkdir(parents=True)
    assert refused(FolderSource, deep).key == "input.too-large"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda top: (top / "data.bin").write_bytes(b"other"), "data.bin changed"),
        (lambda top: (top / "data.bin").unlink(), "data.bin is gone"),
        (lambda top: (top / "new").touch(), "new is new"),
        (lambda top: (top / "run.sh").chmod(0o644), "run.sh changed"),
        (lambda top: (top / "src" / "up").unlink(), "src/up is gone"),
        (shutil.rmtree, "does not exist"),
    ],
)
def test_a_change_while_it_is_read_is_noticed(top: Path, change, told: str) -> None:
    source = FolderSource(top)
    source.check_unchanged()
    change(top)
    fault = refused(source.check_unchanged)
    assert (fault.key, told in fault.why) == ("disk.changed", True)


def test_a_file_that_another_took_the_place_of_is_not_read(top: Path) -> None:
    source = FolderSource(top)
    (top / "data.bin").rename(top / "old.bin")
    (top / "data.bin").symlink_to("old.bin")
    assert refused(whole, source).key == "disk.changed"
    (top / "data.bin").unlink()
    shutil.copyfile(top / "old.bin", top / "data.bin")
    assert refused(whole, source).key == "disk.changed"


# Unpacking ------------------------------------------------------------------------------------------------------------


def nothing_left(folder: Path) -> bool:
    return [path.name for path in folder.iterdir() if path.name != "top"] == []


def test_what_is_there_is_replaced_by_force_only(top: Path, tmp_path: Path) -> None:
    raw, target = whole(FolderSource(top)), tmp_path / "back"
    target.mkdir()
    (target / "mine").write_text("precious")
    assert refused(unpack, raw, target).key == "data.in-the-way"
    assert (target / "mine").read_text() == "precious"
    unpack(raw, target, force=True)
    assert state(target) == state(top)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "top"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_takes_no_other_things_place_even_by_force(top: Path, tmp_path: Path, kind: str) -> None:
    target = tmp_path / "back"
    if kind == "file":
        target.write_text("precious")
    else:
        target.symlink_to(top)
    assert refused(unpack, whole(FolderSource(top)), target, force=True).key == "data.in-the-way"
    assert target.is_symlink() or target.read_text() == "precious"


HOSTILE = {
    "up": [Entry("../escaped", EntryKind.FILE, 3)],
    "absolute": [Entry("/escaped", EntryKind.FILE, 3)],
    "link out": [Entry("l", EntryKind.LINK, target="/etc")],
    "through a link": [Entry("l", EntryKind.LINK, target="x"), Entry("l/escaped", EntryKind.FILE)],
    "over a link": [Entry("l", EntryKind.LINK, target="x"), Entry("l", EntryKind.FILE)],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_a_hostile_archive_leaves_its_place_or_stays(name: str, tmp_path: Path, monkeypatch) -> None:
    from bitdew.core import tree

    with monkeypatch.context() as lenient:
        lenient.setattr(tree, "checked", lambda one: one)
        good = header(Entry("a", EntryKind.FILE), 0)
        raw = good + b"".join(header(one, len(good)) + bytes(512 if one.size else 0) for one in HOSTILE[name])
    fault = refused(unpack, raw + bytes(1024), tmp_path / "deep")
    assert fault.key == "input.invalid"
    assert nothing_left(tmp_path)
    assert not (tmp_path.parent / "escaped").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_archive_that_is_cut_or_spoilt_unpacks_within_its_place_or_not_at_all(
    top: Path, tmp_path: Path, data
) -> None:
    good = whole(FolderSource(top))
    raw = bytearray(good[: data.draw(st.one_of(st.just(len(good)), st.integers(0, len(good))))])
    for _ in range(data.draw(st.integers(0, 3))):
        if raw:
            number = data.draw(st.integers(0, len(raw) - 1))
            raw[number] = data.draw(st.integers(0, 255))
    target = tmp_path / "back"
    key = ""
    try:
        unpack(bytes(raw), target)
    except BitDewError as fault:
        key = fault.key
    assert key in {"", "input.invalid", "input.too-large"}
    if not key:
        assert whole(FolderSource(target)) == raw
        shutil.rmtree(target)
    assert nothing_left(tmp_path)


def test_unpacking_can_be_stopped_and_leaves_nothing(top: Path, tmp_path: Path) -> None:
    raw = whole(FolderSource(top))
    one = Unpacking(lambda offset, length: raw[offset : offset + length], len(raw), tmp_path / "back")

    def stop(done: int, _total: int) -> None:
        one.stopped = done > 2 * BLOCK

    one._progress = stop
    assert refused(one.run, force=False).key == "interrupted"
    assert nothing_left(tmp_path)


def test_a_full_disk_is_told_as_such(top: Path, tmp_path: Path, monkeypatch) -> None:
    raw = whole(FolderSource(top))

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bitdew.client.unpacking.os.pwrite", full)
    assert refused(unpack, raw, tmp_path / "back").key == "storage.full"
    assert nothing_left(tmp_path)
