"""The catalog's tables. Rows never leave the stores."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from .database import Base, UtcDateTime


class DataRow(Base):
    """A datum; a removed one stays as a row, so that copies of it are still known for what they are."""

    __tablename__ = "data"
    __table_args__ = (
        Index("uq_data_name_alive", "name", unique=True, sqlite_where=text("alive"), postgresql_where=text("alive")),
    )

    uid: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    root: Mapped[str] = mapped_column(String(64), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    piece_length: Mapped[int]
    info_hash: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    owner: Mapped[str] = mapped_column(String(128))
    attribute: Mapped[dict[str, Any]] = mapped_column(JSON)
    alive: Mapped[bool] = mapped_column(default=True)
    damaged: Mapped[bool] = mapped_column(default=False)


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
