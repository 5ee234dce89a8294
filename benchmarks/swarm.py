"""How fast a swarm fills on links of given rates, against the least time there can be, and against what others need.

Every host is a network namespace whose link the kernel shapes in both directions; all run real `bitdew` processes with
TLS. The file lies in the repository, the workers are joined and idle; the time runs from the moment when the wish for a
copy on each of them is stated until the last one holds it: verified and durable. What no distribution can beat is

    T_min = max(F / us, F / d, N F / (us + sum of all u))

for F bytes, N hosts, the source's uplink us, the hosts' downlinks d and uplinks u (R. Kumar, K. W. Ross, HotWeb 2006).
Efficiency is T_min over the time. A TCP connection carries 95.7 % of a link's nominal rate, so that nothing reaches 1.

On the same links, one after the other: nginx with curl (central), aria2, and transmission with opentracker. Beside the
rows: one source and one host without limits, against libtorrent alone with the same TLS; and how soon the first bytes
of a new disk reach an idle worker.

Needs root and iproute2; the others need their programs. On two cores this takes about 25 minutes: --row takes one row.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bitdew.core.content import ContentHasher
from bitdew.core.ids import new_uid
from bitdew.swarm.metainfo import build_metainfo
from bitdew.trust.authority import Authority
from bitdew.trust.keys import certificate_request, new_key

sys.path.append(str(Path(__file__).parent))  # the Makefile starts Python with PYTHONSAFEPATH

from bed import others
from bed.network import IP, Network, address
from bed.picture import Axis, chart
from bed.processes import Process, Site
from bed.report import Report

MB: Final = 2**20
MBIT: Final = 1e6 / 8
BED: Final = Path(__file__).parent / "bed"
SETTLE_SECONDS: Final = 1.0
"""Between what prepares a run and the run."""
WISH_SECONDS: Final = 1800.0
CURVE_RATE: Final = 20.0
CURVE_HOSTS: Final = (1, 2, 4, 8, 16)
CURVE_SIZE: Final = 32 * MB
SINGLE_SIZE: Final = 512 * MB
FIRST_TIMES: Final = 10
FIRST_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class Row:
    """One bed. Rates in Mbit/s, the size in bytes; `target` for the efficiency, `sent` for the repository's egress."""

    key: str
    hosts: int
    size: int
    source: float
    host: float
    target: float
    sent: float | None = None

    @property
    def least(self) -> float:
        """T_min, seconds."""
        up, each = self.source * MBIT, self.host * MBIT
        return max(self.size / up, self.size / each, self.hosts * self.size / (up + self.hosts * each))

    @property
    def central(self) -> float:
        """The least time of any central server, seconds."""
        return max(self.hosts * self.size / (self.source * MBIT), self.size / (self.host * MBIT))

    def __str__(self) -> str:
        return f"N={self.hosts}, {self.size // MB} MB, source {self.source:g}, hosts {self.host:g}"


ROWS: Final = (
    Row("fast-source", 8, 256 * MB, 100, 50, 0.92),
    Row("equal", 8, 64 * MB, 25, 25, 0.85, 1.15),
    Row("slow", 16, 64 * MB, 10, 10, 0.85),
)


@dataclass(slots=True)
class Far:
    """A service and workers, each on a host of its own."""

    site: Site
    network: Network
    hosts: list[list[str]]
    user: Process
    made: int = 0

    def file(self, size: int) -> Path:
        """A new file of random bytes: no run finds what another left."""
        self.made += 1
        folder = self.site.folder / f"made{self.made}"
        folder.mkdir()
        path = folder / "file.bin"
        with path.open("wb") as file:
            for _ in range(size // MB):
                file.write(os.urandom(MB))
        return path

    def ask(self, **asked: Any) -> dict[str, Any]:
        """Have the user do something, and wait until it is done."""
        self.user.say(asked)
        return self.user.line(lambda line: bool(line.get("done")), WISH_SECONDS)

    def spread(self, file: Path, copies: int, protocol: str = "auto") -> tuple[float, float]:
        """Seconds from the wish until the last copy is held, and how often the file left the repository."""
        name = f"file{self.made}"
        self.ask(put=str(file), name=name)
        time.sleep(SETTLE_SECONDS)
        told = self.ask(name=name, wish=copies, protocol=protocol)
        self.ask(remove=name)
        return told["held"][copies - 1] - told["stated"], told["sent"] / file.stat().st_size


@contextlib.contextmanager
def far(source: float, rates: Sequence[float]) -> Iterator[Far]:
    """A service behind a link of `source` Mbit/s, and a worker behind each of `rates`; 0 is no limit."""
    with Network() as network, Site() as site:
        hosts = [network.host(number, rate) for number, rate in enumerate([source, *rates])]
        at = address(0)
        told = site.serve("--host", at, "--swarm", f"{at}:8441", on=hosts[0])
        user = site.program("user", BED / "wish.py", told["profile"], on=hosts[0])
        user.ready()
        made = Far(site, network, hosts, user)
        token = made.ask(token=len(rates))["token"]
        workers = [
            site.worker(number, told["url"], token, listen=f"{address(number)}:0", on=hosts[number])
            for number in range(1, len(hosts))
        ]
        for worker in workers:
            worker.ready()
        made.ask(workers=len(rates))
        yield made


def run_row(row: Row, report: Report, runs: int, peers: bool) -> None:
    """BitDew and the others on one bed."""
    times: dict[str, list[float]] = {"bitdew": []}
    sent = []
    with far(row.source, [row.host] * row.hosts) as bed:
        for _ in range(runs):
            took, egress = bed.spread(bed.file(row.size), row.hosts)
            times["bitdew"].append(took)
            sent.append(egress)
            report.add(f"{row}: efficiency", row.least / took, f"T_min / {took:.1f} s{load()}", at_least=row.target)
            report.add(f"{row}: sent by the repository", egress, "times the file", at_most=row.sent)
        systems: dict[str, Callable[[Sequence[Sequence[str]], Path, Path], float]] = {
            "nginx + curl": others.central,
            "aria2": others.aria2,
            "transmission": others.transmission,
        }
        for name, run in systems.items() if peers else ():
            took = run(bed.hosts, bed.file(row.size), bed.site.folder / name.split()[0])
            times[name] = [took]
            report.add(f"{row}: {name}, efficiency", row.least / took, f"T_min / {took:.1f} s{load()}")
            best = min(times["bitdew"])
            report.add(f"{row}: {name} / BitDew", took / best, "time over BitDew's best", at_least=1.0)
        report.note(f"{row}: TCP is controlled by {bed.network.control}.")
    report.keep(str(row), {"seconds": times, "sent": sent, "least": row.least, "central_bound": row.central})


def load() -> str:
    """The load of the last minute, as words."""
    return f", load {os.getloadavg()[0]:.1f}"


def run_single(report: Report, runs: int) -> None:
    """One source and one host without limits."""
    with far(0, [0]) as bed:
        ours, bare = [], []
        for _ in range(runs):  # in turns, so that whatever else the machine does meets both
            ours.append(bed.spread(bed.file(SINGLE_SIZE), 1)[0])
            bare.append(run_bare(bed))
        least, best = min(bare), min(ours)
        report.add(
            "one source, one host, no limits", least / best, "libtorrent alone / BitDew, best of each", at_least=0.95
        )
        report.keep("single", {"bitdew": ours, "bare": bare, "size": SINGLE_SIZE})


def run_bare(bed: Far) -> float:
    """Seconds for libtorrent alone, from adding the torrent until it has everything."""
    file = bed.file(SINGLE_SIZE)
    hasher = ContentHasher(SINGLE_SIZE)
    hasher.update(file.read_bytes())
    torrent = file.with_suffix(".torrent")
    torrent.write_bytes(build_metainfo(hasher.finish()).encoded)
    now = datetime.now(UTC)
    authority = Authority.open(file.parent / "authority", now=now, name="bench")
    shown = []
    for name in ("seed", "fetch"):
        key = new_key()
        issued = authority.sign_swarm(certificate_request(key, name), subject_id=new_uid(), name=name, now=now)
        path = file.with_name(f"{name}.json")
        pems = {"root_certificate": authority.certificate, "certificate": issued.pem, "private_key": key}
        path.write_text(json.dumps(pems))
        shown.append(path)
    program, start = BED / "bare.py", bed.site.program
    words = [str(torrent), str(file), f"{address(0)}:0"]
    seed = start(f"seed{bed.made}", program, "seed", str(shown[0]), *words, on=bed.hosts[0])
    words = [str(torrent), str(file.with_name("copy")), f"{address(1)}:0", seed.ready()["endpoint"]]
    fetch = start(f"fetch{bed.made}", program, "fetch", str(shown[1]), *words, on=bed.hosts[1])
    fetch.ready()
    time.sleep(SETTLE_SECONDS)
    fetch.say({"go": True})
    told = fetch.line(lambda line: "ended" in line, WISH_SECONDS)
    bed.site.stop(fetch)
    bed.site.stop(seed)
    return float(told["ended"] - told["began"])


def run_first(report: Report) -> None:
    """How soon the bytes of a new wish reach an idle worker: 64 KiB more came over its link."""
    with far(0, [0]) as bed:
        waits = []
        for _ in range(FIRST_TIMES):
            file, name = bed.file(64 * MB), f"file{bed.made}"
            bed.ask(put=str(file), name=name)
            time.sleep(SETTLE_SECONDS)
            watch = bed.site.program(f"watch{bed.made}", BED / "watch.py", str(64 * 1024), on=bed.hosts[1])
            watch.ready()
            told = bed.ask(name=name, wish=1)
            waits.append(watch.line(lambda line: "came" in line)["came"] - told["stated"])
            bed.site.stop(watch)
            bed.ask(remove=name)
        waits.sort()
        median = waits[len(waits) // 2]
        report.add(
            "from the wish to the first bytes on an idle worker",
            median / FIRST_SECONDS,
            "of 300 ms, median",
            at_most=1.0,
        )
        report.keep("first", {"seconds": waits})


def run_curve(report: Report, picture: Path | None) -> None:
    """Time over the number of hosts, all links equal."""
    ours, bounds, central = [], [], []
    rates = [CURVE_RATE] * max(CURVE_HOSTS)
    with far(CURVE_RATE, rates) as bed:
        for hosts in CURVE_HOSTS:
            row = Row("curve", hosts, CURVE_SIZE, CURVE_RATE, CURVE_RATE, 0)
            took, egress = bed.spread(bed.file(CURVE_SIZE), hosts)
            ours.append((float(hosts), took / row.least))
            bounds.append((float(hosts), 1.0))
            central.append((float(hosts), row.central / row.least))
            report.add(f"curve, N={hosts}: time / T_min", took / row.least, f"sent {egress:.2f} times{load()}")
            report.add(f"curve, N={hosts}: central bound / T_min", row.central / row.least, "arithmetic")
    report.keep("curve", {"bitdew": ours, "central": central, "rate": CURVE_RATE, "size": CURVE_SIZE})
    if picture is not None:
        across = Axis("hosts", {float(n): str(n) for n in CURVE_HOSTS}, 1, max(CURVE_HOSTS))
        up = Axis("time / T_min", {1.0: "1", 2.0: "2", 4.0: "4", 8.0: "8", 16.0: "16"}, 0.8, 20)
        lines = {"BitDew": ours, "central (bound)": central}
        title = f"{CURVE_SIZE // MB} MB to N hosts, all links {CURVE_RATE:g} Mbit/s"
        picture.write_text(chart(title, across, up, lines, (1.0, "T_min")))


def main() -> None:
    keys = [*(row.key for row in ROWS), "single", "first", "curve"]
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="examples: swarm.py --row equal --runs 3 --alone; swarm.py --row curve --picture FILE.svg",
    )
    parser.add_argument("--json", action="store_true", help="Print JSON, with the times behind the ratios.")
    parser.add_argument("--row", action="append", choices=keys, help="Take this row only; may be repeated.")
    parser.add_argument("--runs", type=int, default=2, help="BitDew's runs on each bed.")
    parser.add_argument("--alone", action="store_true", help="Leave out the other systems.")
    parser.add_argument("--picture", type=Path, help="Draw the curve into this SVG file.")
    chosen = parser.parse_args()
    if os.geteuid() or not Path(IP).exists():
        sys.exit("this benchmark makes network namespaces: it needs root, and iproute2")
    report = Report("swarm: a file to many hosts on shaped links")
    peers = not chosen.alone
    if peers and (absent := others.missing()):
        sys.exit(f"not installed: {', '.join(absent)}; install them, or leave the others out with --alone")
    wanted = chosen.row or keys
    for row in ROWS:
        if row.key in wanted:
            run_row(row, report, chosen.runs, peers)
    if "single" in wanted:
        run_single(report, chosen.runs)
    if "first" in wanted:
        run_first(report)
    if "curve" in wanted:
        run_curve(report, chosen.picture)
    report.show(as_json=chosen.json)


if __name__ == "__main__":
    main()
