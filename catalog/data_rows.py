"""Data as they stand in the tables: the query that reads them, and the rows that are written.

Owns which columns those are. Nothing is read or written here; `data_store` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Select, select

from .tables import AttributeRow, DataRow, DiskRow, OriginRow

if TYPE_CHECKING:
    from .data_store import Datum, Disk

_BEYOND: Final = "\x7f"
"""It sorts after all that a name is made of."""

DATA: Final = (
    select(
        *(column for column in DataRow.__table__.columns),
        AttributeRow.version.label("wishes_version"),
        *(column for column in DiskRow.__table__.columns if column.name != "uid"),
        OriginRow.swarm.label("origin_swarm"),
        OriginRow.until.label("origin_until"),
    )
    .join(AttributeRow, AttributeRow.uid == DataRow.attribute)
    .outerjoin(DiskRow, DiskRow.uid == DataRow.uid)
    .outerjoin(OriginRow, OriginRow.uid == DataRow.uid)
)


def page(prefix: str, after: str | None, limit: int | None) -> Select[Any]:
    """The living data whose names begin with `prefix`, by name, from the first one after the name `after` on."""
    query = DATA.where(DataRow.alive).order_by(DataRow.name).limit(limit)
    if prefix:
        # Not LIKE: it looks up nothing in an index if the case of letters does not count for it.
        query = query.where(DataRow.name >= prefix, DataRow.name < prefix + _BEYOND)
    return query if after is None else query.where(DataRow.name > after)


def data_values(datum: Datum) -> dict[str, Any]:
    """The row of any datum."""
    data = datum.data
    return {
        "uid": data.uid,
        "name": data.name,
        "root": data.root,
        "size": data.size,
        "piece_length": data.piece_length,
        "info_hash": datum.info_hash,
        "created": data.created,
        "owner": data.owner,
        "kind": data.kind,
        "attribute": datum.attribute.uid,
        "alive": datum.alive,
        "damaged": datum.damaged,
        "awaited": datum.awaited,
        "ends": datum.ends,
        "died": datum.died,
        "died_because": datum.died_because,
        "for_jobs": datum.for_jobs,
    }


def disk_values(disk: Disk) -> dict[str, Any]:
    """The row that a disk has beside it."""
    record, signed = disk.record, disk.signed
    return {
        "uid": disk.data.uid,
        "format": record.format,
        "os": record.os,
        "arch": record.arch,
        "version": record.version,
        "publisher": record.publisher,
        "expires": record.expires,
        "payload": signed.payload,
        "signature": signed.signature,
        "certificate": signed.certificate,
    }
