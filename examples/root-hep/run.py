"""The whole case on this machine alone: HEP jobs in ROOT machines on volunteers' PCs, from the disk to the spectrum.

    python examples/root-hep/run.py [--light] [--provision] [--disk DISK.raw] [--out FOLDER] [--events N] [--parts N]

A service and two workers are started, in a folder that is removed at the end. Jobs are submitted before any machine has
ROOT, and wait. A disk that has it is built (or `--disk` is taken), added, signed, brought to the workers by swarm and
booted in QEMU; the worker inside enrols with its machine's token and announces ROOT, and the jobs run there: the first
ones make events, an array of others analyses them part by part, and a last one merges their histograms.

With `--light` the machines have uproot, awkward, hist and iminuit in place of ROOT, and run the programs in `light`.
With `--provision` nobody deploys machines: the scheduler does it for jobs that wait, and retires them when none does.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from disk import CACHE, RECIPES, disk

HERE = Path(__file__).parent
BEGAN = time.monotonic()


@dataclass(frozen=True)
class Case:
    """What the jobs run on.

    Attributes:
        name: What the disk is called, after its recipe.
        application: What the machines share.
        needs: What the jobs need of it.
        programs: Where they are.
        memory: What a job may take.
        machine: What a machine has, where machines are deployed by hand.
    """

    name: str
    application: str
    needs: str
    programs: Path
    memory: str
    machine: str


ROOT = Case("root", "root", "root>=6.30", HERE, "900MB", "2GB")
LIGHT = Case("hep", "uproot", "uproot>=5", HERE / "light", "400MB", "768MB")


def say(text: str) -> None:
    """A line with the seconds since the beginning."""
    print(f"{time.monotonic() - BEGAN:7.1f} s  {text}", flush=True)


class Grid:
    """A service and its workers, as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {"BITDEW_HOME": str(folder / "home")}
        # Whoever runs this waits for its machines: they need not step back for anybody.
        self.environment.setdefault("BITDEW_MACHINE_NICENESS", "0")
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
def grid(workers: int, *options: object) -> Iterator[Grid]:
    """A grid on this machine; `options` are the service's."""
    folder = Path(tempfile.mkdtemp(prefix="root-hep-"))
    made = Grid(folder)
    try:
        url = made.start("serve", "--port", 0, "--home", folder / "service", *options)["url"]
        for number in range(1, workers + 1):
            token = made("token", "create", "--role", "worker")["token"]
            home = ["--home", folder / f"host{number}", "--name", f"host{number}", "--listen", f"127.0.1.{number}"]
            made.start("worker", "join", url, "--token", token, *home, "--memory", "3GB")
        yield made
    finally:
        made.stop()
        for process in psutil.process_iter(["cmdline"]):  # machines outlive their workers
            if any(str(folder) in word for word in process.info["cmdline"] or ()):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
                    process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


class Analysis:
    """The jobs of the case, from events to the spectrum.

    Attributes:
        hosts: Where each kind of job ran, by its name.
    """

    def __init__(self, bitdew: Grid, case: Case, machines: int, *options: object) -> None:
        self._bitdew = bitdew
        self._case = case
        self._machines = machines
        self._options = [*("--needs", case.needs, "--memory", case.memory, "--timeout", "30m"), *options]
        self.hosts: dict[str, list[str]] = {}

    def make_events(self, events: int) -> str:
        """Submit a job for each machine, each of which makes a part of the events; their array."""
        count = ["--count", self._machines, "--out", "events-{}.root"]
        return self._submit("generate", *count, command=["{}", events // self._machines])

    def analyse(self, made: list[dict[str, Any]], parts: int) -> str:
        """Submit an array that analyses what `made` left, part by part."""
        given = _inputs("events", [one for job in made for one in job["results"]])
        out = ["--out", "*.root", "--out", "*.png", "--count", parts]
        return self._submit("analysis", *given, *out, command=["{}", parts])

    def merge(self, jobs: list[dict[str, Any]]) -> str:
        """Submit the job that adds the histograms of `jobs`."""
        found = [one for job in jobs for one in job["results"] if one["path"].endswith(".root")]
        return self._submit("merge", *_inputs("parts", found), "--out", "spectrum.*", command=[])

    def _submit(self, name: str, *options: object, command: list[object]) -> str:
        program = ["--in", self._case.programs / f"{name}.py", "--", "python3", f"{name}.py", *command]
        asked = self._bitdew("job", "submit", "--name", name, *self._options, *options, *program)
        return str(asked["jobs"][0]["array"])

    def finished(self, array: str) -> list[dict[str, Any]]:
        """The jobs of an array, once all are done."""
        jobs = list(self._bitdew("job", "wait", array)["jobs"])
        self.hosts[jobs[0]["name"]] = sorted({job["runs"][-1]["host_name"] for job in jobs})
        return jobs


def _inputs(folder: str, results: list[dict[str, Any]]) -> list[object]:
    return [word for one in results for word in ("--in", f"{one['data']}={folder}/{one['path']}")]


def machines_that_joined(bitdew: Grid, case: Case, count: int) -> list[str]:
    """The machines inside which a worker runs and has what the jobs need, once there are so many."""
    while True:
        alive = [one for one in bitdew("host", "ls")["hosts"] if one["state"] == "alive"]
        found = [one["name"] for one in alive if case.application in {shared["name"] for shared in one["sharings"]}]
        if len(found) >= count:
            return sorted(found)
        time.sleep(1)


def retired(bitdew: Grid) -> dict[str, Any]:
    """The deployment that the scheduler made for the jobs, once its machines have ended."""
    while True:
        (listed,) = bitdew("vm", "deployments")["deployments"]
        made = bitdew("vm", "show", listed["uid"])
        if made["count"] == 0 and all(one["state"] in {"stopped", "failed"} for one in made["machines"]):
            return dict(made)
        time.sleep(1)


def add_disk(bitdew: Grid, case: Case, path: Path, hosts: int) -> None:
    """Add a disk, signed, and wait until the hosts hold it."""
    wish = ["--replica", hosts, "--requires", "sharing=qemu"]
    bitdew("disk", "add", path, "--name", case.name, *wish, "--wait")
    say(f"{hosts} hosts hold the disk, {path.stat().st_size / 1e6:.0f} MB")


def run(bitdew: Grid, case: Case, chosen: argparse.Namespace) -> Analysis:
    """Run the case in a grid that has as many workers as there are to be machines."""
    count = chosen.machines
    path = chosen.disk
    provision: list[object] = ["--provision", case.name, "--machines", count] if chosen.provision else []
    jobs = Analysis(bitdew, case, count, *provision)
    if chosen.provision:
        add_disk(bitdew, case, path or built(case, chosen.cache), count)
    making = jobs.make_events(chosen.events)
    first = bitdew("job", "ls", "--array", making)["jobs"][0]["uid"]
    for line in bitdew("job", "explain", first)["why"][1:]:
        say(f"the first job: {line}")
    made = None
    if not chosen.provision:
        add_disk(bitdew, case, path or built(case, chosen.cache), count)
        options = ["--memory", case.machine, "--cpus", 1, "--network", "user"]
        made = bitdew("vm", "deploy", case.name, "--count", count, *options, "--wait")["uid"]
        say(f"{count} machines boot")
    say(f"{case.application} is shared by {', '.join(machines_that_joined(bitdew, case, count))}")
    events = jobs.finished(making)
    say(f"events were made on {', '.join(jobs.hosts['generate'])} in {_wall(events)}")
    parts = jobs.finished(jobs.analyse(events, chosen.parts))
    say(f"{len(parts)} parts were analysed on {', '.join(jobs.hosts['analysis'])} in {_wall(parts)}")
    (last,) = jobs.finished(jobs.merge(parts))
    bitdew("job", "results", last["uid"], "-o", chosen.out, "--force")
    say(bitdew("job", "logs", last["uid"])["text"].strip().splitlines()[-1])
    say(f"the merged spectrum is in {chosen.out}")
    if made is not None:
        bitdew("vm", "stop", made)
    else:
        say(f"no job wants them any more: {len(retired(bitdew)['machines'])} machines ended")
    return jobs


def _wall(jobs: list[dict[str, Any]]) -> str:
    """How long the runs took that counted."""
    walls = [job["runs"][-1]["wall"] for job in jobs]
    return f"{min(walls):.0f} to {max(walls):.0f} s each"


def built(case: Case, cache: Path) -> Path:
    """The disk, as long as it takes."""
    path = disk(RECIPES / f"{case.name}.toml", cache)
    say("the disk is built")
    return path


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """What is to be done, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--light", action="store_true", help="uproot in place of ROOT")
    parser.add_argument("--provision", action="store_true", help="let the scheduler deploy and retire the machines")
    parser.add_argument("--disk", type=Path, help="a disk that was built before")
    parser.add_argument("--cache", type=Path, default=CACHE, help="the folder of what is kept of disks")
    parser.add_argument("--out", type=Path, default=Path("root-hep"), help="where the results go")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--parts", type=int, default=8)
    parser.add_argument("--machines", type=int, default=2)
    parser.add_argument("--idle", default="30s", help="how long machines of the scheduler's stay without a job")
    return parser.parse_args(words)


def main() -> None:
    """Run the case."""
    chosen = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that nothing is left then either
    with grid(chosen.machines, "--machines-idle", chosen.idle) as bitdew:
        say(f"a service and {chosen.machines} workers run")
        run(bitdew, LIGHT if chosen.light else ROOT, chosen)


if __name__ == "__main__":
    main()
