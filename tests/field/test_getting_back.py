"""Bytes come back to people by the real command, from a real service, whatever is killed on the way."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess

import pytest

from .conftest import begun, ended

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
MB = 2**20


def sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def taken(part):
    return part.stat().st_blocks * 512 if part.exists() else 0


def test_a_get_that_is_killed_goes_on_where_it_was(site, tmp_path):
    site.serve()
    file, back = tmp_path / "large", tmp_path / "back"
    with file.open("wb") as raw:
        for number in range(160):
            raw.write(random.Random(number).randbytes(MB))
    root = site.run("data", "put", file, "--name", "large", "--replica", 0)["root"]
    part = tmp_path / f"back.{root[:16]}.part"
    for number in (signal.SIGKILL, signal.SIGINT):
        before = taken(part)
        getting = begun(site, "data", "get", "large", back)
        site.until(lambda now=before: taken(part) >= now + 16 * MB)
        getting.send_signal(number)
        code, _out = ended(getting)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        assert not back.exists()
    had = taken(part)
    got = site.run("data", "get", "large", back)
    assert got["fetched"] <= file.stat().st_size - had + 4 * MB
    assert sha256(back) == sha256(file)
    assert not part.exists()


def test_a_get_outlasts_a_service_that_is_killed_and_started_again(site, tmp_path):
    service = site.serve()
    file, back = tmp_path / "large", tmp_path / "back"
    with file.open("wb") as raw:
        for number in range(160):
            raw.write(random.Random(number).randbytes(MB))
    root = site.run("data", "put", file, "--name", "large", "--replica", 0)["root"]
    getting = begun(site, "data", "get", "large", back)
    site.until(lambda: taken(tmp_path / f"back.{root[:16]}.part") >= 16 * MB)
    service.kill()
    site.serve()
    code, out = ended(getting)
    assert code == 0, out
    assert sha256(back) == sha256(file)


def test_a_folder_goes_through_the_commands_and_comes_back(site, tmp_path):
    site.serve()
    top = tmp_path / "run 7"
    (top / "logs").mkdir(parents=True)
    (top / "logs" / "one").write_text("a line\n")
    (top / "go.sh").write_text("#!/bin/sh\necho hello\n")
    (top / "go.sh").chmod(0o755)
    (top / "last").symlink_to("logs/one")
    for number in (1, 2):
        site.worker(number)
    put = site.run("data", "put", top, "--name", "run-7", "--replica", 2, "--wait")
    assert (put["kind"], put["held"]) == ("folder", 2)
    site.run("data", "get", "run-7", tmp_path / "back")
    assert subprocess.run([tmp_path / "back" / "go.sh"], capture_output=True, check=True).stdout == b"hello\n"
    assert (tmp_path / "back" / "last").read_text() == "a line\n"
    assert site.run("data", "get", "run-7", tmp_path / "back", code=4)["error"]["key"] == "data.in-the-way"
    site.run("data", "get", "run-7", tmp_path / "back", "--force")
    got = site.run("data", "get", "run-7", tmp_path / "run.tar", "--archive")
    assert sha256(tmp_path / "run.tar") == sha256(site.copy(1, got["data"]["root"]))
    listed = subprocess.run(["tar", "-tf", tmp_path / "run.tar"], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["go.sh", "last", "logs", "logs/one"]


def test_what_only_a_host_has_comes_from_it_and_goes_on_where_it_was_stopped(site, tmp_path):
    site.serve()
    site.worker(1, "--upload", "2MB")
    file, back = tmp_path / "large", tmp_path / "back"
    file.write_bytes(random.Random(1).randbytes(24 * MB))
    options = ("--name", "large", "--replica", 1, "--seed", "--listen", "127.0.1.77:0")
    publisher = site.start("data", "put", file, *options, log="seed")
    root = publisher.wait_for(lambda line: line.get("event") == "held")["data"]["root"]
    assert publisher.wait() == 0
    part = tmp_path / f"back.{root[:16]}.part"
    getting = begun(site, "data", "get", "large", back)
    site.until(lambda: taken(part) >= 3 * MB)
    getting.send_signal(signal.SIGINT)
    assert ended(getting)[0] == 130
    assert not back.exists()
    site.run("worker", "limits", "--home", site.folder / "host1", "--upload", 0)
    got = site.run("data", "get", "large", back)
    assert 0 < got["fetched"] <= 22 * MB
    assert sha256(back) == sha256(file)
    assert not part.exists()
    assert got["data"]["egress"] == 0
