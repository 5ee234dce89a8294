"""The README's walk by hand, command by command: each still works, and prints what stands there but for figures."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
RUNS_ON = {"serve", "worker"}


def steps():
    """The commands in the README's console blocks, each with the lines that follow it."""
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    found = []
    for line in "".join(blocks).splitlines():
        if line.startswith("$ bitdew "):
            found.append((shlex.split(line)[2:], []))
        else:
            found[-1][1].append(line)
    return found


def shape(text: str) -> set[str]:
    """The lines of `text` with everything that differs from run to run taken out."""
    text = re.sub(r"bitdew-join-[\w-]+", "TOKEN", text)
    text = re.sub(r"(/\S*|~/\.local/share/bitdew)/profiles", "HOME/profiles", text)
    text = re.sub(r"\b[0-9a-f]{8,64}\b", "HEX", text)
    text = re.sub(r"\d+(\.\d+)? (B|KB|MB|GB|TB)\b", "SIZE", text)
    text = re.sub(r"\bpc\d\b", "PC", text)
    text = re.sub(r"(qemu\.accelerator|qemu\.held)=\w+", r"\1=ANY", text)
    text = re.sub(r"\d+(\.\d+)*", "N", text)
    return {" ".join(line.split()) for line in text.splitlines() if line.strip()}


def test_each_command_of_the_readme_prints_what_stands_there(site):
    site.environment |= {"COLUMNS": "160", "NO_COLOR": "1"}
    seen = {"TOKEN": "", "2b0dffde": "", "https://127.0.0.1:8440": ""}
    for arguments, promised in steps():
        real = [seen.get(argument) or argument for argument in arguments]
        if arguments[0] == "serve":
            seen["https://127.0.0.1:8440"] = site.serve().ready["url"]
            continue  # a service that runs on prints JSON here; what it says to people is tested with the command
        if arguments[0] == "worker":
            site.start(*real, log=real[-1])
            continue
        command = [sys.executable, "-P", "-m", "bitdew", *real]
        done = subprocess.run(
            command, capture_output=True, text=True, env=site.environment, cwd=site.folder, timeout=120, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr)
        missing = shape("\n".join(promised)) - shape(done.stdout)
        assert not missing, (arguments, missing, done.stdout)
        if arguments[:2] == ["token", "create"]:
            seen["TOKEN"] = done.stdout.split()[0]
        if arguments[:2] == ["vm", "deploy"]:
            seen["2b0dffde"] = re.findall(r"^[0-9a-f]{8}", done.stdout, re.MULTILINE)[0]
            site.until(lambda: "hello" in site.run("vm", "logs", seen["2b0dffde"])["text"])


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
