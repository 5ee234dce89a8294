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


EXIT_CODES: Final = {
    0: "done",
    1: "a defect of ours; or a problem that `worker check` found; or a job that was cancelled",
    2: "wrong usage",
    3: "not found",
    4: "in conflict with what is there",
    5: "not allowed",
    6: "unreachable",
    7: "the machine lacks something",
    8: "content that is not what it should be",
    130: "interrupted",
}
"""What a command's exit code says."""

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
    "bridge.not-found": ErrorKind(
        "user", 404, 3, "A host has no bridge of this name.", "List them: bitdew worker bridge ls"
    ),
    "bridge.unreachable": ErrorKind(
        "host",
        503,
        6,
        "Whom a bridge of a worker leads to refuses what it is told, or does not answer.",
        "Start it, or set the bridge up again. It is told again by itself.",
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
    "copy.waiting": ErrorKind(
        "host",
        503,
        7,
        "The host fetches other data first: so many at a time as make progress.",
        "Nothing: its turn comes. A machine or a job there that needs it, and a higher priority, bring it forward.",
    ),
    "data.in-the-way": ErrorKind(
        "user",
        409,
        4,
        "Something is there already where data would be put.",
        "Choose another path, or say --force: a file then takes a file's place, and a folder a folder's.",
    ),
    "data.not-found": ErrorKind("user", 404, 3, "No datum has this name.", "List what there is: bitdew data ls"),
    "data.nowhere": ErrorKind(
        "peer",
        503,
        6,
        "Nobody who has the data is there now.",
        "See where copies are, and wait for a host to return: bitdew data where NAME --watch",
    ),
    "data.not-ordered": ErrorKind(
        "user",
        403,
        5,
        "A host asked about content that it neither holds nor is to hold.",
        "Nothing: the scheduler says which hosts hold what.",
    ),
    "disk.build-failed": ErrorKind(
        "host", 500, 7, "A disk could not be built.", "Read its message; --refresh fetches everything anew."
    ),
    "deployment.not-found": ErrorKind("user", 404, 3, "No deployment has this id.", "List them: bitdew vm deployments"),
    "disk.changed": ErrorKind(
        "user",
        409,
        8,
        "The file changed while it was being added.",
        "Stop what writes to it, then add it again. Nothing was added.",
    ),
    "disk.deprecated": ErrorKind(
        "user",
        409,
        4,
        "The disk's publisher says that it is not to be used any more.",
        "Use the disk that took its place: bitdew disk ls",
    ),
    "disk.empty": ErrorKind("user", 422, 2, "The file is empty.", "Give a disk image that holds at least one byte."),
    "disk.file-missing": ErrorKind("user", 404, 3, "The file does not exist.", "Check the path."),
    "disk.file-unreadable": ErrorKind("user", 403, 5, "The file can't be read.", "Check its permissions."),
    "disk.format": ErrorKind(
        "user",
        422,
        2,
        "The file is no disk image that can be taken.",
        "Give one bootable disk, whole in one file: raw, qcow2, VMDK, VDI, VHD or OVA.",
    ),
    "disk.name-taken": ErrorKind(
        "user", 409, 4, "Another datum has this name.", "Choose another --name, or remove the old one: bitdew disk rm"
    ),
    "disk.recipe": ErrorKind(
        "user", 422, 2, "The recipe of a disk is not one, or does not work out.", "Correct it and try again."
    ),
    "disk.signature": ErrorKind(
        "user",
        422,
        8,
        "An image record's signature does not hold.",
        "Add the disk again with the publisher's own profile.",
    ),
    "disk.tool-missing": ErrorKind(
        "host", 501, 7, "A program that disks are made with is not installed.", "Install it and try again."
    ),
    "errand.not-found": ErrorKind(
        "user",
        404,
        3,
        "Nothing is known of what was asked of a machine: it was long ago, or never.",
        "Ask again.",
    ),
    "help.busy": ErrorKind(
        "service",
        503,
        6,
        "Other hosts take this content over HTTPS now, to pass it on in their swarm.",
        "Nothing: the worker asks again after a while, unless its swarm goes on before.",
    ),
    "host.banned": ErrorKind("user", 403, 5, "The operator banned this host.", "Ask the operator why."),
    "host.full": ErrorKind(
        "host",
        507,
        7,
        "The host does not lend enough for this machine.",
        "Ask for less, run it on another host, or have its owner lend more: bitdew worker limits.",
    ),
    "host.in-use": ErrorKind(
        "host",
        503,
        7,
        "The host lends nothing now: its owner needs it.",
        "Nothing: it goes on by itself when that ends.",
    ),
    "host.not-empty": ErrorKind(
        "user", 409, 4, "The host still has copies or machines.", "See what keeps them: bitdew host explain HOST"
    ),
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
    "hypervisor.unable": ErrorKind(
        "host",
        501,
        7,
        "The machine's hypervisor can't do this.",
        "Run the machine on a host that shares another hypervisor.",
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
    "job.failed": ErrorKind(
        "host", 500, 7, "A job's command could not be started.", "Read its message; it is tried on another host."
    ),
    "job.not-shared": ErrorKind(
        "host",
        409,
        7,
        "The host does not share the program that a job wants to run.",
        "Name it with --needs, so that a host is chosen that shares it.",
    ),
    "job.refused": ErrorKind(
        "host", 503, 6, "A host takes no more jobs now.", "Nothing: it runs elsewhere while it has attempts left."
    ),
    "job.too-many-standing": ErrorKind(
        "user",
        409,
        4,
        "A user has as many standing jobs as one may have.",
        "Cancel one that is not needed any more: bitdew job ls --standing --mine",
    ),
    "job.unconfined": ErrorKind(
        "host",
        501,
        7,
        "The host can't keep its owner's files and programs safe from a job.",
        "Run a Linux kernel with Landlock (6.12 or newer) or with user namespaces, or let jobs run in machines only.",
    ),
    "job.cancelled": ErrorKind("user", 409, 4, "A job was given up.", "Submit it again if that was not meant."),
    "job.command": ErrorKind(
        "user", 422, 1, "The command of a job ended with a failure.", "Read its log: bitdew job logs JOB"
    ),
    "job.disagreement": ErrorKind(
        "host",
        502,
        8,
        "The hosts that ran a job came to different results.",
        "Make sure that the same inputs give the same bytes, then submit it again, with more --attempts if need be.",
    ),
    "job.garbled": ErrorKind(
        "peer",
        502,
        8,
        "What a host gave back of a call is no result.",
        "Call it again, with replicas=3 if it goes on: what most hosts agree on counts.",
    ),
    "job.host-lost": ErrorKind(
        "service", 500, 6, "The host of a job was lost.", "Nothing: it runs elsewhere while it has attempts left."
    ),
    "job.input-gone": ErrorKind(
        "user", 409, 4, "What a job was to read is not there any more.", "Put it again, then submit the job again."
    ),
    "job.inputs-full": ErrorKind(
        "user",
        507,
        7,
        "A user has put as much for jobs to read as one may.",
        "Forget jobs that ended, and what they read goes with them: bitdew job rm; or ask the operator for more.",
    ),
    "job.not-ended": ErrorKind("user", 409, 4, "The job has not ended.", "Cancel it first: bitdew job cancel"),
    "job.not-found": ErrorKind("user", 404, 3, "No job has this id.", "List them: bitdew job ls"),
    "job.outputs": ErrorKind(
        "user", 422, 1, "A job did not leave what it should.", "Compare its --out patterns with its log."
    ),
    "job.over-limit": ErrorKind(
        "user",
        507,
        7,
        "A job took more than it may.",
        "Allow it more (see bitdew job submit -h), or make it take less.",
    ),
    "job.python": ErrorKind(
        "host",
        409,
        7,
        "A host has another Python than the program whose functions it is to call.",
        "Run the program with that Python, or say by needs= which hosts may be given calls.",
    ),
    "job.raised": ErrorKind(
        "user",
        422,
        1,
        "A call raised an exception that is none of Python's own.",
        "Read the traceback, which is the cause of this error.",
    ),
    "job.result": ErrorKind(
        "user", 422, 1, "What a call gave back can't come back.", "Give back plain values, and not too many of them."
    ),
    "leadership.lost": ErrorKind(
        "service",
        503,
        6,
        "Another process of the service decides now.",
        "Nothing: it plans from the same facts, and this process goes on serving.",
    ),
    "machine.host-lost": ErrorKind(
        "service", 500, 6, "The host of the machine is lost.", "Another machine takes its place: bitdew vm ls"
    ),
    "machine.not-ended": ErrorKind("user", 409, 4, "The machine has not ended.", "Stop it first: bitdew vm stop"),
    "machine.not-found": ErrorKind("user", 404, 3, "No machine has this id.", "List them: bitdew vm ls"),
    "machine.not-running": ErrorKind(
        "user", 409, 4, "The machine does not run, or not yet.", "See how it is: bitdew vm ls"
    ),
    "machine.paused": ErrorKind(
        "user", 409, 4, "The machine stands still at its user's word.", "Let it go on: bitdew vm resume"
    ),
    "machine.unreachable": ErrorKind(
        "service", 503, 6, "The machine's host does not answer.", "Ask again when it is back: bitdew host ls"
    ),
    "move.illegal": ErrorKind(
        "service", 409, 1, "A state was asked to move where its table does not lead.", "Please report it."
    ),
    "plugin.failed": ErrorKind(
        "host",
        500,
        7,
        "A worker's plug-in can't be loaded, raised an error, or took too long.",
        "Its author can tell more. The worker goes on, and tells it again by itself.",
    ),
    "output.unwritten": ErrorKind(
        "host",
        507,
        7,
        "What a command writes can't be written.",
        "See where its output goes, and whether this machine's disk is full. What the command did before is done.",
    ),
    "port.address": ErrorKind(
        "host",
        500,
        7,
        "The address at which ports of machines are to be reached is none of the host's.",
        "Its volunteer corrects the setting ports_address, or leaves it out: then it is 127.0.0.1.",
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
    "run.not-found": ErrorKind("host", 404, 3, "The host has no such run.", "Nothing: what is there of it is removed."),
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
    "sharing.missing": ErrorKind(
        "host",
        409,
        7,
        "An application or library is not offered on this host.",
        "Choose another host; its owner sees why with bitdew worker share ls.",
    ),
    "sharing.not-found": ErrorKind(
        "user", 404, 3, "The host shares nothing of this name.", "See what it shares with bitdew worker share ls."
    ),
    "snapshot.not-found": ErrorKind(
        "user", 404, 3, "The machine has no such snapshot.", "List what it has: bitdew vm snapshots"
    ),
    "storage.failed": ErrorKind(
        "host", 500, 7, "Reading or writing a file failed.", "Check the disk; the copy is taken again after a while."
    ),
    "storage.full": ErrorKind("host", 507, 7, "There is not enough free space.", "Free some space and try again."),
    "storage.locked": ErrorKind(
        "host", 409, 7, "Another process uses this folder.", "Stop the other process, or choose another --home."
    ),
    "storage.rotten": ErrorKind(
        "host",
        500,
        7,
        "A copy that was verified has changed on the disk.",
        "Nothing: it was withdrawn, and what changed is fetched again. If it happens again, check the disk.",
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
    "worker.unmanaged": ErrorKind(
        "host",
        501,
        7,
        "This system can't run the worker as a service.",
        "Run it by hand: bitdew worker. The guide for volunteers has files for launchd and Windows.",
    ),
    "worker.unreachable": ErrorKind(
        "host",
        503,
        6,
        "A worker runs on this machine and can't be told anything.",
        "Try again. If that stays so, stop the worker and start it again.",
    ),
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
