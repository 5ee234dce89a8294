"""A database filled in bulk: as many data, hosts and copies as a benchmark wants, without going through the service.

Owns the rows. They go in by the bare driver: a million by the service's own way would take longer than the benchmark.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bitdew.catalog.database import Database

from bitdew.core.content import Content, piece_length_for
from bitdew.core.ids import ContentRoot, HostId, Uid
from bitdew.swarm.metainfo import build_metainfo
from bitdew.wire.models import HostReport, SharingModel

GB: Final = 2**30
SIZE: Final = 2**20
"""Bytes of each datum."""
LONG_AGO: Final = datetime.now(UTC).replace(microsecond=0) - timedelta(days=30)
SITES: Final = 20
OWNER: Final = "0" * 32


def host_report(name: str, number: int) -> HostReport:
    """What the host of this number says of itself."""
    return HostReport(
        name=name,
        swarm=f"127.{1 + number // 65536}.{number // 256 % 256}.{number % 256}:6881",
        cpus=4,
        memory=8 * GB,
        quota=100 * GB,
        used=(number * 7919 % 19) * GB,
        free=200 * GB,
        labels={"site": f"site{number % SITES}"},
        sharings=[SharingModel(name="qemu", version="8.2")],
    )


@dataclass(frozen=True, slots=True)
class StoredDatum:
    """A datum to store, with the hosts that hold it, and those that were ordered to.

    An order's generation is its number among those of its host, from 1 on.
    """

    uid: Uid
    name: str
    attribute: Uid
    held_by: Sequence[HostId] = ()
    ordered_to: Sequence[HostId] = ()

    @property
    def root(self) -> ContentRoot:
        """A root that no other datum has."""
        return ContentRoot(hashlib.sha256(self.uid.encode()).hexdigest())

    @property
    def info_hash(self) -> str:
        """Its swarm."""
        return build_metainfo(Content(self.root, SIZE, piece_length_for(SIZE), b"")).info_hash


@dataclass(frozen=True, slots=True)
class StoredAttribute:
    """An attribute to store; `wishes` in the canonical form."""

    uid: Uid
    name: str | None
    wishes: dict[str, Any] = field(default_factory=dict)


def uid_of(*parts: object) -> Uid:
    """A uid that is the same in each run, and lies anywhere among the others."""
    return Uid(hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest())


async def new_database(path: Path) -> None:
    """An empty database in the present form."""
    database = Database.in_file(path)
    await database.migrate()
    await database.close()


def fill(
    path: Path,
    *,
    attributes: Iterable[StoredAttribute] = (),
    data: Iterable[StoredDatum] = (),
    hosts: Iterable[tuple[HostId, str]] = (),
) -> None:
    """Put rows into a database that no one uses at the moment. Blocks.

    Args:
        path: The SQLite file.
        attributes: Attributes.
        data: Data whose attributes and hosts are stored, or among these. Hosts are given orders in one call only.
        hosts: Hosts and their names, alive.
    """
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous=OFF")  # it can be made again
        database.execute("PRAGMA cache_size=-400000")
        with database:
            database.executemany(
                "INSERT INTO attributes (uid, name, digest, wishes, pins, owner, created, changed, version)"
                " VALUES (?, ?, ?, ?, '[]', ?, ?, ?, 1)",
                (_attribute_row(attribute) for attribute in attributes),
            )
            database.executemany(
                "INSERT INTO hosts (uid, name, state, state_since, last_seen, report, generation)"
                " VALUES (?, ?, 'alive', ?, ?, ?, 0)",
                (_host_row(host, name, number) for number, (host, name) in enumerate(hosts)),
            )
            some = list(data)
            database.executemany(
                "INSERT INTO data (uid, name, root, size, piece_length, info_hash, created, owner, attribute, alive,"
                " damaged, awaited, died_because) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 0, '')",
                map(_data_row, some),
            )
            database.executemany(
                "INSERT INTO placements (data, host, state, since, assigned, generation, lease_until, failures, cause,"
                " done, from_repository, from_peers, freed, history)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 0, 'stored by a benchmark', ?, 0, 0, 0, '[]')",
                _placement_rows(some),
            )
            database.executemany(
                "INSERT INTO orders (uid, host, generation, kind, subject, cause, created)"
                " VALUES (?, ?, ?, 'place', ?, 'stored by a benchmark', ?)",
                (
                    (uid_of("order", uid, host), host, generation, uid, _text(LONG_AGO))
                    for uid, host, generation in _ordered(some)
                ),
            )
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fill_with_many(path: Path, count: int, *, copies: int) -> None:
    """Add `count` data like any other to a database that no one uses, each with `copies` copies. Blocks.

    They are spread evenly over all attributes and hosts that are stored, of which there are at least as many as copies.
    The database makes the rows itself: a million take half a minute.
    """
    moment, length = _text(LONG_AGO), piece_length_for(SIZE)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous=OFF")
        database.execute("PRAGMA cache_size=-400000")
        database.executescript(_NUMBERED)
        (attributes,) = database.execute("SELECT count(*) FROM numbered_attributes").fetchone()
        (hosts,) = database.execute("SELECT count(*) FROM numbered_hosts").fetchone()
        with database:
            database.execute(_MAKE_MANY, (count,))
            database.execute(_ADD_MANY, (SIZE, length, moment, OWNER, attributes))
            for copy in range(copies):
                database.execute(_PLACE_MANY, (moment, moment, SIZE, copy, hosts))
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_NUMBERED: Final = """
    CREATE TEMP TABLE numbered_attributes AS SELECT uid FROM attributes ORDER BY uid;
    CREATE TEMP TABLE numbered_hosts AS SELECT uid FROM hosts ORDER BY uid;
"""
_MAKE_MANY: Final = """
    CREATE TEMP TABLE fresh AS WITH RECURSIVE numbers (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers LIMIT ?)
    SELECT lower(hex(randomblob(16))) AS uid, i FROM numbers ORDER BY uid
"""
_ADD_MANY: Final = """
    INSERT INTO data (uid, name, root, size, piece_length, info_hash, created, owner, attribute, alive, damaged,
        awaited, died_because)
    SELECT fresh.uid, 'datum-' || fresh.uid, lower(hex(randomblob(32))), ?, ?, lower(hex(randomblob(32))), ?, ?,
        numbered_attributes.uid, 1, 0, 0, ''
    FROM fresh JOIN numbered_attributes ON numbered_attributes.rowid = 1 + fresh.i % ? ORDER BY fresh.uid
"""
_PLACE_MANY: Final = """
    INSERT INTO placements (data, host, state, since, assigned, generation, failures, cause, done, from_repository,
        from_peers, freed, history)
    SELECT fresh.uid, numbered_hosts.uid, 'held', ?, ?, 0, 0, 'stored by a benchmark', ?, 0, 0, 0, '[]'
    FROM fresh JOIN numbered_hosts ON numbered_hosts.rowid = 1 + (fresh.i + ?) % ? ORDER BY fresh.uid
"""


def _attribute_row(attribute: StoredAttribute) -> tuple[Any, ...]:
    digest = None if attribute.name else hashlib.sha256(attribute.uid.encode()).hexdigest()
    wishes, moment = json.dumps(attribute.wishes), _text(LONG_AGO)
    return attribute.uid, attribute.name, digest, wishes, OWNER, moment, moment


def _host_row(host: HostId, name: str, number: int) -> tuple[Any, ...]:
    moment = _text(LONG_AGO)
    return host, name, moment, moment, host_report(name, number).model_dump_json()


def _data_row(datum: StoredDatum) -> tuple[Any, ...]:
    length, moment = piece_length_for(SIZE), _text(LONG_AGO)
    return datum.uid, datum.name, datum.root, SIZE, length, datum.info_hash, moment, OWNER, datum.attribute


def _placement_rows(data: Iterable[StoredDatum]) -> Iterator[tuple[Any, ...]]:
    moment, lease = _text(LONG_AGO), _text(datetime.now(UTC) + timedelta(days=1))
    for datum in data:
        for host in datum.held_by:
            yield datum.uid, host, "held", moment, moment, 0, None, SIZE
    for uid, host, generation in _ordered(data):
        yield uid, host, "assigned", moment, moment, generation, lease, 0


def _ordered(data: Iterable[StoredDatum]) -> Iterator[tuple[Uid, HostId, int]]:
    """The datum, host and generation of each order."""
    generations: Counter[HostId] = Counter()
    for datum in data:
        for host in datum.ordered_to:
            generations[host] += 1
            yield datum.uid, host, generations[host]


def _text(moment: datetime) -> str:
    """A moment as SQLAlchemy stores it in SQLite."""
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")
