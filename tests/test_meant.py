"""Paths as people write them: read, or refused with what to do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bitdew.core.errors import UserError
from bitdew.meant import path_meant


def test_a_home_and_a_relative_path_become_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert path_meant("~/grid") == path_meant("grid") == path_meant(Path("~/grid")) == tmp_path / "grid"
    assert path_meant("/srv/grid") == Path("/srv/grid")


def test_the_home_of_nobody_is_refused():
    with pytest.raises(UserError) as refused:
        path_meant("~no-such-user-of-this-machine/grid")
    assert refused.value.key == "input.invalid"
    assert refused.value.do


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that somebody is in")
def test_a_relative_path_in_a_folder_that_is_gone_is_refused(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert path_meant("/srv/grid") == Path("/srv/grid")
    with pytest.raises(UserError) as refused:
        path_meant("grid")
    assert "the current folder is gone" in str(refused.value.why)
