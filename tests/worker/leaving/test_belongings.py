"""What a worker made in its home goes, and nothing else: whatever lies there, and wherever a removal is cut off."""

from __future__ import annotations

import shutil

import pytest
from bitdew.worker.leaving import belongings
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError

NAMES = [*belongings.FIRST, *belongings.LAST]


def fill(home, names):
    home.mkdir(parents=True, exist_ok=True)
    for name in names:
        if "." in name:
            (home / name).write_bytes(b"x" * 5000)
        else:
            (home / name / "inner").mkdir(parents=True)
            (home / name / "inner" / "file").write_bytes(b"y" * 9000)


def test_all_that_is_the_workers_goes_with_the_folders_that_it_leaves_empty(tmp_path):
    home = tmp_path / "bitdew" / "worker"
    fill(home, NAMES)
    (home / "journal.db.spoilt-1").write_text("set aside")
    assert belongings.has_any(home)
    removed = belongings.remove(home, parent=home.parent)
    assert removed.kept == ()
    assert removed.freed > 9000
    assert list(tmp_path.iterdir()) == []
    assert belongings.remove(home, parent=home.parent) == belongings.Removed(0, ())


def test_what_is_not_the_workers_stays_and_is_told(tmp_path):
    home = tmp_path / "home"
    fill(home, NAMES)
    (home / "thesis.tex").write_text("mine")
    assert belongings.remove(home, parent=tmp_path).kept == (home / "thesis.tex",)
    assert [path.name for path in home.iterdir()] == ["thesis.tex"]


def test_no_link_is_followed(tmp_path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "photo").write_text("mine")
    fill(home, ["worker.json"])
    (home / "copies").symlink_to(elsewhere)
    (home / "machines").mkdir()
    (home / "machines" / "link").symlink_to(elsewhere)
    belongings.remove(home)
    assert not home.exists()
    assert (elsewhere / "photo").read_text() == "mine"


def test_what_can_not_be_removed_is_told_and_the_next_try_goes_on(tmp_path, monkeypatch):
    home = tmp_path / "home"
    fill(home, NAMES)

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refused)
        with pytest.raises(BitDewError) as caught:
            belongings.remove(home)
    assert caught.value.key == "storage.failed"
    assert belongings.has_any(home)
    belongings.remove(home)
    assert not home.exists()


@settings(max_examples=50, deadline=None)
@given(there=st.sets(st.sampled_from(NAMES)), strange=st.sets(st.sampled_from(["a.txt", "copies2", "worker.jsonx"])))
def test_in_the_end_only_what_is_strange_is_left(tmp_path_factory, there, strange):
    home = tmp_path_factory.mktemp("any") / "home"
    fill(home, sorted(there))
    for name in strange:
        (home / name).write_text("kept")
    assert belongings.has_any(home) is bool(there)
    kept = belongings.remove(home).kept
    assert {path.name for path in kept} == strange
    assert home.exists() is bool(strange)
