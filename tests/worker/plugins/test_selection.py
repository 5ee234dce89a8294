"""Who wants to be told of which copies."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from bitdew.worker.plugins.contract import Replica
from bitdew.worker.plugins.selection import Selection
from pydantic import ValidationError

COPY = Replica("a" * 32, "hep-root", "b" * 64, 7, Path("/copies/b"), "root", datetime(2026, 1, 1, tzinfo=UTC))
BARE = Replica("c" * 32, "tools", "d" * 64, 7, Path("/copies/d"), "", datetime(2026, 1, 1, tzinfo=UTC))
ORSAY = {"site": "orsay", "room": "7"}


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), [COPY, BARE]),
        (Selection(data=("hep-*",)), [COPY]),
        (Selection(data=("tools", "hep-root")), [COPY, BARE]),
        (Selection(data=("HEP-*",)), []),
        (Selection(attributes=("root",)), [COPY]),
        (Selection(attributes=("r??t", "other")), [COPY]),
        (Selection(attributes=("*",)), [COPY, BARE]),
        (Selection(data=("tools",), attributes=("root",)), []),
        (Selection(labels={"site": "orsay"}), [COPY, BARE]),
        (Selection(labels={"site": "lyon"}), []),
        (Selection(labels={"gpu": ""}), []),
    ],
)
def test_all_that_is_said_must_hold(selection, taken):
    assert [copy for copy in (COPY, BARE) if selection.takes(copy, ORSAY)] == taken


@pytest.mark.parametrize("pattern", ["", "a b", "a,b", "a/b", "x" * 129, "é"])
def test_what_can_match_no_name_is_no_pattern(pattern):
    with pytest.raises(ValidationError):
        Selection(data=(pattern,))
