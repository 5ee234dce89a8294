"""The whole case on this machine alone: HEP jobs in ROOT machines on volunteers' PCs, from the disk to the spectrum.

    python examples/root-hep/run.py [--disk ROOT.raw] [--out FOLDER] [--events N] [--parts N] [--machines N]

A service and two workers are started, in a folder that is removed at the end. The jobs are submitted before any machine
has ROOT, and wait. Then the disk is built (or `--disk` is taken), added, signed, brought to the workers by swarm and
booted in QEMU; the worker inside enrols with its machine's token and announces ROOT, and the jobs run there: one makes
events, an array of others analyses them part by part, and a last one merges their histograms.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NEEDS = ["--needs", "root>=6.30", "--timeout", "30m", "--memory", "900MB", "--attempts", "3"]
BEGAN = time.monotonic()


def say(text: str) -> None:
    """A line with the seconds since the beginning."""
    print(f"{time.monotonic() - BEGAN:7.1f} s  {text}", flush=True)


class Grid:
    """A service and its workers, as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"BITDEW_HOME": str(folder / "home")}
        self.processes: list[subprocess.Popen[str]] = []

    def __call__(self, *words: object) -> Any:
        """What a command prints with --json."""
        asked = [sys.executable, "-m", "bitdew", *map(str, words)]
        # Behind the options, before the command of a job.
        at = asked.index("--") if "--" in asked else len(asked)
        done = subprocess.run(
            [*asked[:at], "--json", *asked[at:]], env=self.environment, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"bitdew {' '.join(map(str, words))} failed: {done.stdout}")
        return json.loads(done.stdout)

    def start(self, *words: object) -> dict[str, Any]:
        """Start a service or a worker; what it says when it is ready."""
        with (self.folder / f"{words[0]}{len(self.processes)}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bitdew", *map(str, words), "--json", "--stop-with-parent"],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.processes.append(process)
        said: dict[str, Any] = {}
        for line in process.stdout or ():
            said = json.loads(line)
            if said.get("ready"):
                return said
        raise SystemExit(f"bitdew {words[0]} did not start: {said}\n{Path(log.name).read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop everything, workers first."""
        for process in reversed(self.processes):
            process.terminate()
            # What it still prints is read, so that it can end.
            process.communicate(timeout=60)


@contextlib.contextmanager
def grid(workers: int) -> Iterator[Grid]:
    """A grid on this machine."""
    folder = Path(tempfile.mkdtemp(prefix="root-hep-"))
    made = Grid(folder)
    try:
        url = made.start("serve", "--port", 0, "--home", folder / "service")["url"]
        for number in range(1, workers + 1):
            token = made("token", "create", "--role", "worker")["token"]
            home = ["--home", folder / f"host{number}", "--name", f"host{number}", "--listen", f"127.0.1.{number}"]
            made.start("worker", "join", url, "--token", token, *home, "--memory", "3GB")
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def finished(bitdew: Grid, uid: str) -> list[dict[str, Any]]:
    """The jobs of an array, or the one job, once all are done."""
    return list(bitdew("job", "wait", uid)["jobs"])


def main() -> None:
    """Run the case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disk", type=Path, help="a ROOT disk that was built before")
    parser.add_argument("--out", type=Path, default=Path("root-hep"), help="where the results go")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--machines", type=int, default=2)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that nothing is left then either
    with grid(chosen.machines) as bitdew:
        say(f"a service and {chosen.machines} workers run")
        make = ["--in", HERE / "generate.py", "--out", "events.root"]
        first = bitdew(
            "job", "submit", "--name", "generate", *NEEDS, *make, "--", "python3", "generate.py", chosen.events
        )
        first = first["jobs"][0]["uid"]
        say(f"the first job waits: {bitdew('job', 'explain', first)['why'][-1]}")
        disk = chosen.disk
        if disk is None:
            disk = bitdew.folder / "root.raw"
            bitdew("disk", "build", HERE.parent / "disks/root.toml", disk)
            say(f"the ROOT disk is built: {disk.stat().st_size / 1e6:.0f} MB")
        bitdew(
            "disk", "add", disk, "--name", "root", "--replica", chosen.machines, "--requires", "sharing=qemu", "--wait"
        )
        say(f"{chosen.machines} hosts hold the disk")
        made = bitdew(
            *("vm", "deploy", "root", "--count", chosen.machines, "--memory", "2GB", "--cpus", 1, "--network", "user"),
            "--wait",
        )
        say(f"{chosen.machines} machines boot")
        events = finished(bitdew, first)[0]
        run = events["runs"][-1]
        say(f"events were made on {run['host_name']} in {run['wall']:.0f} s")
        split = ["--in", f"{events['results'][0]['data']}=events.root", "--in", HERE / "analysis.py"]
        split += ["--out", "*.root", "--out", "*.png", "--count", chosen.parts]
        asked = bitdew(
            "job", "submit", "--name", "analysis", *NEEDS, *split, "--", "python3", "analysis.py", "{}", chosen.parts
        )
        jobs = finished(bitdew, asked["jobs"][0]["array"])
        on = sorted({job["runs"][-1]["host_name"] for job in jobs})
        say(f"{len(jobs)} parts were analysed on {', '.join(on)}")
        parts = [
            one for job in jobs for one in job["results"] if one["path"].endswith(".root") and "part" in one["path"]
        ]
        given = [word for one in parts for word in ("--in", f"{one['data']}=parts/{one['path']}")]
        given += ["--in", HERE / "merge.py", "--out", "spectrum.*"]
        last = bitdew("job", "submit", "--name", "merge", *NEEDS, *given, "--", "python3", "merge.py")["jobs"][0]["uid"]
        finished(bitdew, last)
        bitdew("job", "results", last, "-o", chosen.out, "--force")
        say(bitdew("job", "logs", last)["text"].strip().splitlines()[-1])
        bitdew("vm", "stop", made["uid"])
        say(f"the merged spectrum is in {chosen.out}")


if __name__ == "__main__":
    main()
