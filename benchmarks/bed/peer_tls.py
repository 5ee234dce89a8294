"""The peers' certificates: made by BitDew's own CA code, so that both sides of a comparison shake hands alike."""

from __future__ import annotations

import json
import ssl
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from bitdew.core.ids import new_uid
from bitdew.trust.authority import Authority
from bitdew.trust.keys import KeyPair, certificate_request, new_key
from bitdew.trust.roles import Role
from bitdew.trust.tls import client_context


def peer_credentials(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A file with what the peer's processes need, and the context to call its server with."""
    now, key = datetime.now(UTC), new_key()
    authority = Authority.open(folder / "peer-authority", now=now, name="peer")
    service = authority.service_pair(["127.0.0.1"], now=now)
    request = certificate_request(key, "peer")
    issued = authority.sign_identity(request, role=Role.WORKER, subject_id=new_uid(), name="peer", now=now)
    client = KeyPair(issued.pem, key)
    path = folder / "peer.json"
    path.write_text(json.dumps({"ca": authority.certificate, "service": asdict(service), "client": asdict(client)}))
    return path, client_context(authority.certificate, client)
