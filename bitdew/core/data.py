"""Data and disks: immutable, named, content-addressed bytes, and the signed record that makes a datum a disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from .ids import ContentRoot, Uid


class Kind(StrEnum):
    """What a datum is when it has come back: what travels is one content in any case."""

    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Data:
    """A datum: the bytes of one file, or of a folder's archive, under a name.

    Attributes:
        uid: Its identity.
        name: Unique among the data that are alive.
        root: Its content identity.
        size: Bytes.
        piece_length: Bytes.
        created: When it was added, UTC.
        owner: The subject id of whoever added it.
        kind: A file, or a folder as its archive.
    """

    uid: Uid
    name: str
    root: ContentRoot
    size: int
    piece_length: int
    created: datetime
    owner: str
    kind: Kind = Kind.FILE


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What a publisher says, and signs, of a disk. A worker boots nothing without it.

    Attributes:
        uid: The datum's identity.
        name: The datum's name.
        root: The content identity of the image's bytes.
        info_hash: The v2 info-hash of the swarm that delivers them, hexadecimal.
        size: Bytes.
        format: The image's format: "raw".
        os: What boots from it, in the publisher's words.
        arch: The machine that it is made for: "x86_64".
        version: The publisher's version of this disk.
        publisher: The publisher's name, as in the signing certificate.
        issued: When it was signed, UTC.
        expires: When it stops being valid, UTC.
    """

    uid: Uid
    name: str
    root: ContentRoot
    info_hash: str
    size: int
    format: str
    os: str
    arch: str
    version: str
    publisher: str
    issued: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class SignedRecord:
    """An image record as it travels: the exact bytes that were signed, the signature, and the publisher's certificate.

    Attributes:
        payload: The record as canonical JSON (sorted keys, no spaces, UTF-8).
        signature: Ed25519 over `payload`.
        certificate: The publisher's signing certificate, PEM, issued by the service's CA.
    """

    payload: bytes
    signature: bytes
    certificate: str
