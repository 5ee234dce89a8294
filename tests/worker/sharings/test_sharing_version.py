"""Versions are found in what programs print, in the form that requirements compare."""

from __future__ import annotations

import re

import pytest
from bitdew.scheduler.planner import HYPERVISORS as PLANNED
from bitdew.worker.sharings.known import HYPERVISORS, KNOWN
from bitdew.worker.sharings.version import LONGEST, normalised, version_in
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.host import HostFacts, Sharing
from bitdew.core.ids import HostId
from bitdew.core.requirement import Requirement

numbers = st.lists(st.integers(0, 10**9 - 1), min_size=2, max_size=6)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("6.30/04", "6.30.04"),
        ("ROOT Version: 6.40.02\nBuilt for linuxx8664gcc on May 5 2026", "6.40.02"),
        ("gcc (Debian 12.2.0-14+deb12u1) 12.2.0", "12.2.0"),
        ("v1.9.3", "1.9.3"),
        ("1.8.0_392", "1.8.0.392"),
        ("Python 3.13.0rc1", "3.13.0rc1"),
        ("tool 2.0-beta2 of 2024", "2.0.beta2"),
        ("release 17", "17"),
        ("libfoo.so.6 is not a version, 2.5 is", "2.5"),
        ("no version at all", ""),
        ("", ""),
    ],
)
def test_the_version_is_found_in_what_is_printed(text, version):
    assert version_in(text) == version


@pytest.mark.parametrize("row", KNOWN.values(), ids=KNOWN)
def test_every_row_of_the_table_reads_its_own_example_and_says_where_it_is_told(row):
    version = version_in(row.prints, row.pattern)
    assert re.fullmatch(r"\d+(\.\d+)+", version), version
    assert row.source
    assert [bool(row.command), bool(row.python), bool(row.pkg_config)].count(True) == 1
    assert (row.kind == "library") or row.programs


def test_what_the_planner_takes_for_a_hypervisor_can_not_be_declared():
    assert HYPERVISORS == PLANNED
    assert not KNOWN.keys() & set(HYPERVISORS)


@given(numbers, st.sampled_from(["./_"]), st.randoms())
def test_separators_make_no_difference_to_a_requirement(parts, separators, random):
    written = str(parts[0]) + "".join(random.choice(separators) + str(part) for part in parts[1:])
    host = HostFacts(HostId("0" * 32), "pc", sharings=(Sharing("tool", version_in(f"tool {written} (2024)")),))
    plain = ".".join(map(str, parts))
    assert Requirement(f"sharing.tool >= {plain}").check(host).matches
    assert not Requirement(f"sharing.tool > {plain}").check(host).matches


@given(st.text(max_size=300))
def test_whatever_is_printed_gives_a_version_that_fits_the_wire_or_none(text):
    version = version_in(text)
    assert len(version) <= LONGEST
    assert normalised(version) == version
    assert re.fullmatch(r"[0-9a-z.]*", version)
