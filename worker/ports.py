"""Ports of this host for a machine: those that were asked for, or any that are free. Blocks."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from bitdew.core.errors import error
from bitdew.wire.models import PortModel

if TYPE_CHECKING:
    from collections.abc import Sequence


def free_ports(wanted: Sequence[PortModel], address: str) -> list[PortModel]:
    """A port at this address of the host for each that is wanted.

    Nobody is kept from taking one before the machine has it.

    Raises:
        UserError: `port.in-use`.
        HostError: `port.address`, if the address is not this host's.
    """
    sockets: list[socket.socket] = []
    try:
        found = []
        for port in wanted:
            taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sockets.append(taken)
            # As a hypervisor does: a port whose last connection is only just closed is free.
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                taken.bind((address, port.host))
            except OSError as fault:
                why = fault.strerror or str(fault)
                if fault.errno == errno.EADDRNOTAVAIL:
                    raise error(
                        "port.address", f"Machines' ports can't be at {address} on this host", why=why, address=address
                    ) from None
                raise error(
                    "port.in-use", f"The host's port {port.host} is not free", why=why, port=port.host
                ) from None
            found.append(PortModel(host=taken.getsockname()[1], guest=port.guest, address=address))
        return found
    finally:
        for taken in sockets:
            taken.close()
