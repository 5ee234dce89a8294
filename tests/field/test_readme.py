"""The README: what it shows of the demo is what the demo prints, and its example places and boots."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from walk import Walk, steps

pytestmark = [pytest.mark.field, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]


def test_each_command_of_the_readme_prints_what_stands_there(site, tmp_path):
    walk = Walk(site, tmp_path)
    walked = [walk.take(step) for step in steps(ROOT / "README.md")]
    assert walked


def test_the_example_places_and_boots(site, tmp_path):
    site.serve()
    for number in (1, 2):
        site.worker(number)
    disk = tmp_path / "disk.raw"
    site.run("disk", "make", disk, "--line", "hello from the example", "--size", "4MB")
    done = subprocess.run(
        [sys.executable, "-P", ROOT / "examples" / "place_and_boot.py", disk, "example"],
        capture_output=True,
        text=True,
        env=site.environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 of 2 copies are held" in done.stdout
    assert "hello from the example" in done.stdout
