"""Output that goes nowhere: closed, full, or read by nobody. Run as users run it: the streams are the process's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).with_name("bitdew"))
FULL = Path("/dev/full")


@pytest.fixture
def shell(home):
    """Run `bitdew` with these words in a shell, which redirects."""

    def run(words):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("BITDEW_")}
        done = subprocess.run(
            ["sh", "-c", f"'{PROGRAM}' {words}"],
            env=clean | {"BITDEW_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert "defect" not in done.stderr
        return done

    return run


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["profile ls --json", "-h"])
def test_an_output_that_is_full_is_an_error_with_a_key(shell, words, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = shell(f"{words} >/dev/full")
    assert done.returncode == 7
    assert "Key: output.unwritten" in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_an_error_that_can_not_be_written_keeps_its_exit_code(shell):
    assert shell("data ls 2>/dev/full").returncode == 5
    assert shell("data ls --json >/dev/full").returncode in {5, 7}


def test_closed_streams_are_as_the_null_device(shell):
    assert shell("profile ls >&-").returncode == 0
    assert shell("profile ls --json <&- >&- 2>&-").returncode == 0
    assert shell("data ls >&- 2>&-").returncode == 5
