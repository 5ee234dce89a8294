"""Room is kept for what was promised, and nothing is removed but on request."""

from __future__ import annotations

import os
from typing import NamedTuple

import pytest
from bitdew.worker import storage as rooms
from bitdew.worker.storage import Storage

from bitdew.core.content import ContentHasher
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


def test_what_removing_frees_is_what_all_the_files_take_on_the_disk(storage):
    assert storage.taken(A) == 0
    with storage.path(A).open("wb") as file:
        file.truncate(8 * MIB)  # a hole takes nothing
    assert storage.taken(A) < MIB
    storage.path(A).write_bytes(os.urandom(MIB))
    alone = storage.taken(A)
    assert alone >= MIB
    storage.write_metainfo(A, os.urandom(65536))
    assert storage.taken(A) >= alone + 65536


def test_what_lies_there_from_before_counts_unless_more_was_promised(storage):
    for root in (A, B):
        storage.path(root).write_bytes(os.urandom(MIB))
    storage.admit(B, 4 * MIB)
    for root in (A, B, C):
        storage.notice(root)
    assert storage.figures()[0] == pytest.approx(5 * MIB, abs=65536)


@pytest.mark.parametrize("size", [100, 65536, 3 * 65536 + 1])
def test_only_the_right_bytes_become_a_piece(storage, size):
    raw = os.urandom(size)
    hasher = ContentHasher(size)
    hasher.update(raw)
    content = hasher.finish()
    storage.path(content.root).touch()
    pieces = [raw[at : at + content.piece_length] for at in range(0, size, content.piece_length)]
    for number, piece in reversed(list(enumerate(pieces))):
        wrong = bytes([piece[0] ^ 1]) + piece[1:]
        assert not storage.put_piece(content, number, wrong)
        assert not storage.put_piece(content, number, piece[:-1])
        assert not storage.put_piece(content, number, piece + b"x")
        assert not storage.has_piece(content, number)
        assert storage.put_piece(content, number, piece)
        assert storage.has_piece(content, number)
    assert storage.path(content.root).read_bytes() == raw


def test_a_piece_of_a_file_that_is_gone_is_not_written(storage):
    hasher = ContentHasher(5)
    hasher.update(b"bytes")
    fails("storage.failed", storage.put_piece, hasher.finish(), 0, b"bytes")
    assert list(storage.folder.iterdir()) == []


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
