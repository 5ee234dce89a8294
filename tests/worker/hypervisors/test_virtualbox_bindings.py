"""VirtualBox's own bindings, in a process of theirs: chosen by who wants them, bounded, begun again when they ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
from bitdew.worker.hypervisors import VirtualBoxHypervisor, virtualbox_bound
from bitdew.worker.hypervisors.virtualbox_bindings import Bindings, SilentError
from bitdew.worker.hypervisors.virtualbox_manage import VBoxManage
from virtualbox_host import PYTHON

from bitdew.core.errors import BitDewError

VIRTUALBOX = [pytest.mark.field, pytest.mark.timeout(300)]


def python(folder: Path, text: str) -> str:
    """A Python whose bindings are these lines."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable} -P\nimport json, sys, time\n{text}\n", "utf-8")
    path.chmod(0o755)
    return str(path)


ANSWERS = "print(json.dumps([0, '7.2.22']), flush=True)\nfor line in sys.stdin: "


@pytest.fixture
def bound(tmp_path):
    """Bindings that are these lines; all of them are closed."""
    made = []

    def make(text: str) -> Bindings:
        made.append(Bindings(python(tmp_path, text), tmp_path / "home", lambda: dict(os.environ)))
        return made[-1]

    yield make
    for bindings in made:
        bindings.close()


def test_they_know_what_is_asked_of_a_machine_that_is_there_and_nothing_else():
    assert Bindings.know(("list", "vms"))
    assert Bindings.know(("showvminfo", "x", "--machinereadable"))
    assert Bindings.know(("controlvm", "x", "screenshotpng", "/a.png"))
    for words in (("createvm", "--name", "x"), ("controlvm", "x", "savestate"), ("snapshot", "x", "take", "y"), ()):
        assert not Bindings.know(words)


def test_questions_are_answered_by_one_process(bound):
    bindings = bound(ANSWERS + "print(json.dumps([1, line.strip()]), flush=True)")
    assert bindings.version() == "7.2.22"
    assert bindings.ask(("list", "vms"), 5.0) == (1, '["list", "vms"]')
    assert bindings.ask(("list", "ms"), 5.0) == (1, '["list", "ms"]')


def test_a_process_that_ended_is_begun_again_and_one_that_ends_at_once_is_told_with_its_last_words(bound):
    bindings = bound(
        "print(json.dumps([0, '7']), flush=True); line = sys.stdin.readline()\nprint(json.dumps([0, line]))"
    )
    for _ in range(3):  # each process answers once
        assert bindings.ask(("list", "vms"), 5.0)[0] == 0
    with pytest.raises(BitDewError, match="do not work") as caught:
        bound("sys.exit('no such module')").version()
    assert caught.value.why == "no such module"


def test_one_that_hangs_is_stopped_in_time(bound):
    bindings = bound("print(json.dumps([0, '7']), flush=True); time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(SilentError):
        bindings.ask(("list", "vms"), 0.3)
    assert time.monotonic() - began < 10


@pytest.mark.skipif(sys.platform == "win32", reason="they are used on Unix alone")
def test_a_question_that_they_leave_open_is_put_to_the_program_and_an_order_is_not(tmp_path):
    program = tmp_path / "VBoxManage"
    program.write_text('#!/bin/sh\nshift\necho "asked: $*"\n', "utf-8")
    program.chmod(0o755)
    silent = python(tmp_path, "print(json.dumps([0, '7']), flush=True); time.sleep(60)")
    manage = VBoxManage(str(program), tmp_path / "home", silent)
    try:
        assert manage.ask("list", "vms", within=2.0) == (0, "asked: list vms\n")
        with pytest.raises(BitDewError, match="controlvm"):
            manage.ask("controlvm", "x", "poweroff", within=2.0)
    finally:
        manage.close()


@pytest.mark.parametrize("answer", ["'x' * 3_000_000", "'nonsense'", "'[1]'", "'[\"a\", 1]'"])
def test_an_answer_that_is_none_is_refused(bound, answer):
    bindings = bound(ANSWERS + f"print({answer}, flush=True)")
    with pytest.raises(BitDewError, match="do not work"):
        bindings.ask(("list", "vms"), 10.0)


class FakeBound:
    def __init__(self, problem: Exception) -> None:
        self.problem = problem

    def do(self, words):
        raise self.problem


class ComError(Exception):
    def __init__(self, errno: int) -> None:
        super().__init__("words")
        self.errno = errno


def test_errors_of_virtualbox_are_answers_and_others_say_that_its_service_is_gone():
    assert "VBOX_E_OBJECT_NOT_FOUND" in virtualbox_bound.answer(FakeBound(ComError(0x80BB0001)), [])[1]
    assert virtualbox_bound.answer(FakeBound(ComError(0x80BB0002 - 2**32)), []) == (1, "VBoxManage: error: words")
    for lost in (ComError(0x8000FFFF), OSError("gone")):
        with pytest.raises(virtualbox_bound.LostError):
            virtualbox_bound.answer(FakeBound(lost), [])


async def test_a_python_without_the_bindings_is_told_and_nothing_else_is_used_in_its_place(tmp_path):
    manage = tmp_path / "VBoxManage"
    manage.write_text('#!/bin/sh\n[ "$2" = --version ] && echo 7.2.22r175245\n', "utf-8")
    manage.chmod(0o755)
    driver = VirtualBoxHypervisor(tmp_path / "home", program=str(manage), python=sys.executable)
    assert await driver.fingerprint() is None
    assert "bindings do not work" in driver.missing
    assert "vboxapi" in driver.missing
    assert "virtualbox_python" in driver.missing
    await driver.close()


class TestWithVirtualBox:
    """Each test has a VirtualBox to itself."""

    pytestmark = VIRTUALBOX

    async def test_they_are_named_where_they_are_used_and_are_begun_again_after_a_kill(self, virtualbox_bench):
        bench = virtualbox_bench
        bench.python = str(bench.folder / PYTHON)
        driver, spec = bench.driver(stays=True), bench.spec(stays=True)
        found = await driver.fingerprint()
        assert found is not None
        assert found.details["bindings"] == bench.python
        await driver.prepare(spec)
        handle = await driver.start(spec)
        process = driver._manage.bindings._process
        assert (await driver.status(handle)).state == "running"
        assert driver._manage.bindings._process is process, "one process answers all"
        os.kill(process.pid, signal.SIGKILL)
        assert (await driver.status(handle)).state == "running"
        pid = driver._manage.bindings._process.pid
        await driver.destroy(spec, handle)
        await driver.close()
        assert not psutil.pid_exists(pid)

    async def test_both_ways_see_a_machine_alike(self, virtualbox_bench):
        bench = virtualbox_bench
        plain, spec = bench.driver(stays=True), bench.spec(stays=True)
        bench.python = str(bench.folder / PYTHON)
        bound = bench.driver(stays=True)
        await plain.prepare(spec)
        handle = await plain.start(spec)
        await plain.snapshot(handle, "one")
        await plain.snapshot(handle, "two")
        for act in (plain.pause, bound.resume, bound.pause, plain.resume):
            await act(handle)
            assert await plain._view(handle) == await bound._view(handle)
        assert (await bound._view(handle)).snapshots == ("one", "two")
        await bound.stop(handle, 0)
        assert await plain._view(handle) == await bound._view(handle)
        await plain.destroy(spec, handle)
        await bound.close()
