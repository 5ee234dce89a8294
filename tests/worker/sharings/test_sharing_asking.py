"""A declared program is run within bounds, and nothing of it is left."""

from __future__ import annotations

import os
import threading
import time

import psutil
import pytest
from bitdew.worker.sharings.asking import LONGEST, ask, environment


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition, seconds: float = 5.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_what_it_prints_on_either_output_is_heard():
    answer = ask(shell("echo one; echo two >&2"))
    assert (answer.text.split(), answer.fault, answer.hung) == (["one", "two"], "", False)


def test_no_shell_reads_its_words():
    assert ask(["/bin/echo", "$HOME; `id`", "*"]).text == "$HOME; `id` *\n"


def test_one_that_fails_is_told_by_its_code_and_last_words():
    assert ask(shell("echo 1.2; echo no library; exit 3")).fault == "it ended with 3: no library"


def test_one_that_hangs_is_killed_with_all_its_group_when_its_time_is_over():
    began = time.monotonic()
    answer = ask(shell("sleep 1000 & echo $!; sleep 1000"), seconds=0.3)
    assert time.monotonic() - began < 3
    assert (answer.hung, answer.fault) == (True, "it did not end within 0.3 seconds")
    until(lambda: gone(int(answer.text)))


def test_what_it_leaves_behind_is_killed_when_it_ends_and_is_not_waited_for():
    began = time.monotonic()
    answer = ask(shell("sleep 1000 & echo $!"))
    assert time.monotonic() - began < 3
    assert answer.fault == ""
    until(lambda: gone(int(answer.text)))


def test_one_that_prints_without_end_is_stopped():
    answer = ask(["/usr/bin/yes"], seconds=30)
    assert answer.fault == f"it printed more than {LONGEST} bytes"
    assert len(answer.text) <= LONGEST


def test_one_that_waits_for_input_gets_none():
    assert ask(["/bin/cat"], seconds=5).fault == ""


@pytest.mark.parametrize("word", ["/nowhere/to/be/found", "/etc/passwd", "/etc"])
def test_what_can_not_be_run_is_told(word):
    assert "can't be run" in ask([word]).fault


def test_it_is_ended_when_it_is_given_up():
    given_up = threading.Event()
    timer = threading.Timer(0.2, given_up.set)
    timer.start()
    began = time.monotonic()
    assert ask(shell("sleep 1000"), given_up=given_up).fault == "it was given up"
    assert time.monotonic() - began < 3
    assert ask(shell("echo never"), given_up=given_up).text == ""
    timer.join()


def test_it_learns_nothing_of_ours_and_speaks_plainly(monkeypatch):
    monkeypatch.setenv("BITDEW_TOKEN", "bitdew-join-secret")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    said = ask(["/usr/bin/env"]).text.splitlines()
    assert "LC_ALL=C.UTF-8" in said
    assert not [line for line in said if line.startswith("BITDEW_")]
    assert environment({"BITDEW_HOME": "x", "HOME": "/h"}) == {"HOME": "/h", "LC_ALL": "C.UTF-8"}


def test_no_descriptor_of_ours_is_left_open():
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        ask(shell("echo 1"))
        ask(shell("sleep 9"), seconds=0.05)
        ask(["/nowhere"])
    assert len(os.listdir("/proc/self/fd")) == len(before)
