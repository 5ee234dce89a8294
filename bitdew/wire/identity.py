"""Models of who may talk to the service: tokens, enrolment, renewal."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from .model import Model, NameText, PemText, UidText


class AuthorityReply(Model):
    """The service's CA, for whoever holds its fingerprint."""

    certificate: PemText


class ServiceReply(Model):
    """What a service says of itself."""

    name: str
    version: str
    api: int
    fingerprint: str
    subject: str
    role: str


class HealthReply(Model):
    """A service that can do its work says so; one that can't answers with an error. `leads` is whether it plans."""

    leads: bool


class EnrolRequest(Model):
    """A token's secret and requests for certificates, from a key that stays where it was made."""

    secret: Annotated[str, Field(max_length=256)]
    name: NameText
    identity_csr: PemText
    swarm_csr: PemText | None = None
    signing_csr: PemText | None = None


class RenewRequest(Model):
    """Requests for certificates, authenticated by the one in force."""

    identity_csr: PemText
    swarm_csr: PemText | None = None
    signing_csr: PemText | None = None


class EnrolReply(Model):
    """The certificates that the token's role allows."""

    subject_id: UidText
    name: NameText
    role: str
    ca: PemText
    identity: PemText
    swarm: PemText | None = None
    signing: PemText | None = None


class TokenRequest(Model):
    """A wish for a join token."""

    role: Literal["worker", "user", "publisher", "operator"]
    uses: Annotated[int, Field(ge=1, le=100_000)] = 1
    seconds: Annotated[float, Field(gt=0, le=366 * 86400)] = 86400.0
    note: Annotated[str, Field(max_length=200)] = ""


class TokenView(Model):
    """A join token as the operator sees it; `token` is there only in the reply to its making."""

    uid: UidText
    role: str
    uses_left: int
    expires: datetime
    note: str
    created: datetime
    token: str | None = None


class TokenList(Model):
    """The tokens that can still be used."""

    tokens: list[TokenView]
