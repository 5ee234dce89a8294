"""Who is a member of our swarms: what its certificate says it is for.

Owns that one question. Whether the certificate is our CA's, and in force, TLS has found out before.
"""

from __future__ import annotations

from typing import Any


def is_member(certificate: dict[str, Any] | None) -> bool:
    """Whether this is the certificate with which hosts exchange pieces, and not one for another purpose."""
    return certificate is not None and ("DNS", "*") in certificate.get("subjectAltName", ())
