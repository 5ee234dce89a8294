"""The constants that guard the door."""

from __future__ import annotations

import base64
from decimal import Decimal, localcontext

import psutil

from bitdew.core.host import Endpoint
from bitdew.swarm.settings import DH_PARAMETERS, SwarmLimits, open_session


def test_the_dh_group_is_ffdhe2048_of_rfc_7919() -> None:
    with localcontext(prec=700):
        e = int(Decimal(1).exp() * Decimal(2) ** 1918)  # appendix A.1 gives the prime by this formula
    prime = 2**2048 - 2**1984 + (e + 560316) * 2**64 - 1
    der = base64.b64decode("".join(DH_PARAMETERS.splitlines()[1:-1]))
    assert der == bytes.fromhex("30820108" + "02820101") + prime.to_bytes(257, "big") + bytes.fromhex("020102")


async def test_one_tcp_port_is_open_and_it_speaks_tls(nodes) -> None:
    swarm = await nodes.start()
    listeners = [
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.Process().net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.ip.startswith("127.0.3.")
    ]
    assert listeners == [(swarm.endpoint.host, swarm.endpoint.port)]


def test_peers_are_found_by_no_other_way_and_the_caps_are_set() -> None:
    session = open_session(Endpoint("127.0.3.180", 0), SwarmLimits(upload=5, download=6, connections=7))
    settings = session.get_settings()
    del session
    ways = ("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_outgoing_utp", "enable_incoming_utp")
    assert not any(settings[way] for way in ways)
    caps = [settings[name] for name in ("upload_rate_limit", "download_rate_limit")]
    assert [*caps, settings["connections_limit"] + settings["connections_slack"]] == [5, 6, 7]
    assert settings["outgoing_interfaces"] == "127.0.3.180"


def test_a_node_at_every_address_lets_the_system_choose_its_source() -> None:
    session = open_session(Endpoint("::", 0), SwarmLimits())
    assert session.get_settings()["outgoing_interfaces"] == ""
