"""Errors as an interface: a stable key, whose fault it is, an HTTP status, an exit code and the next step.

Owns the table of all keys. Each room raises `error(key, ...)`; the web edge and the command line translate
by the table alone, so that a key means the same thing in a log, in a reply, in `--json` and in the docs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Fault = Literal["user", "service", "host", "peer"]


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the table: what a key stands for.

    Attributes:
        fault: Whose fault it is: what the user asked, the service, the host's own state, or a remote peer.
        status: The HTTP status that carries it.
        exit_code: The exit code of a command that ends with it.
        meaning: One sentence for the reference.
        do: The next step when the place that raises it knows nothing better.
    """

    fault: Fault
    status: int
    exit_code: int
    meaning: str
    do: str


# Exit codes: 1 a defect of ours, 2 wrong usage, 3 not found, 4 in conflict with what is there, 5 not allowed,
# 6 unreachable, 7 the machine lacks something, 8 content that is not what it should be, 130 interrupted.
ERRORS: Final[dict[str, ErrorKind]] = {
    "attribute.circular": ErrorKind(
        "user",
        409,
        4,
        "Attributes would follow each other in a circle.",
        "Break the circle: name another affinity or lifetime in one of them.",
    ),
    "attribute.dangling": ErrorKind(
        "user",
        422,
        2,
        "An attribute names something that does not exist.",
        "Correct the name, or add what it names first.",
    ),
    "attribute.in-use": ErrorKind(
        "user",
        409,
        4,
        "Data or other attributes still use this attribute.",
        "Give its data another attribute first, or remove them.",
    ),
    "attribute.invalid": ErrorKind(
        "user", 422, 2, "An attribute has an unknown key or an impossible value.", "Correct the value and try again."
    ),
    "attribute.name-taken": ErrorKind(
        "user", 409, 4, "Another attribute has this name.", "Choose another name, or change the attribute that has it."
    ),
    "attribute.not-found": ErrorKind("user", 404, 3, "No attribute has this name.", "List them: bitdew attr ls"),
    "attribute.requires": ErrorKind(
        "user", 422, 2, "A requirement expression can't be read.", "Correct the expression at the position shown."
    ),
    "backup.damaged": ErrorKind(
        "user",
        422,
        8,
        "A backup is cut short, was changed, or is none of ours.",
        "Restore another one. Nothing was touched.",
    ),
    "backup.in-the-way": ErrorKind(
        "user",
        409,
        4,
        "Something is there already where a backup or a restored service would be put.",
        "Choose another place, or say --force: a file is then replaced, and a service is moved aside.",
    ),
    "certificate.foreign": ErrorKind(
        "user",
        401,
        5,
        "A certificate was issued by another service.",
        "Join this service with a token of its own, or choose the profile that belongs to it with --profile.",
    ),
    "certificate.expired": ErrorKind(
        "user", 401, 5, "A certificate is past its validity.", "Ask an operator for a token and join again."
    ),
    "certificate.missing": ErrorKind(
        "user", 401, 5, "A request came without a client certificate.", "Join the service first, with a token."
    ),
    "certificate.revoked": ErrorKind(
        "user", 403, 5, "A certificate was revoked.", "Ask an operator why, and for a new token."
    ),
    "certificate.role": ErrorKind(
        "user", 403, 5, "The certificate's role does not allow this.", "Ask an operator for a token of the right role."
    ),
    "data.not-found": ErrorKind("user", 404, 3, "No datum has this name.", "List what there is: bitdew disk ls"),
    "disk.changed": ErrorKind(
        "user",
        409,
        8,
        "The file changed while it was being added.",
        "Stop what writes to it, then add it again. Nothing was added.",
    ),
    "disk.empty": ErrorKind("user", 422, 2, "The file is empty.", "Give a disk image that holds at least one byte."),
    "disk.file-missing": ErrorKind("user", 404, 3, "The file does not exist.", "Check the path."),
    "disk.file-unreadable": ErrorKind("user", 403, 5, "The file can't be read.", "Check its permissions."),
    "disk.name-taken": ErrorKind(
        "user", 409, 4, "Another datum has this name.", "Choose another --name, or remove the old one: bitdew disk rm"
    ),
    "disk.signature": ErrorKind(
        "user",
        422,
        8,
        "An image record's signature does not hold.",
        "Add the disk again with the publisher's own profile.",
    ),
    "host.banned": ErrorKind("user", 403, 5, "The operator banned this host.", "Ask the operator why."),
    "host.not-found": ErrorKind("user", 404, 3, "No host has this name or id.", "List the hosts: bitdew host ls"),
    "hypervisor.failed": ErrorKind(
        "host", 500, 7, "The hypervisor could not do what was asked.", "Read its message; try again on another host."
    ),
    "hypervisor.missing": ErrorKind(
        "host",
        409,
        7,
        "No usable hypervisor on this host.",
        "Install QEMU (Debian: apt install qemu-system-x86 qemu-utils) and start the worker again.",
    ),
    "identity.name-taken": ErrorKind(
        "user", 409, 4, "Another publisher has this name.", "Choose another --name. The token was not used."
    ),
    "input.invalid": ErrorKind("user", 422, 2, "The input can't be understood.", "Correct it and try again."),
    "input.too-large": ErrorKind("user", 413, 2, "The input is over its limit.", "Send less."),
    "internal": ErrorKind(
        "service", 500, 1, "A defect of ours.", "Please report it with the log; nothing that was stored is lost."
    ),
    "interrupted": ErrorKind("user", 499, 130, "The command was interrupted.", "Start it again; the work goes on."),
    "leadership.lost": ErrorKind(
        "service",
        503,
        6,
        "Another process of the service decides now.",
        "Nothing: it plans from the same facts, and this process goes on serving.",
    ),
    "machine.not-found": ErrorKind("user", 404, 3, "No machine has this id.", "List them: bitdew vm ls"),
    "move.illegal": ErrorKind(
        "service", 409, 1, "A state was asked to move where its table does not lead.", "Please report it."
    ),
    "port.in-use": ErrorKind(
        "user", 409, 7, "The address is in use.", "Choose another port, or stop the program that holds it."
    ),
    "profile.missing": ErrorKind(
        "user",
        401,
        5,
        "No profile says which service to talk to.",
        "Start one here (bitdew serve), or join one: bitdew user join URL --token T",
    ),
    "profile.taken": ErrorKind(
        "user",
        409,
        4,
        "This profile or home belongs to another service.",
        "Choose another one with --profile or --home.",
    ),
    "route.not-found": ErrorKind("user", 404, 3, "The service has nothing at this path.", "Check the URL's path."),
    "service.not-bitdew": ErrorKind(
        "user", 502, 6, "What answers at this URL is not a BitDew service.", "Check the URL."
    ),
    "service.unreachable": ErrorKind(
        "service",
        503,
        6,
        "The service does not answer.",
        "Check the URL, and that the service runs: bitdew serve",
    ),
    "service.version": ErrorKind(
        "user", 426, 6, "Client and service speak different versions.", "Install the same release on both sides."
    ),
    "storage.failed": ErrorKind(
        "host", 500, 7, "Reading or writing a file failed.", "Check the disk; the copy is taken again after a while."
    ),
    "storage.full": ErrorKind("host", 507, 7, "There is not enough free space.", "Free some space and try again."),
    "storage.locked": ErrorKind(
        "host", 409, 7, "Another process uses this folder.", "Stop the other process, or choose another --home."
    ),
    "swarm.corrupt": ErrorKind(
        "peer",
        502,
        8,
        "A piece arrived that is not what was published.",
        "Nothing: it was thrown away and is fetched again; the source is checked.",
    ),
    "swarm.failed": ErrorKind("host", 500, 7, "The swarm could not do what was asked.", "Read its message."),
    "swarm.stalled": ErrorKind(
        "peer",
        503,
        6,
        "No peer delivered anything for too long.",
        "Nothing: another host is planned, then this one again.",
    ),
    "token.expired": ErrorKind("user", 403, 5, "The token is past its time.", "Ask an operator for a new one."),
    "token.foreign": ErrorKind(
        "user", 403, 5, "The token is another service's.", "Check that URL and token belong together."
    ),
    "token.invalid": ErrorKind("user", 403, 5, "The token is not one of this service's.", "Copy it whole."),
    "token.used": ErrorKind("user", 403, 5, "The token was used up.", "Ask an operator for a new one."),
    "upload.not-found": ErrorKind("user", 404, 3, "No upload has this id.", "Start the upload again."),
}


class BitDewError(Exception):
    """What happened, to what, why, and what to do, under a stable key.

    Attributes:
        key: A key of `ERRORS`.
        message: What happened, to what: one sentence.
        why: The cause, or "".
        do: The next step.
        fields: The names and figures in it, for programs.
    """

    def __init__(self, key: str, message: str, /, *, why: str = "", do: str = "", **fields: Any) -> None:
        kind = ERRORS[key]
        super().__init__(message)
        self.key = key
        self.message = message
        self.why = why
        self.do = do or kind.do
        self.fields = fields

    @property
    def kind(self) -> ErrorKind:
        """The row of the table."""
        return ERRORS[self.key]

    def __str__(self) -> str:
        because = f" ({self.why})" if self.why else ""
        return f"{self.message}{because} [{self.key}]"


class UserError(BitDewError):
    """What was asked can't be done as asked."""


class ServiceError(BitDewError):
    """The service failed, or does not answer."""


class HostError(BitDewError):
    """The machine that this runs on lacks something or broke."""


class PeerError(BitDewError):
    """A remote peer misbehaved."""


_CLASSES: Final[dict[Fault, type[BitDewError]]] = {
    "user": UserError,
    "service": ServiceError,
    "host": HostError,
    "peer": PeerError,
}


def error(key: str, message: str, /, *, why: str = "", do: str = "", **fields: Any) -> BitDewError:
    """The error of the right class for `key`; raise what this returns."""
    return _CLASSES[ERRORS[key].fault](key, message, why=why, do=do, **fields)
