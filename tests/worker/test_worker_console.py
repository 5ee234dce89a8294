"""A console is told whole, whatever its bytes are and wherever it is cut."""

from __future__ import annotations

from pathlib import Path

from bitdew.worker import console
from hypothesis import given
from hypothesis import strategies as st


def told(path: Path, most: int) -> str:
    """All parts of the console at `path`, read one after another."""
    text, start, offset = "", 0, 0
    while True:
        part = console.read_part(path, start, offset, most, ended=True)
        assert part.offset == len(text)
        text += part.text
        if not part.more:
            return text
        assert part.end > start
        start, offset = part.end, part.offset + len(part.text)


@given(text=st.text(max_size=200), most=st.integers(4, 50))
def test_parts_of_any_size_are_the_whole_text(text, most, tmp_path_factory):
    path = tmp_path_factory.mktemp("console") / "log"
    path.write_bytes(text.encode())
    assert told(path, most) == text


@given(raw=st.binary(max_size=200), most=st.integers(4, 50))
def test_bytes_that_are_no_text_are_told_as_replacements(raw, most, tmp_path_factory):
    path = tmp_path_factory.mktemp("console") / "log"
    path.write_bytes(raw)
    assert told(path, most) == raw.decode("utf-8", "replace")


def test_a_character_that_is_not_whole_is_left_for_later_while_the_machine_runs(tmp_path):
    path = tmp_path / "log"
    path.write_bytes("é".encode()[:1])
    running = console.read_part(path, 0, 0, 100, ended=False)
    assert (running.text, running.end) == ("", 0)
    assert console.read_part(path, 0, 0, 100, ended=True).text == "\ufffd"


def test_a_console_that_is_not_there_is_empty(tmp_path):
    assert console.size_of(tmp_path / "none") == 0
    part = console.read_part(tmp_path / "none", 0, 0, 100, ended=True)
    assert (part.text, part.more) == ("", False)


def test_of_more_than_can_be_told_the_oldest_is_left_out_and_counted(tmp_path):
    path = tmp_path / "log"
    text = "é" * console.BACKLOG  # twice the bytes
    path.write_bytes(text.encode())
    part = console.read_part(path, 0, 0, 1000, ended=True)
    assert part.start == 0
    assert part.offset == console.BACKLOG // 2
    assert part.text == "é" * 500
    assert part.end == console.BACKLOG + 1000
