"""How a transfer is given to libtorrent: with what is known of its file, its caps and its certificate.

Owns the parameters of one torrent. It must not keep anything: the session does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import libtorrent as lt

from bitdew.core.errors import error

from .settings import DH_PARAMETERS, set_transfer_limits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bitdew.core.host import Endpoint

    from .credentials import SwarmCredentials
    from .settings import TransferLimits
    from .transfer import Transfer


LOOKING_SECONDS: Final = 0.2
"""How long libtorrent may look at a file before the transfer goes on. It takes milliseconds, but on a slow disk."""
_POLL_SECONDS: Final = 0.002


def enter(
    session: lt.session,
    transfer: Transfer,
    credentials: SwarmCredentials,
    peers: Collection[Endpoint],
    have: bytes | None,
    unfinished: Mapping[int, Sequence[bool]],
    complete: bool,
    limits: TransferLimits,
) -> tuple[lt.torrent_handle, str]:
    """Give the transfer to libtorrent; its handle, and why a claim was not believed. Runs in a worker thread."""
    path = transfer.path
    if not path.parent.is_dir():
        raise error("storage.failed", f"The folder for {path.name} does not exist", path=str(path.parent))
    claim, doubt = transfer.file.claim(have=have, complete=complete)
    params = lt.load_torrent_buffer(transfer.metainfo.encoded)
    params.save_path = str(path.parent)
    params.renamed_files = {0: str(path)}
    params.root_certificate = credentials.root_certificate
    params.peers = [(peer.host, peer.port) for peer in peers]
    # Paused until the certificate is set: the first connections would go out without one.
    params.flags = lt.torrent_flags.update_subscribe | lt.torrent_flags.apply_ip_filter | lt.torrent_flags.paused
    if transfer.file.read_only:
        params.flags |= lt.torrent_flags.upload_mode  # it asks for no piece
    if claim is not None:
        params.have_pieces = claim
        if have is not None and not doubt:
            params.unfinished_pieces = {number: list(blocks) for number, blocks in unfinished.items()}
    handle = session.add_torrent(params)
    set_transfer_limits(handle, limits)
    handle.set_ssl_certificate_buffer(credentials.certificate, credentials.private_key, DH_PARAMETERS)
    if peers:
        _await_look(handle)
    handle.resume()
    return handle, doubt


def _await_look(handle: lt.torrent_handle) -> None:
    """Return when libtorrent knows how its file is, or has begun to hash it.

    It dials peers in the moment in which a transfer resumes whose file it has looked at. One that resumes earlier it
    forgets until its clock's next second, in which the host gets nothing, and its uplink gives nothing to others.
    """
    until = time.monotonic() + LOOKING_SECONDS
    while handle.status(0).state == lt.torrent_status.states.checking_resume_data and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
