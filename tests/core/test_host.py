"""Endpoints are read strictly: they come from other machines."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdew.core.errors import BitDewError
from bitdew.core.host import Endpoint

PORTS = st.integers(0, 65535)


@given(st.ip_addresses(v=4).map(str), PORTS)
def test_an_ipv4_endpoint_is_written_and_read_alike(host: str, port: int) -> None:
    assert str(Endpoint.parse(f"{host}:{port}")) == f"{host}:{port}"


@given(st.ip_addresses(v=6), PORTS)
def test_an_ipv6_endpoint_is_written_and_read_alike_in_any_spelling(address: ipaddress.IPv6Address, port: int) -> None:
    for spelling in (str(address), address.exploded, address.compressed.upper()):
        endpoint = Endpoint.parse(f"[{spelling}]:{port}")
        assert endpoint == Endpoint(str(address), port)
        assert str(endpoint) == f"[{address}]:{port}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "127.0.0.1",
        "127.0.0.1:",
        ":80",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1: 1",
        "127.0.0.1:1_0",
        "127.0.0.1:٣",
        "127.0.0.1:1\n",
        " 127.0.0.1:1",
        "127.0.0.1:" + "1" * 5000,
        "127.0.1:80",
        "localhost:80",
        "[127.0.0.1]:80",
        "::1:80",
        "[::1:80",
        "::1]:80",
        "[[::1]]:80",
        "[]:80",
        "[fe80::1%eth0]:80",
        "[fe80::1%a\nb]:80",
    ],
)
def test_what_is_no_endpoint_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BitDewError, match="is not an address with a port") as refused:
        Endpoint.parse(text)
    assert refused.value.key == "input.invalid"
    assert "10.0.0.7:6881" in refused.value.do
    assert len(refused.value.message) < 200


@given(st.text() | st.from_regex(r"\[?[0-9a-f:.%\[\]]{0,40}\]?:\d{0,6}"))
def test_any_text_is_an_endpoint_that_is_read_again_the_same_or_refused(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except BitDewError as refused:
        assert refused.key == "input.invalid"  # noqa: PT017  (either outcome is right)
    else:
        assert Endpoint.parse(str(endpoint)) == endpoint
        assert 0 <= endpoint.port <= 65535


def test_endpoints_have_an_order_so_that_lists_of_them_are_the_same_everywhere() -> None:
    endpoints = [Endpoint("10.0.0.2", 1), Endpoint("10.0.0.1", 2), Endpoint("10.0.0.1", 1)]
    assert sorted(endpoints) == endpoints[::-1]
