"""The runner catches what a test leaves behind, and what blocks the event loop: each kind is shown to it once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parent.parent

OFFENCES = {
    "a task": (
        """
        import asyncio

        async def test_offence():
            global forgotten
            forgotten = asyncio.create_task(asyncio.sleep(60), name="forgotten")
            await asyncio.sleep(0)
        """,
        "the test left behind pending tasks: forgotten (sleep)",
    ),
    "a socket": (
        """
        import socket

        def test_offence():
            global forgotten
            forgotten = socket.socket()
        """,
        "the test left behind open files:",
    ),
    "a file": (
        """
        def test_offence(tmp_path):
            global forgotten
            forgotten = (tmp_path / "forgotten.txt").open("w")
        """,
        "forgotten.txt",
    ),
    "a process": (
        """
        import subprocess

        def test_offence():
            global forgotten
            forgotten = subprocess.Popen(["sleep", "60"])
        """,
        "the test left behind processes:",
    ),
    "a file in the current folder": (
        """
        from pathlib import Path

        def test_offence():
            Path("litter").write_text("x")
        """,
        "files in the current folder: litter",
    ),
    "a warning": (
        """
        import warnings

        def test_offence():
            warnings.warn("old", DeprecationWarning)
        """,
        "DeprecationWarning: old",
    ),
    "a blocking call of the product in the event loop": (
        """
        import time
        from bitdew import clock

        async def test_offence():
            # Compiled under the product's own file name, as if it stood there.
            code = compile("import time\\ndef block(): time.sleep(0.001)", clock.__file__, "exec")
            namespace = {}
            exec(code, namespace)
            namespace["block"]()
        """,
        "Blocking call to time.sleep",
    ),
}


@pytest.mark.parametrize("offence", OFFENCES)
def test_the_runner_fails_a_test_that_leaves_or_does(offence: str, tmp_path: Path) -> None:
    source, told = OFFENCES[offence]
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_offence.py").write_text(dedent(source))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert told in done.stdout
