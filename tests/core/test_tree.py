"""The form of a folder's archive: canonical, aligned, readable by others, and strict about what it reads."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core import tree
from bitdew.core.content import BLOCK
from bitdew.core.errors import BitDewError
from bitdew.core.tree import Entry, EntryKind, Placed, Tree, header, read_tree

FILE, FOLDER, LINK = EntryKind.FILE, EntryKind.FOLDER, EntryKind.LINK
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40).filter(
    lambda name: name not in {".", ".."}
)


def packed(entries: Iterable[Entry], fill: int = 0x61) -> bytes:
    """The archive of `entries`, whose files are full of one letter."""
    form = Tree(list(entries))
    raw = bytearray(form.size)
    for placed in form.placed:
        raw[placed.offset : placed.start] = header(placed.entry, placed.offset)
        raw[placed.start : placed.stop] = bytes([fill]) * placed.entry.size
    return bytes(raw)


def unpacked(raw: bytes) -> list[Placed]:
    return list(read_tree(lambda offset, length: raw[offset : offset + length], len(raw)))


def refusal(raw: bytes) -> BitDewError:
    with pytest.raises(BitDewError) as fault:
        unpacked(raw)
    return fault.value


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """The entries of any tree, in any order."""
    folders = [""]
    entries: dict[str, Entry] = {}
    for _ in range(draw(st.integers(0, 12))):
        inside = draw(st.sampled_from(folders))
        path = f"{inside}/{draw(NAMES)}".lstrip("/")
        if path in entries or len(path.encode()) > 3000:
            continue
        kind = draw(st.sampled_from(EntryKind))
        if kind is FOLDER:
            folders.append(path)
            entries[path] = Entry(path, FOLDER)
        elif kind is LINK:
            up = "../" * draw(st.integers(0, path.count("/")))
            entries[path] = Entry(path, LINK, target=up + draw(NAMES))
        else:
            size = draw(st.one_of(st.integers(0, 3 * BLOCK), st.sampled_from([0, 1, BLOCK, BLOCK - 512, BLOCK + 1])))
            entries[path] = Entry(path, FILE, size, draw(st.booleans()))
    return draw(st.permutations(list(entries.values())))


@given(trees())
def test_any_tree_is_read_back_as_it_was_packed(entries: list[Entry]) -> None:
    placed = unpacked(packed(entries))
    assert [one.entry for one in placed] == sorted(entries, key=lambda one: one.parts)
    assert placed == Tree(entries).placed


@given(trees(), st.randoms())
def test_equal_trees_have_equal_archives_in_whatever_order_they_are_told(entries: list[Entry], chance) -> None:
    again = entries[:]
    chance.shuffle(again)
    assert packed(again) == packed(entries)


@given(trees())
def test_the_bytes_of_every_file_begin_at_a_block(entries: list[Entry]) -> None:
    assert all(one.start % BLOCK == 0 for one in Tree(entries).placed if one.entry.size)


@given(trees())
def test_the_standard_library_reads_the_same_tree(entries: list[Entry]) -> None:
    kinds = {tarfile.REGTYPE: FILE, tarfile.DIRTYPE: FOLDER, tarfile.SYMTYPE: LINK}
    with tarfile.open(fileobj=io.BytesIO(packed(entries))) as archive:
        members = archive.getmembers()
        told = {
            one.name: Entry(one.name, kinds[one.type], one.size, one.mode == 0o755 and one.isreg(), one.linkname)
            for one in members
        }
        assert told == {one.path: one for one in entries}
        assert {(one.mtime, one.uid, one.gid, one.uname, one.gname) for one in members} <= {(0, 0, 0, "", "")}


@given(trees(), st.data())
def test_no_byte_of_a_header_can_be_another(entries: list[Entry], data) -> None:
    raw = bytearray(packed(entries, fill=0))
    form = Tree(entries)
    inside = [n for one in form.placed for n in (*range(one.offset, one.start), *range(one.stop, one.end))]
    number = data.draw(st.sampled_from([*inside, *range(form.size - 1024, form.size)]))
    raw[number] ^= data.draw(st.integers(1, 255))
    try:
        found, key = unpacked(bytes(raw)), ""
    except BitDewError as fault:
        found, key = [], fault.key
    # Or it is the canonical form of another tree.
    assert key in {"input.invalid", "input.too-large"} or found != form.placed


@given(trees(), st.data())
def test_an_archive_that_is_cut_off_is_refused(entries: list[Entry], data) -> None:
    raw = packed(entries)
    assert refusal(raw[: data.draw(st.integers(0, len(raw) - 1))]).key == "input.invalid"


@given(st.binary(max_size=4096))
def test_any_other_bytes_are_refused(raw: bytes) -> None:
    if raw != bytes(1024):
        assert refusal(raw).key == "input.invalid"


def changed_blocks(one: bytes, other: bytes) -> set[int]:
    longer = max(len(one), len(other))
    return {n // BLOCK for n in range(0, longer, BLOCK) if one[n : n + BLOCK] != other[n : n + BLOCK]}


def filled(entries: list[Entry]) -> bytes:
    """The archive of `entries`, each of whose files has bytes of its own."""
    raw = bytearray(packed(entries))
    for placed in Tree(entries).placed:
        letters = hashlib.shake_128(placed.entry.path.encode()).digest(placed.entry.size)
        raw[placed.start : placed.stop] = letters
    return bytes(raw)


@given(trees(), st.data())
def test_a_file_that_changed_changes_its_own_blocks_only(entries: list[Entry], data) -> None:
    files = [one for one in Tree(entries).placed if one.entry.size]
    if files:
        before, one = filled(entries), data.draw(st.sampled_from(files))
        position = data.draw(st.integers(one.start, one.stop - 1))
        after = bytearray(before)
        after[position] ^= 1
        assert changed_blocks(before, bytes(after)) == {position // BLOCK}


@given(trees(), st.data())
def test_a_file_that_went_or_grew_leaves_the_blocks_of_all_others(entries: list[Entry], data) -> None:
    files = [one.entry for one in Tree(entries).placed if one.entry.size]
    if not files:
        return
    changed = data.draw(st.sampled_from(files))
    size = data.draw(st.integers(0, 5 * BLOCK))
    others = [one for one in entries if one is not changed]
    again = [*others, Entry(changed.path, FILE, size)] if size else others
    before, after = filled(entries), filled(again)
    known = {before[number : number + BLOCK] for number in range(0, len(before), BLOCK)}
    for one in Tree(again).placed:
        if one.entry.size and one.entry.path != changed.path:
            for number in range(one.start, one.stop - BLOCK + 1, BLOCK):
                assert after[number : number + BLOCK] in known
    first = next(one for one in Tree(entries).placed if one.entry is changed)
    unmoved = first.offset // BLOCK * BLOCK
    assert after[:unmoved] == before[:unmoved]


def test_a_file_that_grows_moves_what_follows_by_whole_blocks() -> None:
    before = [Entry(name, FILE, 3 * BLOCK) for name in "abc"]
    after = [before[0], Entry("b", FILE, 4 * BLOCK + 1), before[2]]
    moved = Tree(after).placed[2].start - Tree(before).placed[2].start
    assert moved == BLOCK
    assert Tree(after).placed[1].start == Tree(before).placed[1].start


def test_a_file_within_its_last_block_may_grow_without_moving_anything() -> None:
    before = [Entry("a", FILE, 100), Entry("b", FILE, BLOCK)]
    after = [Entry("a", FILE, 9000), Entry("b", FILE, BLOCK)]
    assert Tree(after).placed[1].start == Tree(before).placed[1].start


def test_the_bytes_of_the_form_are_the_same_for_ever() -> None:
    entries = [
        Entry("bin", FOLDER),
        Entry("bin/run", FILE, 10, executable=True),
        Entry("bin/same", LINK, target="run"),
        Entry("empty", FILE),
        Entry("n" * 120, FILE, BLOCK),
        Entry("nested", FOLDER),
        Entry("nested/\u00fc", FILE, 1),
    ]
    assert (
        hashlib.sha256(packed(entries)).hexdigest()
        == "99d8662af5f5db1f29f9d3995e48543c24066335eb4bfbb45638819f7952cfd0"
    )


def test_a_size_that_has_no_room_in_a_plain_header_is_told_in_the_extended_one() -> None:
    big = Entry("big", FILE, 9 * 2**30)
    head = header(big, 0)
    assert len(head) == BLOCK
    with tarfile.open(fileobj=io.BytesIO(head + bytes(1024)), ignore_zeros=True) as archive:
        assert archive.next().size == 9 * 2**30  # type: ignore[union-attr]
    form = Tree([big])

    def read(offset: int, length: int) -> bytes:
        return head[offset : offset + length] if offset < len(head) else bytes(min(length, form.size - offset))

    assert list(read_tree(read, form.size)) == form.placed


@pytest.mark.parametrize(
    "entry",
    [
        Entry("", FILE),
        Entry("/etc/passwd", FILE),
        Entry("../up", FILE),
        Entry("a/../b", FILE),
        Entry("a//b", FILE),
        Entry("a/./b", FILE),
        Entry("a\0b", FILE),
        Entry("bad\udcff", FILE),
        Entry("n" * 256, FILE),
        Entry("/".join(["a"] * 129), FOLDER),
        Entry("/".join(["n" * 200] * 30), FOLDER),
        Entry("l", LINK, target=""),
        Entry("l", LINK, target="/etc/passwd"),
        Entry("l", LINK, target=".."),
        Entry("l", LINK, target="../x"),
        Entry("a/l", LINK, target="../../x"),
        Entry("a/l", LINK, target="b/../c"),
        Entry("a/l", LINK, target="./../.."),
        Entry("l", LINK, target="x\0y"),
        Entry("l", LINK, target="bad\udcff"),
        Entry("l", LINK, target="x/" * 2001),
        Entry("f", FILE, -1),
        Entry("f", FILE, target="x"),
        Entry("d", FOLDER, 5),
        Entry("d", FOLDER, executable=True),
    ],
    ids=lambda entry: repr((entry.path[:20], entry.target[:20])),
)
def test_what_has_no_place_in_an_archive_is_neither_packed_nor_unpacked(entry: Entry, monkeypatch) -> None:
    with pytest.raises(BitDewError) as fault:
        tree.checked(entry)
    assert fault.value.key in {"input.invalid", "input.too-large"}
    if "\udcff" in entry.path + entry.target or entry.size < 0 or entry.executable:
        return  # no archive can say it
    with monkeypatch.context() as lenient:
        lenient.setattr(tree, "checked", lambda one: one)
        raw = header(entry, 0) + bytes(1024)
    assert refusal(raw).key in {"input.invalid", "input.too-large"}


@pytest.mark.parametrize(
    "entries",
    [
        [Entry("a", FILE), Entry("a", FILE)],
        [Entry("b", FILE), Entry("a", FILE)],
        [Entry("a/b", FILE)],
        [Entry("a", FILE), Entry("a/b", FILE)],
        [Entry("a", LINK, target="b"), Entry("a/x", FILE)],
        [Entry("a", FOLDER), Entry("a/b", FOLDER), Entry("a/c/d", FILE)],
        [Entry("a", FOLDER), Entry("b", FILE), Entry("b/c", FILE)],
        [Entry("a", FOLDER), Entry("b", FILE), Entry("a/c", FILE)],
    ],
    ids=lambda entries: " ".join(one.path for one in entries),
)
def test_entries_that_come_twice_or_too_late_or_in_no_folder_are_refused(entries: list[Entry]) -> None:
    raw = b"".join(header(one, 0) for one in entries) + bytes(1024)
    assert refusal(raw).key == "input.invalid"


def test_an_extended_header_without_bounds_is_not_read() -> None:
    head = bytearray(header(Entry("f", FILE, 1), 0))
    head[124:136] = b"77777777777\0"
    asked: list[int] = []

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return bytes(head[offset : offset + length])

    with pytest.raises(BitDewError, match="not the archive"):
        list(read_tree(read, 2**40))
    assert max(asked) <= 512


def test_more_entries_than_allowed_are_refused_on_both_sides(monkeypatch) -> None:
    entries = [Entry(f"f{number}", FILE) for number in range(4)]
    raw = packed(entries)
    monkeypatch.setattr(tree, "ENTRIES", 3)
    assert refusal(raw).key == "input.too-large"
    with pytest.raises(BitDewError) as fault:
        Tree(entries)
    assert fault.value.key == "input.too-large"


def test_links_to_what_is_in_the_tree_may_go_up_and_then_down() -> None:
    entries = [
        Entry("a", FOLDER),
        Entry("a/b", FOLDER),
        Entry("a/b/l", LINK, target="../../c/d"),
        Entry("l", LINK, target="./a//b"),
    ]
    assert [one.entry for one in unpacked(packed(entries))] == entries


def test_an_empty_folder_is_an_empty_archive() -> None:
    assert packed([]) == bytes(1024)
    assert unpacked(bytes(1024)) == []
