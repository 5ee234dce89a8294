"""The programs that disks are built with: what is missing is told with what to install, what fails with its words."""

import pytest

from bitdew.core.errors import BitDewError
from bitdew.disks import programs
from bitdew.disks.build import build_disk
from bitdew.disks.programs import check_tools, run_tool
from bitdew.disks.recipe import Recipe


def test_what_is_missing_is_told_with_the_packages_to_install(monkeypatch):
    monkeypatch.setattr(programs, "_NEEDED", {"no-such-program": "the-package", "sh": "dash"})
    monkeypatch.setattr(programs, "_FILES", {})
    with pytest.raises(BitDewError) as caught:
        check_tools()
    assert caught.value.key == "disk.tool-missing"
    assert "no-such-program" in caught.value.message
    assert caught.value.fields["packages"] == ["the-package"]
    assert caught.value.do.endswith("--no-install-recommends the-package")


def test_a_program_that_fails_is_told_with_its_last_words():
    with pytest.raises(BitDewError) as caught:
        run_tool(["sh", "-c", "echo out of luck >&2; exit 3"], doing="Trying")
    assert (caught.value.key, caught.value.message) == ("disk.build-failed", "Trying failed")
    assert caught.value.why == "sh ended with 3: out of luck"


def test_a_program_that_takes_too_long_is_ended():
    with pytest.raises(BitDewError, match="took more than"):
        run_tool(["sleep", "60"], seconds=0.2, doing="Sleeping")


def test_a_file_that_is_there_is_not_replaced_unasked(tmp_path):
    path = tmp_path / "there.raw"
    path.write_text("mine")
    with pytest.raises(BitDewError, match="exists already"):
        build_disk(Recipe("x"), path, cache=tmp_path / "cache")
    assert path.read_text() == "mine"


def test_a_machine_with_no_space_is_told_before_anything_is_fetched(tmp_path, monkeypatch):
    from bitdew.disks import build

    monkeypatch.setattr(build, "check_tools", lambda: None)
    monkeypatch.setattr(build, "SPACE", 2**60)
    with pytest.raises(BitDewError) as caught:
        build_disk(Recipe("x"), tmp_path / "x.raw", cache=tmp_path / "cache")
    assert caught.value.key == "storage.full"
    assert not (tmp_path / "cache/packages").exists()
