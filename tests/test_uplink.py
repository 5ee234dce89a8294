"""The repository's uplink: what goes over HTTPS keeps its rate, and swarms have the rest meanwhile."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.composition import SWARMS_LEAST, Service, ServiceSettings, http_rate
from bitdew.core.attribute import Attribute, Protocol
from bitdew.testing.grid import Grid
from bitdew.wire.pacing import CATCH_UP_SECONDS

MB = 2**20
RATES = st.integers(1, 2**40)


@given(RATES, st.one_of(st.none(), st.integers(0, 2**40)))
def test_https_never_has_more_than_the_uplink_and_swarms_always_have_some_of_it(upload, own):
    service = Service(ServiceSettings(home=Path("unused"), upload=upload, http_egress=own))
    over_https, swarms = http_rate(service.settings), service._limits(http=True).upload
    assert 1 <= over_https <= upload  # 0 would be no cap at all
    assert service._limits(http=False).upload == upload
    assert 1 <= swarms <= upload
    assert over_https + swarms <= upload + max(upload // SWARMS_LEAST, 1)


@pytest.mark.parametrize(("own", "rate"), [(None, 0), (0, 0), (5, 5)])
def test_without_a_cap_on_the_uplink_https_has_the_one_that_is_given(own, rate):
    service = Service(ServiceSettings(home=Path("unused"), http_egress=own))
    assert http_rate(service.settings) == rate
    assert service._limits(http=True).upload == 0


@pytest.mark.parametrize(("upload", "own", "rate"), [(10, None, 5), (10, 0, 10), (10, 3, 3), (10, 30, 10)])
def test_https_has_half_of_a_capped_uplink_or_what_is_said(upload, own, rate):
    assert http_rate(ServiceSettings(home=Path("unused"), upload=upload, http_egress=own)) == rate


async def test_downloads_by_several_hosts_together_keep_the_rate(tmp_path):
    path = tmp_path / "events"
    path.write_bytes(random.Random(3).randbytes(4 * MB))
    async with Grid(2, upload=8 * MB) as grid:
        began = time.monotonic()
        await grid.client.put(path, "events", Attribute(replica=2, protocol=Protocol.HTTP))
        await grid.until("events", lambda where: where.data.held == 2)
        assert time.monotonic() - began > 8 * MB / (4 * MB) - 2 * CATCH_UP_SECONDS
