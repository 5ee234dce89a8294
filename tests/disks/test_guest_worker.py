"""The guest's first program when its worker ends: it joins again with what the seed says by then, or powers off."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bitdew.disks.tree import guest_script

BEGINS = "mkdir -p /dev/pts"


@pytest.fixture
def guest(tmp_path: Path):
    """Runs the guest's worker: each of its ends is an exit code, and what the seed says when it is read again."""
    functions = guest_script("init.sh").decode().partition(BEGINS)[0]
    seed, seeds = tmp_path / "seed", tmp_path / "seeds"
    programs = tmp_path / "programs"
    for folder in (seed, seeds, programs):
        folder.mkdir()

    def fake(name: str, text: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)

    # The worker ends at once, with the next of the codes that a test wrote; the seed is the next of its seeds.
    fake(
        "python3", f'echo "$*" >>{tmp_path}/calls; read code <{tmp_path}/codes; sed -i 1d {tmp_path}/codes; exit $code'
    )
    fake("umount", f"rm -f {seed}/meta-data")
    fake("sleep", "exit 0")
    fake("hwclock", f'echo "$*" >>{tmp_path}/clock')

    def run(*ends: tuple[int, str], first: str = "one", url: str = "https://a") -> tuple[list[str], str]:
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code, _ in ends))
        for number, token in enumerate([first, *(token for _, token in ends)]):
            text = f"bitdew-url: '{url}'\n" + (f"bitdew-token: {token}\n" if token else "")
            (seeds / str(number)).write_text(text)
        script = f"""{functions}
PATH={programs}:$PATH SEED={seed} number=0
find_seed() {{ cp {seeds}/$number $SEED/meta-data; number=$((number + 1)); }}
find_seed
run_worker guest-one
"""
        script = script.replace("/run/", f"{tmp_path}/").replace("/proc/uptime", f"{tmp_path}/uptime")
        (tmp_path / "uptime").write_text("1.0 1.0\n")
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, timeout=60)
        calls = (tmp_path / "calls").read_text().splitlines()
        return [line.split("--token ")[1].split()[0] for line in calls], done.stdout

    return run


def test_a_worker_that_ends_well_is_not_begun_again(guest):
    tokens, said = guest((0, "two"))
    assert tokens == ["one"]
    assert "the worker ended with 0" in said


def test_a_worker_that_is_not_welcome_joins_again_if_the_seed_has_another_token_by_then(guest):
    tokens, said = guest((4, "two"), (4, "two"))
    assert tokens == ["one", "two"]
    assert "the seed has another token" in said


@pytest.mark.parametrize("token", ["one", ""])
def test_a_worker_without_another_token_is_the_end_of_the_machine(guest, token):
    tokens, said = guest((5, token))
    assert tokens == ["one"]
    assert "the worker ended with 5" in said


def test_a_service_that_is_not_reachable_is_tried_again_with_what_the_seed_says_by_then(guest):
    tokens, said = guest((6, "one"), (6, "two"), (0, "two"))
    assert tokens == ["one", "one", "two"]
    assert said.count("not reachable") == 2
