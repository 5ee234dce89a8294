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

METAINFO: Final = 3 * 1024 * 1024 - 64 * 1024
"""Bytes of a .torrent in a request: as base64 it fits into a body. It has room for the pieces of `LARGEST_SEEDED`."""

LARGEST_SEEDED: Final = 360 * 2**30
"""Bytes of a datum that its publisher offers itself: its .torrent fits into a request."""

RECORD: Final = 16 * 1024
"""Bytes of a signed image record's payload."""

SKETCH: Final = 64 * 32
"""Bytes of a content's sketch: 64 hashes."""

INSTANT: Final = 40
"""Characters of an instant: 2026-03-04T05:06:07.890000+00:00 has 32."""

NAME: Final = 128
"""Characters of a name."""

PLACEMENTS: Final = 10_000
"""Placement reports in one sync: a full inventory is one sync, so that a host can have no more copies than these."""

MACHINES: Final = 1000
"""Machine reports in one sync."""

ORDERS: Final = 1000
"""Orders in one reply; the rest follow with the next."""

DOUBTS: Final = 100
"""Copies of one host that are under suspicion at a time."""

CALLS: Final = 200
"""Contents that a host is called for in one reply."""

SOUGHT: Final = 1000
"""Contents that a host is told others want from it, at a time."""

PEERS: Final = 100
"""Peers in one order or announce reply: more than a swarm member connects to at first."""

BATCH: Final = 10_000
"""Data in one request: with names of 128 characters and the name of an attribute they fit into a body."""

PAGE: Final = 1000
"""Data on one page of a list."""

WISHES: Final = 32
"""Keys of an attribute: more than there are, so that one too many is told by its name."""

DATA_CAPS: Final = 1000
"""Data that have caps of their own on one host."""

CONTROL: Final = 1024 * 1024
"""Bytes of one line that a worker and a command on its machine exchange: what is to say of all `DATA_CAPS` fits."""

CONTROL_CALLS: Final = 16
"""Commands that a worker listens to at a time."""

JOBS_AT_ONCE: Final = 10_000
"""Jobs at a time on one host, as a volunteer may say it."""

PLUGINS: Final = 32
"""Plug-ins on one host: each has a thread of its own."""

BRIDGES: Final = 32
"""Bridges to other systems on one host, as well."""

PATTERNS: Final = 100
"""Names, or patterns of them, by which one of these chooses data."""

URL: Final = 2000
"""Characters of the URL of a door that is no service of ours."""

DOOR_REPLY: Final = 64 * 1024
"""Bytes that are read of what such a door answers."""

COMMAND_WORDS: Final = 64
"""Words of a command that is told of copies."""

COMMAND_WORD: Final = 4096
"""Characters of each."""

LABELS: Final = 100
"""Labels and sharings of one host."""

PROGRAMS: Final = 1000
"""Programs of one host that jobs may run."""

CONSOLE_CHUNK: Final = 64 * 1024
"""Characters of console output in one report."""

CONSOLE: Final = 1024 * 1024
"""Characters of console output that the service keeps per machine; the oldest go first."""

SNAPSHOTS: Final = 8
"""Snapshots of one machine: each has its whole memory, on the volunteer's disk."""

PORTS: Final = 16
"""Ports of a host that lead to one machine."""

PICTURE: Final = 2 * 1024 * 1024
"""Bytes of the picture of a machine's screen: as base64 it fits into a body."""

LONGEST_POLL: Final = 60.0
"""Seconds that a reply may be held open."""

LARGEST_DISK: Final = 2**40
"""Bytes of one datum: 1 TiB."""

USER_DATA: Final = 64 * 1024
"""Characters that the machines of a deployment may be told by its user."""

MACHINES_PER_DEPLOYMENT: Final = 10_000
"""Machines that one deployment may ask for."""

JOBS: Final = 10_000
"""Jobs of one request."""

OUTPUTS: Final = 10_000
"""Files that a run may leave as results: told in one report."""

RUN_LOG: Final = 1024 * 1024
"""Characters of a run's log that the service keeps; the oldest go first."""

PART: Final = 64 * 1024 * 1024
"""Bytes of one part of an upload: several pieces of the largest kind."""

SUMMARY: Final = 20
"""Hosts, swarms, machines, jobs and troubles in a summary, of each: what people can take in."""

SMALL: Final = 512 * 1024
"""Bytes of a datum that may come with its description in one request: as base64 they fit into a body."""

PARTS: Final = 16
"""Parts of one upload that may come at once: some may be of connections that broke and are not yet known to have."""

UPLOADS: Final = 256
"""Uploads of one sender that are under way: each takes up to 2 MiB of memory, for the hashes of its pieces."""

HELD: Final = 4
"""Contents of the size of what is to be uploaded that are told to its sender."""

SAMPLES: Final = 32
"""Pieces of each of these whose hashes are told."""

CHUNK: Final = 1024 * 1024
"""Bytes of a streamed body that are handled at once."""
