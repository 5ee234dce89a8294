"""What is printed while nobody reads: it costs its writer no time, and what is left out is said."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bitdew.cli import unhurried as module
from bitdew.cli.running import gap_in_output
from bitdew.cli.unhurried import Unhurried, unhurried

LINE = "x" * 99


@pytest.fixture
def pipe() -> Iterator[tuple]:
    """The end to read from, and a text stream of the other end."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", encoding="utf-8")
    yield reading, stream
    os.close(reading)
    if not stream.closed:
        stream.close()


def read(descriptor: int, until: Callable[[str], bool]) -> str:
    found = b""
    while not until(found.decode()):
        found += os.read(descriptor, 65536)
    return found.decode()


def test_lines_come_whole_and_in_order(pipe) -> None:
    reading, stream = pipe
    out = Unhurried(stream, gap_in_output(as_json=False))
    for number in range(5):
        out.write(f"line {number}")
        out.write("\nbegun ")
    out.finish(5)
    expected = "line 0\n" + "".join(f"begun line {number}\n" for number in range(1, 5)) + "begun "
    assert read(reading, lambda text: len(text) >= len(expected)) == expected


def test_a_writer_does_not_wait_for_a_reader(pipe, monkeypatch) -> None:
    reading, stream = pipe
    monkeypatch.setattr(module, "MOST_WAITING", 50_000)
    out = Unhurried(stream, gap_in_output(as_json=False))
    for _ in range(5000):  # 500 kB, far more than a pipe and the queue take
        out.write(LINE + "\n")
    came = read(reading, lambda text: len(text) >= 49_000)
    assert {line for line in came.splitlines()[:-1] if not line.startswith("(")} == {LINE}
    out.finish(5)
    out.write("too late\n")


def test_how_many_lines_were_left_out_is_said(pipe, monkeypatch) -> None:
    reading, stream = pipe
    monkeypatch.setattr(module, "MOST_WAITING", 300)
    out = Unhurried(stream, gap_in_output(as_json=True))
    filler = "y" * 199 + "\n"
    for _ in range(2000):
        out.write(filler)
    first = ""
    deadline = time.monotonic() + 5
    while out._waiting and time.monotonic() < deadline:  # noqa: SLF001
        first += os.read(reading, 65536).decode()
    out.write("after\n")
    out.finish(5)
    lines = (first + read(reading, lambda text: text.endswith("after\n"))).splitlines()
    left_out = sum(json.loads(line)["lines"] for line in lines if line.startswith("{"))
    assert left_out > 0
    assert lines.count(filler.strip()) + left_out == 2000


def test_a_reader_that_goes_harms_nobody(pipe) -> None:
    reading, stream = pipe
    gone = os.dup(stream.fileno())
    other = os.fdopen(gone, "w", encoding="utf-8")
    out = Unhurried(other, gap_in_output(as_json=False))
    os.dup2(os.open(os.devnull, os.O_RDONLY), gone)  # a descriptor that can't be written to
    out.write("nobody reads this\n")
    out.finish(5)
    assert not out._thread.is_alive()  # noqa: SLF001
    other.close()
    assert reading


def test_streams_are_given_back_and_those_without_a_descriptor_are_left_alone(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    before = sys.stderr
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        with unhurried(gap_in_output(as_json=False)):
            assert sys.stderr is before
            print("said by the thread")
        assert sys.stdout is file
    assert (tmp_path / "out").read_text() == "said by the thread\n"
