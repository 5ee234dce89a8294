"""The catalog's tables. Rows never leave the stores."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Identity, Index, Integer, LargeBinary, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from .database import Base, UtcDateTime

Name = String(128).with_variant(String(128, collation="C"), "postgresql")
"""Names are compared byte by byte in every database: so a page of names begins where the last one ended."""


class AttributeRow(Base):
    """Wishes, and what the names in them were found to mean.

    One that has no name is found by the digest of its wishes. One that has neither was removed, and stays for the dead
    data that had it.
    """

    __tablename__ = "attributes"

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str | None] = mapped_column(Name, unique=True)
    digest: Mapped[str | None] = mapped_column(String(64), unique=True)
    wishes: Mapped[dict[str, Any]] = mapped_column(JSON)
    # The data named here are no foreign keys: data refer to attributes, and a row of data is never deleted.
    affinity_data: Mapped[str | None] = mapped_column(String(32))
    affinity_attribute: Mapped[str | None] = mapped_column(ForeignKey("attributes.uid"), index=True)
    lifetime_data: Mapped[str | None] = mapped_column(String(32))
    pins: Mapped[list[str]] = mapped_column(JSON)
    owner: Mapped[str] = mapped_column(String(128))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    changed: Mapped[datetime] = mapped_column(UtcDateTime)
    version: Mapped[int]


class DataRow(Base):
    """A datum; one that died stays as a row, so that copies of it are still known for what they are."""

    __tablename__ = "data"
    __table_args__ = (
        # Spelt as conditions on it are: SQLite uses a partial index only for the words that it was made with.
        Index(
            "uq_data_name_alive", "name", unique=True, sqlite_where=text("alive = 1"), postgresql_where=text("alive")
        ),
        Index("ix_data_name_dead", "name", sqlite_where=text("alive = 0"), postgresql_where=text("NOT alive")),
        Index("ix_data_attribute", "attribute", "alive", "uid"),
        Index("ix_data_for_jobs", "owner", "alive", sqlite_where=text("for_jobs"), postgresql_where=text("for_jobs")),
    )

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(Name)
    root: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    piece_length: Mapped[int]
    info_hash: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    owner: Mapped[str] = mapped_column(String(128))
    kind: Mapped[str] = mapped_column(String(16), default="file", server_default="file")
    attribute: Mapped[str] = mapped_column(ForeignKey("attributes.uid"))
    alive: Mapped[bool] = mapped_column(default=True)
    damaged: Mapped[bool] = mapped_column(default=False)
    awaited: Mapped[bool] = mapped_column(default=False)
    """Whether its bytes have not come yet."""
    ends: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """When its life ends, if its attribute says a date or a duration."""
    died: Mapped[datetime | None] = mapped_column(UtcDateTime)
    died_because: Mapped[str] = mapped_column(Text, default="")
    for_jobs: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether its owner put it for jobs of his own: nobody else is shown it, and it goes with them."""


class OriginRow(Base):
    """Who offers a datum's bytes from where they are. The row stays when that ends."""

    __tablename__ = "origins"

    uid: Mapped[str] = mapped_column(ForeignKey("data.uid"), primary_key=True)
    subject: Mapped[str] = mapped_column(String(32))
    swarm: Mapped[str] = mapped_column(String(64))
    """Where the publisher's swarm listens."""
    until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    """How long that counts without another word; None while the publisher is away."""


class DiskRow(Base):
    """What makes a datum a disk: its publisher's signed record."""

    __tablename__ = "disks"

    uid: Mapped[str] = mapped_column(ForeignKey("data.uid"), primary_key=True)
    format: Mapped[str] = mapped_column(String(32))
    os: Mapped[str] = mapped_column(String(128))
    arch: Mapped[str] = mapped_column(String(32))
    version: Mapped[str] = mapped_column(String(64))
    publisher: Mapped[str] = mapped_column(String(128))
    expires: Mapped[datetime] = mapped_column(UtcDateTime)
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    signature: Mapped[bytes] = mapped_column(LargeBinary)
    certificate: Mapped[str] = mapped_column(Text)
    deprecated: Mapped[str | None] = mapped_column(Text)
    """Why no more machines are to run from it."""


class EventRow(Base):
    """Something that happened. Rows are only added, and the oldest forgotten."""

    __tablename__ = "events"
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012 (as SQLAlchemy wants it); no number is used twice

    # The transactions that write follow one upon the other: so the order of the numbers is that of the commits.
    seq: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    kind: Mapped[str] = mapped_column(String(16))
    data: Mapped[str] = mapped_column(String(32))
    host: Mapped[str | None] = mapped_column(String(32))
    why: Mapped[str] = mapped_column(Text)


class TokenRow(Base):
    """A join token; only a digest of its secret is stored."""

    __tablename__ = "tokens"

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    uses_left: Mapped[int]
    expires: Mapped[datetime] = mapped_column(UtcDateTime)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    creator: Mapped[str] = mapped_column(String(32))
    note: Mapped[str] = mapped_column(String(200))
    machine: Mapped[str | None] = mapped_column(String(32))
    """The machine whose own worker joins by it."""


class InnerHostRow(Base):
    """A host that is a machine of this grid."""

    __tablename__ = "inner_hosts"

    host: Mapped[str] = mapped_column(String(32), primary_key=True)
    machine: Mapped[str] = mapped_column(String(32), index=True)
    over: Mapped[bool] = mapped_column(default=False, index=True)
    """Whether the machine has ended, and its identity with it."""


class EnrolmentRow(Base):
    """Who was enrolled with which token and key: whoever lost the reply may ask again, and costs the token nothing."""

    __tablename__ = "enrolments"

    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    """The digest of the token's secret."""
    request: Mapped[str] = mapped_column(String(64), primary_key=True)
    """The digest of the public key that asked."""
    subject_id: Mapped[str] = mapped_column(String(32))
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(128))


class CertificateRow(Base):
    """A certificate that was issued."""

    __tablename__ = "certificates"

    serial: Mapped[str] = mapped_column(String(64), primary_key=True)
    subject_id: Mapped[str] = mapped_column(String(32), index=True)
    role: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(128))
    expires: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked: Mapped[datetime | None] = mapped_column(UtcDateTime)


class LeadershipRow(Base):
    """The one row that counts how often the leadership changed hands."""

    __tablename__ = "leadership"

    uid: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """1."""
    epoch: Mapped[int] = mapped_column(BigInteger)


class TallyRow(Base):
    """So many more, or fewer, of a kind. The sum of all rows of a kind is how many there are.

    Triggers of the database add the rows, one for each row elsewhere that comes, goes or changes its state. Nothing but
    `catalog/tallies.py` reads them, and makes few of many.
    """

    __tablename__ = "tallies"

    seq: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), Identity(), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(20))
    owner: Mapped[str] = mapped_column(String(128))
    """Whose they are, of jobs alone."""
    number: Mapped[int] = mapped_column(BigInteger)
    size: Mapped[int] = mapped_column(BigInteger)
