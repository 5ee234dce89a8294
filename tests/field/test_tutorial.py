"""The tutorial, word by word: each command works, in order, and prints what stands there but for figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from walk import Walk, steps

pytestmark = [pytest.mark.field, pytest.mark.timeout(400)]
TUTORIAL = Path(__file__).parents[2] / "docs/tutorial.md"


def test_each_command_of_the_tutorial_prints_what_stands_there(site, tmp_path):
    desk = tmp_path / "desk"
    desk.mkdir()
    walk, walked = Walk(site, desk), steps(TUTORIAL)
    assert len(walked) > 20
    for step in walked:
        if step.command.startswith("rm "):  # Ctrl-C has come before it
            assert [terminal.stop() for terminal in reversed(walk.terminals)] == [0] * len(walk.terminals)
        said = walk.take(step)
        if step.words[1:3] == ["vm", "deploy"]:  # the reader is told to ask again until the machine has said it
            (machine,) = site.run("vm", "ls")["machines"]
            site.until(lambda: "hello" in site.run("vm", "logs", machine["uid"])["text"])  # noqa: B023
        assert "Traceback" not in said
    assert list(desk.iterdir()) == []
    assert not (tmp_path / "home").exists()
