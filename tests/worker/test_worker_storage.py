"""Room is kept for what was promised, and nothing is removed but on request."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest
from bitdew.worker import storage as rooms
from bitdew.worker.storage import Storage

from bitdew.core.errors import BitDewError

A, B, C = "a" * 64, "b" * 64, "c" * 64
MIB = 2**20


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def storage(tmp_path):
    made = Storage(tmp_path / "copies", 10 * MIB)
    made.open([])
    return made


def fails(key, call, *arguments):
    with pytest.raises(BitDewError) as caught:
        call(*arguments)
    assert caught.value.key == key
    return caught.value


def test_the_quota_counts_what_was_promised_at_its_full_size(storage):
    storage.admit(A, 6 * MIB)
    storage.admit(A, 6 * MIB)
    fault = fails("storage.full", storage.admit, B, 5 * MIB)
    assert (fault.fields["used"], fault.fields["quota"], fault.fields["size"]) == (6 * MIB, 10 * MIB, 5 * MIB)
    storage.admit(B, 4 * MIB)
    assert storage.figures()[0] == 10 * MIB


def test_what_was_given_up_counts_by_what_it_takes(storage):
    storage.admit(A, 8 * MIB)
    storage.path(A).write_bytes(os.urandom(MIB))
    storage.give_up(A)
    assert storage.figures()[0] == pytest.approx(MIB, abs=65536)
    storage.admit(B, 8 * MIB)


def test_the_file_system_has_to_have_room_for_all_that_is_on_its_way(storage, monkeypatch):
    monkeypatch.setattr(rooms.shutil, "disk_usage", lambda _: Usage(0, 0, rooms.MARGIN + 7 * MIB))
    storage.admit(A, 4 * MIB)
    fault = fails("storage.full", storage.admit, B, 4 * MIB)
    assert fault.fields["free"] == 3 * MIB
    storage.path(A).write_bytes(os.urandom(2 * MIB))  # half of it has arrived
    storage.admit(B, 4 * MIB)
    storage.settle(A, 4 * MIB)
    assert storage.figures() == (8 * MIB, 7 * MIB)


def test_removing_frees_the_room_and_touches_nothing_else(storage):
    storage.admit(A, 6 * MIB)
    storage.path(A).write_bytes(b"a")
    storage.path(B).write_bytes(b"b")
    storage.write_have(A, b"\x80")
    storage.write_metainfo(A, b"d")
    storage.remove(A)
    storage.remove(A)
    assert [path.name for path in storage.folder.iterdir()] == [B]
    assert storage.figures()[0] == 0


def test_a_bitfield_is_replaced_whole(storage):
    assert storage.read_have(A) is None
    storage.write_have(A, b"\x80")
    storage.write_have(A, b"\xc0")
    assert storage.read_have(A) == b"\xc0"
    storage.forget_have(A)
    assert storage.read_have(A) is None
    assert list(storage.folder.iterdir()) == []


def test_unknown_files_are_named_and_stay_and_our_unfinished_ones_go(storage):
    names = [A, f"{A}.have", B, f"{B}.torrent", "notes.txt", ".writing-x"]
    for name in names:
        storage.folder.joinpath(name).write_bytes(b"x")
    unknown = storage.open({A})
    assert [path.name for path in unknown] == [B, f"{B}.torrent", "notes.txt"]
    assert sorted(path.name for path in storage.folder.iterdir()) == sorted(names[:-1])


def test_a_folder_that_can_not_be_made_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    fault = fails("storage.failed", Storage(tmp_path / "file" / "copies", 1).open, [])
    assert str(tmp_path / "file") in fault.message


def test_a_copy_that_changed_looks_different(storage):
    storage.path(A).write_bytes(b"1234")
    before = storage.look(A)
    os.utime(storage.path(A), ns=(0, before.mtime + 1))
    assert storage.look(A) != before
    assert storage.look(C) is None
