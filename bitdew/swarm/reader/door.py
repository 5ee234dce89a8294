"""The TLS context with which a reader comes to peers.

Owns what is verified there. Peers' certificates name nobody: what counts is that they are our CA's, and for swarms.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from bitdew.trust.keys import KeyPair
from bitdew.trust.tls import client_context

if TYPE_CHECKING:
    from bitdew.swarm.credentials import SwarmCredentials


def reader_context(credentials: SwarmCredentials) -> ssl.SSLContext:
    """What a reader connects with; whoever it reaches is looked at by `is_member` too. Blocks for a moment.

    Raises:
        UserError: `input.invalid`, if a certificate or the key can't be used.
    """
    pair = KeyPair(credentials.certificate, credentials.private_key)
    context = client_context(credentials.root_certificate, pair)
    # The name that is said is the content's, by which libtorrent finds it.
    context.check_hostname = False
    return context
