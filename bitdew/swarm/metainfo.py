"""The .torrent of a content: one canonical form, written and read here alone.

A v2-only, private torrent of one file, named by its content root, without tracker or certificate: so the same bytes
make the same info-hash whatever the datum's name and whichever grid holds it. As there is one form only, reading is
one bounded match; whatever deviates by a byte is refused before libtorrent sees it.
Nothing has one too, though there is no swarm of it: what is known of a content is kept in one form.
The form: BEP 52 (https://www.bittorrent.org/beps/bep_0052.html) and BEP 27 (private).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from bitdew.core.content import MOST_PIECES, ROOT_OF_NOTHING, Content, piece_length_for, root_of_layer
from bitdew.core.errors import BitDewError, error
from bitdew.core.ids import ContentRoot

LARGEST_METAINFO: Final = 32 * MOST_PIECES + 4096
"""Bytes: room for the longest piece layer, and for what stands around it."""

_FORM: Final = re.compile(
    rb"d4:infod9:file treed64:(?P<name>[0-9a-f]{64})d0:d6:lengthi(?P<size>0|[1-9][0-9]{0,14})e"
    rb"11:pieces root32:(?P<root>.{32})eee12:meta versioni2e4:name64:(?P=name)"
    rb"12:piece lengthi(?P<piece>[1-9][0-9]{0,9})e7:privatei1ee"
    rb"12:piece layersd(?:32:(?P=root)(?P<length>[1-9][0-9]{0,7}):(?P<layer>.*))?ee",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Metainfo:
    """A content as a swarm announces it.

    Attributes:
        content: What the bytes are.
        info_hash: The v2 info-hash, hexadecimal.
        encoded: The .torrent file's bytes.
    """

    content: Content
    info_hash: str
    encoded: bytes


def build_metainfo(content: Content) -> Metainfo:
    """The metainfo of `content`; equal contents give equal bytes."""
    name = content.root.encode("ascii")
    root = bytes.fromhex(content.root)
    info = (
        b"d9:file treed64:%bd0:d6:lengthi%de11:pieces root32:%beee12:meta versioni2e4:name64:%b"
        b"12:piece lengthi%de7:privatei1ee" % (name, content.size, root, name, content.piece_length)
    )
    layer = b"32:%b%d:%b" % (root, len(content.piece_layer), content.piece_layer) if content.piece_layer else b""
    encoded = b"d4:info%b12:piece layersd%bee" % (info, layer)
    return Metainfo(content, hashlib.sha256(info).hexdigest(), encoded)


def read_metainfo(encoded: bytes, *, expected: ContentRoot | None = None) -> Metainfo:
    """The metainfo in `encoded`, which may come from anyone.

    Args:
        encoded: A .torrent file's bytes.
        expected: The content root that it must be of, if known.

    Raises:
        UserError: `input.too-large`, or `input.invalid` where it isn't in our form, contradicts itself, or is of
            another content than `expected`.
    """
    if len(encoded) > LARGEST_METAINFO:
        raise error(
            "input.too-large",
            "The metainfo is too large",
            why=f"{len(encoded)} bytes, {LARGEST_METAINFO} are allowed",
            size=len(encoded),
            limit=LARGEST_METAINFO,
        )
    match = _FORM.fullmatch(encoded)
    if match is None:
        raise _refusal("it is not one private BitTorrent v2 file named by its content root")
    root = ContentRoot(match["name"].decode("ascii"))
    content = Content(root, int(match["size"]), int(match["piece"]), match["layer"] or b"")
    if match["root"].hex() != root:
        raise _refusal("its name is not its content root")
    if expected is not None and root != expected:
        raise _refusal(f"it is of the content {root}, not of {expected}")
    if content.piece_length != piece_length_for(content.size):
        raise _refusal(f"{content.piece_length} is not the piece length for {content.size} bytes")
    if match["length"] is not None and int(match["length"]) != len(content.piece_layer):
        raise _refusal("its piece layer is cut off")
    if len(content.piece_layer) != (32 * content.pieces if content.pieces > 1 else 0):
        raise _refusal(f"its piece layer is not that of {content.pieces} pieces")
    if (content.size == 0) != (root == ROOT_OF_NOTHING):
        raise _refusal("its size is not that of its content root")
    if content.pieces > 1 and root_of_layer(content.piece_layer, content.piece_length) != root:
        raise _refusal("its piece layer does not lead to its content root")
    return build_metainfo(content)


def _refusal(why: str) -> BitDewError:
    return error("input.invalid", "The metainfo can't be used", why=why, do="Ask the catalog for it again.")
