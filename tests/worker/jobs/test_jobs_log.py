"""The log of a job: bounded whatever is printed, and readable while it is written."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import pytest
from bitdew.worker.jobs.warden.log import SMALLEST, LogReader, LogWriter
from hypothesis import given
from hypothesis import strategies as st

PATTERN = bytes(range(256)) * 512


def written(path: Path, chunks: list[bytes], bound: int = SMALLEST) -> LogReader:
    writer = LogWriter(str(path), bound)
    for chunk in chunks:
        writer.write(chunk)
    writer.close()
    return LogReader(str(path))


@given(sizes=st.lists(st.integers(0, 9000), max_size=8), bound=st.integers(0, 20000))
def test_the_first_and_the_last_bytes_are_kept_and_the_gap_is_told(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], bound: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    chunks = [PATTERN[index * 1000 : index * 1000 + size] for index, size in enumerate(sizes)]
    whole, kept = b"".join(chunks), max(SMALLEST, bound)
    with written(path, chunks, bound) as log:
        text = log.text()
        assert log.printed == len(whole)
        assert path.stat().st_size <= kept + 64
        if len(whole) <= kept:
            assert text == whole
        else:
            head, tail = kept // 2, kept - kept // 2
            told = b"\n[%d bytes left out]\n" % (len(whole) - kept)
            assert text == whole[:head] + told + whole[-tail:]


@given(
    sizes=st.lists(st.integers(0, 9000), max_size=6),
    offset=st.integers(0, 40000),
    size=st.integers(1, 5000),
)
def test_what_is_read_is_what_was_printed_there(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], offset: int, size: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    chunks = [PATTERN[index * 777 : index * 777 + size] for index, size in enumerate(sizes)]
    whole = b"".join(chunks)
    with written(path, chunks) as log:
        start, data = log.read(offset, size)
        assert start >= offset
        assert data == whole[start : start + len(data)]
        assert len(data) <= size
        assert data or offset >= len(whole)
        assert log.tail(size) == whole[len(whole) - len(log.tail(size)) :]
        assert len(log.tail(min(size, SMALLEST // 2))) == min(size, SMALLEST // 2, len(whole))


def test_following_a_log_sees_every_byte_once_and_in_order(tmp_path: Path) -> None:
    path, lines = tmp_path / "log", [b"line %06d\n" % number for number in range(20000)]
    writer = LogWriter(str(path), 100_000)
    done = threading.Event()

    def write() -> None:
        for line in lines:
            writer.write(line)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen, offset = b"", 0
    with LogReader(str(path)) as log:
        while True:
            at_end = done.is_set()
            start, data = log.read(offset, 4096)
            seen += (b"\n" if start > offset else b"") + data  # what was overtaken ends a line early
            offset = start + len(data)
            if not data and at_end:
                break
    thread.join()
    writer.close()
    numbers = [int(line[5:]) for line in seen.split(b"\n") if len(line) == 11 and line.startswith(b"line ")]
    assert numbers[0] == 0
    assert numbers[-1] == len(lines) - 1
    assert all(before < after for before, after in pairwise(numbers))


def test_a_log_outlives_whoever_was_killed_while_writing_it(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), SMALLEST)
    writer.write(b"the last words")
    with LogReader(str(tmp_path / "log")) as log:
        assert log.text() == b"the last words"
    writer.close()


@pytest.mark.parametrize("content", [b"", b"something else that is long enough to have a header of a log"])
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log").write_bytes(content)
    with pytest.raises(ValueError, match="no log"):
        LogReader(str(tmp_path / "log"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"Too many|symbolic"):
        LogWriter(str(tmp_path / "log"), SMALLEST)
