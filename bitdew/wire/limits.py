"""How much anyone may send. Each bound stands beside the reason for it."""

from __future__ import annotations

from typing import Final

BODY: Final = 4 * 1024 * 1024
"""Bytes of a JSON body: a full inventory of 10,000 placements fits."""

TEXT: Final = 4096
"""Characters of a sentence: an error's message or reason."""

FIELDS: Final = 16 * 1024
"""Bytes of an error's names and figures, as JSON: a path and some more."""

REPLY: Final = 4 * BODY
"""Bytes of a JSON reply: a disk's placements on 10,000 hosts fit several times."""

PEM: Final = 16 * 1024
"""Characters of a certificate or a request for one."""

RECORD: Final = 16 * 1024
"""Bytes of a signed image record's payload."""

NAME: Final = 128
"""Characters of a name."""

PLACEMENTS: Final = 10_000
"""Placement reports in one sync: a full inventory is one sync, so that a host can have no more copies than these."""

MACHINES: Final = 1000
"""Machine reports in one sync."""

ORDERS: Final = 1000
"""Orders in one reply; the rest follow with the next."""

PEERS: Final = 100
"""Peers in one order or announce reply: more than a swarm member connects to at first."""

BATCH: Final = 10_000
"""Data in one request: with names of 128 characters and the name of an attribute they fit into a body."""

PAGE: Final = 1000
"""Data on one page of a list."""

WISHES: Final = 32
"""Keys of an attribute: more than there are, so that one too many is told by its name."""

LABELS: Final = 100
"""Labels and sharings of one host."""

CONSOLE_CHUNK: Final = 64 * 1024
"""Characters of console output in one report."""

CONSOLE: Final = 1024 * 1024
"""Characters of console output that the service keeps per machine; the oldest go first."""

LONGEST_POLL: Final = 60.0
"""Seconds that a reply may be held open."""

LARGEST_DISK: Final = 2**40
"""Bytes of one datum: 1 TiB."""

MACHINES_PER_DEPLOYMENT: Final = 10_000
"""Machines that one deployment may ask for."""

CHUNK: Final = 1024 * 1024
"""Bytes of a streamed body that are handled at once."""
