"""Python's part of a guest: which distributions it gets, and how wheels become files."""

import zipfile
from importlib import metadata

import pytest

from bitdew.core.errors import BitDewError
from bitdew.disks import wheels
from bitdew.disks.wheels import copy_ourselves, pinned_needs, unpack_wheels


def wheel(folder, **entries):
    path = folder / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name.replace("__", "/"), text)
    return path


def test_what_bitdew_needs_is_pinned_to_what_runs_here_and_no_tool_for_tests_is_among_it():
    needs = pinned_needs()
    assert f"aiohttp=={metadata.version('aiohttp')}" in needs
    assert f"libtorrent=={metadata.version('libtorrent')}" in needs
    names = {line.partition("==")[0] for line in needs}
    assert "yarl" in names, "what is needed by what is needed comes too"
    assert not {"bitdew", "pytest", "mypy", "asyncpg"} & names


def test_a_wheel_is_unpacked_without_its_programs(tmp_path):
    entries = {"some__a.py": "a", "some-1.data__purelib__b.py": "b", "some-1.data__scripts__run": "#!python"}
    unpack_wheels([wheel(tmp_path, **entries)], tmp_path / "to")
    found = {str(p.relative_to(tmp_path / "to")): p.read_text() for p in (tmp_path / "to").rglob("*") if p.is_file()}
    assert found == {"some/a.py": "a", "b.py": "b"}


@pytest.mark.parametrize(
    "name", ["..__evil.py", "a__..__..__evil.py", "__etc__passwd", "a\\..\\b", "x.data__purelib__..__y"]
)
def test_a_wheel_that_would_write_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(BitDewError, match="Unpacking wheels failed"):
        unpack_wheels([wheel(tmp_path, **{name: "x"})], tmp_path / "to")
    assert not (tmp_path / "evil.py").exists()


def test_wheels_that_unpack_to_too_much_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "MOST_UNPACKED", 5)
    with pytest.raises(BitDewError, match="more than 5 bytes"):
        unpack_wheels([wheel(tmp_path, a="123456")], tmp_path / "to")


def test_what_is_no_wheel_is_told(tmp_path):
    path = tmp_path / "x.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(BitDewError, match=r"x\.whl"):
        unpack_wheels([path], tmp_path / "to")


def test_the_installed_bitdew_is_copied_without_what_tells_of_this_machine(tmp_path):
    copy_ourselves(tmp_path)
    assert (tmp_path / "bitdew/worker/daemon.py").is_file()
    assert (tmp_path / "bitdew/disks/guest/init.sh").is_file()
    (about,) = tmp_path.glob("bitdew-*.dist-info")
    assert [path.name for path in about.iterdir()] == ["METADATA"]
    assert not list(tmp_path.rglob("__pycache__"))
