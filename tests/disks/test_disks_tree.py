"""The guest's files: merged as Debian merges them, and nothing in a recipe leads out of their folder."""

from pathlib import PurePosixPath

import pytest

from bitdew.core.errors import BitDewError
from bitdew.disks.recipe import GuestFile, Recipe
from bitdew.disks.tree import _add_files, _merge, _remove


@pytest.fixture
def root(tmp_path):
    for name in ("etc", "usr/lib/bitdew"):
        (tmp_path / "root" / name).mkdir(parents=True)
    return tmp_path / "root"


def test_both_places_of_a_library_become_one(root):
    (root / "lib/x86").mkdir(parents=True)
    (root / "usr/lib/x86").mkdir()
    (root / "lib/x86/libc.so").write_text("c")
    (root / "usr/lib/x86/libz.so").write_text("z")
    _merge(root / "lib", root / "usr/lib")
    assert not (root / "lib").exists()
    assert sorted(path.name for path in (root / "usr/lib/x86").iterdir()) == ["libc.so", "libz.so"]


def test_a_recipes_file_gets_its_mode_and_the_guest_its_name(root):
    _add_files(Recipe("mine", files=(GuestFile(PurePosixPath("opt/job/run"), b"#!", 0o755),)), root)
    assert (root / "opt/job/run").stat().st_mode & 0o777 == 0o755
    assert (root / "etc/hostname").read_text() == "mine\n"
    assert (root / "usr/lib/bitdew/init").stat().st_mode & 0o777 == 0o755


def test_a_link_in_the_guest_leads_no_file_out_of_it(root, tmp_path):
    (root / "opt").symlink_to(tmp_path)
    with pytest.raises(BitDewError, match="can't be a file"):
        _add_files(Recipe("mine", files=(GuestFile(PurePosixPath("opt/evil"), b"x"),)), root)
    assert not (tmp_path / "evil").exists()


def test_removing_follows_no_link_out_of_the_guest(root, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    (root / "away").symlink_to(tmp_path / "precious")
    _remove(root, "away/*")
    _remove(root, "away")
    assert (tmp_path / "precious/file").exists()
    assert not (root / "away").is_symlink()
