"""Finding what descends from a process, and what a folder takes: the measures that limits are held by."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bitdew.worker.jobs.warden import tree
from bitdew.worker.jobs.warden.watch import measure, unnamed

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="jobs run on Linux")
KB = 1024


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_a_process_is_known_by_its_pid_and_its_start(child: subprocess.Popen[bytes]) -> None:
    found = tree.look_at(child.pid)
    assert found is not None
    assert (found.parent, found.threads) == (os.getpid(), 1)
    again = tree.look_at(child.pid)
    assert again is not None
    assert again.started == found.started
    assert tree.look_at(2**22 + 1) is None


def test_nobody_is_signalled_who_only_has_the_pid(child: subprocess.Popen[bytes]) -> None:
    found = tree.look_at(child.pid)
    assert found is not None
    found.started -= 1
    tree.send(found, tree.KILL)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    found.started += 1
    tree.send(found, tree.KILL)
    assert child.wait(10) == -tree.KILL
    tree.send(found, tree.KILL)


def test_the_tree_of_a_process_has_its_descendants_and_nobody_else(child: subprocess.Popen[bytes]) -> None:
    with subprocess.Popen(["sh", "-c", "sleep 50 & echo; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        below = tree.Tree(shell.pid)
        for _ in range(20):
            (only,) = below.processes()
            assert only.parent == shell.pid
        everything = {process.pid for process in tree.Tree(os.getpid()).processes()}
        assert {child.pid, shell.pid, only.pid} <= everything
        assert os.getppid() not in everything
        tree.send(only, tree.KILL)
    assert below.processes() == []


def test_a_folder_takes_what_its_files_take_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/file").write_bytes(os.urandom(64 * KB))
    os.link(tmp_path / "a/b/file", tmp_path / "again")
    (tmp_path / "link").symlink_to("/usr")
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(2**30)
    size, files = measure(str(tmp_path), 2**40, 100)
    assert files == 6
    assert 64 * KB <= size < 128 * KB


def test_measuring_ends_where_a_bound_is_passed(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / str(number)).write_bytes(b"x")
    assert measure(str(tmp_path), 2**40, 10)[1] == 11
    assert measure(str(tmp_path), 10 * KB, 100)[1] < 50
    assert measure(str(tmp_path / "none"), 10, 10) == (0, 0)


def test_a_file_without_a_name_is_found_by_who_has_it_open(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.write(os.urandom(256 * KB))
        file.flush()
        before = unnamed([os.getpid()])
        (tmp_path / "file").unlink()
        assert unnamed([os.getpid(), os.getpid()]) - before >= 256 * KB
    assert unnamed([2**22 + 1]) == 0
