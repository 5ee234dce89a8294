"""Outputs: what a job left for its submitter, and nothing that it only points to."""

from __future__ import annotations

import os
import socket
from pathlib import Path, PurePosixPath

import pytest
from bitdew.worker.jobs.outputs import OutputLimits, collect, matches
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.core.job_path import pattern_parts


def put(work: Path, *names: str) -> None:
    for name in names:
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name)


def names(work: Path, *patterns: str, exclude: tuple[str, ...] = ()) -> list[str]:
    return [output.name for output in collect(work, patterns, exclude=exclude).found]


def test_outputs_are_found_in_the_order_of_their_names(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a.png", "c.root", "sub/d.png", "sub/deep/e.png", ".hidden.png")
    assert names(tmp_path, "*.png") == ["a.png", "b.png"]
    assert names(tmp_path, "**/*.png") == ["a.png", "b.png", "sub/d.png", "sub/deep/e.png"]
    assert names(tmp_path, "sub") == ["sub/d.png", "sub/deep/e.png"]
    assert names(tmp_path, "sub", "c.root") == ["c.root", "sub/d.png", "sub/deep/e.png"]
    assert names(tmp_path, ".hidden.png") == [".hidden.png"]
    assert names(tmp_path, "[ab].png", "*.png") == ["a.png", "b.png"], "each once"
    assert names(tmp_path, "*", exclude=("c.root",)) == ["a.png", "b.png", "sub/d.png", "sub/deep/e.png"]
    (found,) = collect(tmp_path, ["c.root"]).found
    assert (found.path, found.size) == (tmp_path / "c.root", 6)


def test_patterns_without_an_output_are_told(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "link.root").symlink_to(tmp_path / "a.png")
    assert collect(tmp_path, ["*.png", "*.root", "none/**"]).missing == ("*.root", "none/**")


def test_what_leads_out_of_the_folder_or_is_no_file_is_refused(tmp_path: Path) -> None:
    work, outside = tmp_path / "work", tmp_path / "outside"
    put(work, "good", "linked")
    put(outside, "secret")
    (work / "symlink").symlink_to(outside / "secret")
    (work / "folder").symlink_to(outside)
    os.link(work / "linked", work / "again")
    os.mkfifo(work / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(work)
        server.bind("socket")
    found = collect(work, ["**"])
    assert [output.name for output in found.found] == ["good"]
    assert {one.name: one.why for one in found.refused} == {
        "again": "it has more than one name",
        "linked": "it has more than one name",
        "folder": "it is a link",
        "symlink": "it is a link",
        "pipe": "it is no regular file",
        "socket": "it is no regular file",
    }
    os.chdir("/")


def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "outside", "secret")
    (tmp_path / "work").symlink_to(tmp_path / "outside")
    with pytest.raises(BitDewError) as refused:
        collect(tmp_path / "work", ["**"])
    assert refused.value.key == "storage.failed"


def test_names_that_nobody_can_write_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "a\nb", "a\x1b[31m")
    (tmp_path / os.fsdecode(b"\xff\xfe")).touch()
    found = collect(tmp_path, ["**"])
    assert found.found == ()
    assert len(found.refused) == 3
    assert all(one.name.isprintable() and one.name.isascii() for one in found.refused)


def test_outputs_are_bounded_in_number_and_size(tmp_path: Path) -> None:
    put(tmp_path, *(f"f{number}" for number in range(10)))
    for limits in (OutputLimits(files=9), OutputLimits(size=19)):
        with pytest.raises(BitDewError) as refused:
            collect(tmp_path, ["*"], limits)
        assert refused.value.key == "job.over-limit"
        assert refused.value.fields["limit"] == ("disk" if limits.files > 10 else "files")
    assert len(collect(tmp_path, ["*"], OutputLimits(files=10, size=20)).found) == 10


def test_folders_that_a_job_closed_are_looked_into(tmp_path: Path) -> None:
    put(tmp_path, "closed/a")
    (tmp_path / "closed").chmod(0)
    assert names(tmp_path, "**") == ["closed/a"]


def test_folders_without_end_end_the_looking(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(200):
        os.mkdir("d", dir_fd=folder)
        below = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    os.close(folder)
    found = collect(tmp_path, ["**"])
    assert found.found == ()
    assert found.refused[0].why == "it is no regular file"


@pytest.mark.parametrize(
    "pattern", ["", "/", "/etc/*", "../*", "a/../b", "a\nb", "**/**/**", "x" * 600, "/".join("a" * 20)]
)
def test_patterns_that_lead_elsewhere_are_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(BitDewError) as refused:
        collect(tmp_path, [pattern])
    assert refused.value.key == "input.invalid"


def test_patterns_are_bounded_in_number(tmp_path: Path) -> None:
    with pytest.raises(BitDewError):
        collect(tmp_path, ["a"] * 65)


PART = st.sampled_from(["a", "b", "ab", "a.png", "b.root"])


@given(
    path=st.lists(PART, min_size=1, max_size=5),
    pattern=st.lists(st.one_of(PART, st.just("*"), st.just("?")), min_size=1, max_size=5),
)
def test_a_pattern_without_depth_matches_as_the_library_says(path: list[str], pattern: list[str]) -> None:
    above = [path[: end + 1] for end in range(len(path))]
    expected = any(len(one) == len(pattern) and PurePosixPath(*one).match("/".join(pattern)) for one in above)
    assert matches(path, pattern_parts("/".join(pattern))) == expected
