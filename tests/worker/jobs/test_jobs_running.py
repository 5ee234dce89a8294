"""Commands run to their end, with real processes: what is reported, and that nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
from bitdew.worker.jobs import folder
from bitdew.worker.jobs.running import Runner, RunningJob
from bitdew.worker.jobs.runs import Run, RunLimits, RunReport
from bitdew.worker.jobs.warden import confine, fields, plan

from bitdew.core.errors import BitDewError

from .conftest import MB, SHELL, python, run_of, shell

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="jobs run on Linux")
Report = Callable[[Run], Awaitable[RunReport]]


def left_of(marker: str) -> list[int]:
    """Processes with `marker` in their command line."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "status"])
        if marker in " ".join(process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


async def until(condition: Callable[[], bool], within: float = 15.0) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_command_that_ends_well_is_reported_with_what_it_printed(report_of: Report, tmp_path: Path) -> None:
    report = await report_of(shell(tmp_path, "echo out; echo err >&2; exit 0"))
    assert (report.outcome, report.code, report.succeeded) == ("exited", 0, True), report
    assert report.tail == b"out\nerr\n"
    assert report.printed == 8
    assert 0 < report.wall < 15


async def test_an_exit_code_and_a_signal_are_told_apart(report_of: Report, tmp_path: Path) -> None:
    failed = await report_of(shell(tmp_path, "exit 7"))
    killed = await report_of(shell(tmp_path, "kill -SEGV $$"))
    assert (failed.outcome, failed.code, failed.succeeded) == ("exited", 7, False)
    assert (killed.outcome, killed.code, killed.succeeded) == ("signalled", signal.SIGSEGV, False)


async def test_a_program_that_is_not_there_is_not_started(report_of: Report, tmp_path: Path) -> None:
    report = await report_of(run_of(tmp_path, Path("/usr/bin/there-is-none"), ("none",)))
    assert report.outcome == "not-started"
    assert "No such file" in report.why


async def test_what_it_takes_is_measured(report_of: Report, tmp_path: Path) -> None:
    script = (
        "import time\nx = bytearray(60 * 2**20)\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass"
    )
    report = await report_of(python(tmp_path, script))
    assert report.succeeded, report
    assert 0.5 < report.cpu < 5
    assert report.wall >= 0.6
    assert 60 * MB < report.memory < 120 * MB


async def test_many_long_words_arrive_as_they_were_given(report_of: Report, tmp_path: Path) -> None:
    words = ["x" * 90_000, *(str(number) for number in range(2000)), "", "ä\n'\"$(id)"]
    script = "import sys; print(len(sys.argv), len(sys.argv[1]), ascii(sys.argv[-2:]))"
    report = await report_of(python(tmp_path, script, *words))
    assert report.tail.decode() == f"{len(words) + 1} 90000 {words[-2:]!a}\n"


# Nothing is left ------------------------------------------------------------------------------------------------------

DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0) if sys.argv[2] == "gone" else time.sleep(0.3)
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for fd in range(3):
    os.close(fd)
time.sleep(60)
"""


async def test_a_daemon_that_forked_twice_ends_with_the_command(report_of: Report, tmp_path: Path) -> None:
    for how in ("gone", "waits"):
        marker = f"daemon-of-{tmp_path.name}-{how}"
        report = await report_of(python(tmp_path, DAEMON, marker, how))
        assert report.succeeded, report
        assert left_of(marker) == []


async def test_children_that_outlive_the_command_are_ended(report_of: Report, tmp_path: Path) -> None:
    begun = time.monotonic()
    report = await report_of(shell(tmp_path, "for i in 1 2 3 4 5; do (setsid sleep 98765 &) ; done; exit 3"))
    assert (report.outcome, report.code) == ("exited", 3)
    assert time.monotonic() - begun < 15
    assert left_of("sleep 98765") == []


async def test_a_child_that_ignores_everything_is_ended(report_of: Report, tmp_path: Path) -> None:
    report = await report_of(shell(tmp_path, "trap '' TERM HUP INT; sleep 98764 & sleep 98764", runtime=0.5))
    assert (report.outcome, report.limit) == ("over-limit", "runtime")
    assert left_of("sleep 98764") == []


# Limits ---------------------------------------------------------------------------------------------------------------


async def test_a_command_that_runs_too_long_is_asked_to_end_and_may_say_goodbye(
    report_of: Report, tmp_path: Path
) -> None:
    script = "trap 'echo goodbye; exit 0' TERM; echo begun; while :; do sleep 0.05; done"
    report = await report_of(shell(tmp_path, script, runtime=0.7))
    assert (report.outcome, report.limit) == ("over-limit", "runtime")
    assert report.tail.startswith(b"begun\n")
    assert report.tail.endswith(b"goodbye\n")
    assert 0.7 <= report.wall < 10


async def test_a_memory_hog_is_ended(report_of: Report, tmp_path: Path) -> None:
    script = "import time\nkept = []\nwhile True: kept.append(bytearray(b'x') * (8 * 2**20)); time.sleep(0.02)"
    report = await report_of(python(tmp_path, script, memory=64 * MB))
    assert (report.outcome, report.limit) == ("over-limit", "memory"), report
    assert report.memory < 300 * MB


async def test_memory_is_counted_over_all_processes(report_of: Report, tmp_path: Path) -> None:
    script = "import os, time\n[os.fork() for _ in range(2)]\nkept = bytearray(os.urandom(2**20)) * 40\ntime.sleep(20)"
    report = await report_of(python(tmp_path, script, memory=100 * MB))
    assert (report.outcome, report.limit) == ("over-limit", "memory"), report


async def test_memory_that_processes_share_counts_once(report_of: Report, tmp_path: Path) -> None:
    script = "import os, time\nkept = bytearray(os.urandom(2**20)) * 40\n[os.fork() for _ in range(2)]\ntime.sleep(1.5)"
    report = await report_of(python(tmp_path, script, memory=100 * MB))
    assert report.succeeded, report


async def test_a_fork_bomb_is_ended(report_of: Report, tmp_path: Path) -> None:
    marker = f"bomb-of-{tmp_path.name}"
    script = "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"
    report = await report_of(python(tmp_path, script, marker, processes=40))
    assert (report.outcome, report.limit) == ("over-limit", "processes"), report
    assert left_of(marker) == []


async def test_a_command_that_writes_too_much_is_ended(report_of: Report, tmp_path: Path) -> None:
    script = "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > f$i; sleep 0.02; done"
    report = await report_of(shell(tmp_path, script, disk=5 * MB))
    assert (report.outcome, report.limit) == ("over-limit", "disk"), report


@pytest.mark.parametrize("folder_of_it", ["HOME", "TMPDIR"])
async def test_files_without_a_name_count_too(folder_of_it: str, report_of: Report, tmp_path: Path) -> None:
    script = f"""
import os, time
kept = []
while True:
    kept.append(os.open(os.environ["{folder_of_it}"] + "/f", os.O_RDWR | os.O_CREAT))
    os.unlink(os.environ["{folder_of_it}"] + "/f")
    os.write(kept[-1], bytes(2**20))
    time.sleep(0.02)
"""
    report = await report_of(python(tmp_path, script, disk=5 * MB))
    assert (report.outcome, report.limit) == ("over-limit", "disk"), report


@pytest.mark.parametrize(
    "script",
    [
        "head -c 100000000 /dev/zero > f",  # the kernel ends it
        "trap '' XFSZ; head -c 100000000 /dev/zero > f; exit 3",  # it is told, and makes of it what it likes
        "exec truncate -s 100000000 f",  # which would take no room
    ],
)
async def test_one_file_can_not_grow_beyond_the_bound(report_of: Report, tmp_path: Path, script: str) -> None:
    run = shell(tmp_path, script, disk=5 * MB)
    report = await report_of(run)
    assert (report.outcome, report.limit) == ("over-limit", "disk"), report
    assert (run.work / "f").stat().st_size <= 6 * MB


async def test_a_command_that_makes_too_many_files_is_ended(report_of: Report, tmp_path: Path) -> None:
    script = "import os\ni = 0\nwhile True: i += 1; os.close(os.open(f'f{i}', os.O_CREAT))"
    report = await report_of(python(tmp_path, script, files=200))
    assert (report.outcome, report.limit) == ("over-limit", "files"), report


async def test_what_is_too_much_is_found_also_when_the_command_was_quick(report_of: Report, tmp_path: Path) -> None:
    report = await report_of(shell(tmp_path, "mkdir a; for i in 1 2 3 4 5 6 7 8 9; do echo > a/$i; done", files=5))
    assert (report.outcome, report.limit) == ("over-limit", "files"), report


async def test_folders_without_end_are_too_many_files(report_of: Report, tmp_path: Path) -> None:
    script = "import os\nfor _ in range(300): os.mkdir('d'); os.chdir('d')"
    report = await report_of(python(tmp_path, script))
    assert (report.outcome, report.limit) == ("over-limit", "files"), report


async def test_a_flood_of_output_takes_no_room_and_harms_nobody(report_of: Report, tmp_path: Path) -> None:
    run = shell(tmp_path, "echo first; timeout 1 yes 0123456789abcdef; echo last", log_bytes=65536)
    report = await report_of(run)
    assert report.succeeded, report
    assert report.printed > MB
    assert report.tail.endswith(b"0123456789abcdef\nlast\n")
    assert (run.directory / plan.LOG).stat().st_size < 70_000


async def test_a_job_has_as_many_processors_as_it_may(report_of: Report, tmp_path: Path) -> None:
    script = "import os; print(len(os.sched_getaffinity(0)))"
    assert (await report_of(python(tmp_path, script))).tail == b"1\n"


@pytest.mark.parametrize(("count", "chosen"), [(1, {6}), (2, {6, 8}), (3, {6, 8, 7}), (4, None)])
def test_jobs_share_no_processor_while_one_is_free(
    count: int, chosen: set[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the processors 5 to 8, other jobs have 5 and 7."""
    taken: list[list[int]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 6, 7, 8})
    monkeypatch.setattr(os, "sched_setaffinity", lambda _, processors: taken.append(list(processors)))
    monkeypatch.setattr(confine, "_claimed", lambda what: None if what[-1] in "57" else object())
    claims = confine.take_processors(count, 1)
    assert [set(one) for one in taken] == ([chosen] if chosen else [])
    assert len(claims) == (min(count, 2) if chosen else 0)


# Orders ---------------------------------------------------------------------------------------------------------------


async def test_a_job_that_is_stopped_ends_with_the_reason(
    start: Callable[[Run], Awaitable[RunningJob]], tmp_path: Path
) -> None:
    marker = f"to-be-stopped-{tmp_path.name}"
    job = await start(python(tmp_path, "import time; time.sleep(60)", marker))
    await until(lambda: bool(left_of(marker)))
    await job.stop("its owner cancelled it")
    report = await job.wait()
    assert (report.outcome, report.why) == ("stopped", "its owner cancelled it")
    assert left_of(marker) == []


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08])
async def test_a_job_can_be_stopped_at_any_moment(
    moment: float, start: Callable[[Run], Awaitable[RunningJob]], tmp_path: Path
) -> None:
    marker = f"stopped-early-{tmp_path.name}"
    job = await start(python(tmp_path, "import time; time.sleep(60)", marker))
    await asyncio.sleep(moment)
    await job.stop("early", kindly=False)
    assert (await job.wait()).outcome == "stopped"
    assert left_of(marker) == []


async def test_a_paused_job_stands_still_and_its_time_does_not_count(
    start: Callable[[Run], Awaitable[RunningJob]], tmp_path: Path
) -> None:
    run = shell(tmp_path, "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i > count; sleep 0.02; done", runtime=6.0)
    job = await start(run)
    await until((run.work / "count").exists)
    await job.pause()
    await asyncio.sleep(0.3)
    before = (run.work / "count").read_text()
    await asyncio.sleep(0.8)
    assert (run.work / "count").read_text() == before
    await job.resume()
    report = await job.wait()
    assert report.succeeded, report
    assert report.wall < 6.0


async def test_a_paused_job_can_be_stopped(start: Callable[[Run], Awaitable[RunningJob]], tmp_path: Path) -> None:
    job = await start(shell(tmp_path, "sleep 60"))
    await job.pause()
    await asyncio.sleep(0.3)
    await job.stop("no longer wanted")
    assert (await job.wait()).outcome == "stopped"


async def test_a_job_whose_worker_does_not_come_back_ends(tmp_path: Path) -> None:
    runner = Runner(lease=0.6, grace=0.1)
    job = await runner.start(shell(tmp_path, "sleep 60"))
    for _ in range(5):
        await asyncio.sleep(0.25)
        job.renew()
    assert folder.is_held(job.directory), "as long as the lease is renewed it runs on"
    report = await job.wait()
    assert (report.outcome, report.why) == ("stopped", "its worker did not come back")
    await runner.close()


SCRIPTS = (
    "sleep 0.2",
    "exit 3",
    "sleep 98763 & sleep 98763",
    "(setsid sleep 98763 &); exit 0",
    "trap '' TERM; sleep 98763; sleep 98763",
    "yes | head -c 3000000",
    "kill -9 $$",
    "while :; do /bin/true; done",
)


async def test_whatever_happens_to_runs_they_end_and_leave_nothing(runner: Runner, tmp_path: Path) -> None:
    chance = random.Random()
    turn = asyncio.Semaphore(4)

    async def one(number: int) -> None:
        async with turn:
            script = chance.choice(SCRIPTS)
            directory = tmp_path / str(number)
            limits = RunLimits(runtime=chance.choice([0.3, 1, 3]), memory=256 * MB)
            job = await runner.start(Run("f" * 32, 1, ("sh", "-c", script), SHELL, directory, limits=limits))
            done = [script]
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(chance.choice([0, 0.01, 0.05, 0.1, 0.3]))
                done.append(chance.choice(["pause", "resume", "stop", "kill", "recover"]))
                if done[-1] in {"pause", "resume"}:
                    await getattr(job, done[-1])()
                elif done[-1] == "stop":
                    await job.stop("by chance", kindly=chance.random() < 0.5)
                elif done[-1] == "kill" and (warden := await asyncio.to_thread(folder.warden_of, directory)):
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(warden, signal.SIGKILL)
                    os.close(warden)
                elif done[-1] == "recover":
                    assert await runner.recover(directory) is not None
            await job.resume()
            report = await job.wait()
            assert report.outcome in {"exited", "signalled", "over-limit", "stopped", *(["lost"] * ("kill" in done))}, (
                done
            )
            await asyncio.to_thread(folder.remove, directory)

    await asyncio.gather(*(one(number) for number in range(24)))
    assert left_of("sleep 98763") == []
    assert os.listdir(tmp_path) == []


# Restarts -------------------------------------------------------------------------------------------------------------


async def test_a_run_is_started_once(runner: Runner, tmp_path: Path) -> None:
    run = shell(tmp_path, "echo once >> count; sleep 0.5")
    first, second = await asyncio.gather(runner.start(run), runner.start(run))
    assert (await first.wait()).succeeded
    assert (await second.wait()).succeeded
    assert (await (await runner.start(run)).wait()).succeeded
    assert (run.work / "count").read_text() == "once\n"


async def test_another_worker_finds_a_job_that_runs_and_one_that_has_ended(tmp_path: Path) -> None:
    run = shell(tmp_path, "sleep 0.7; exit 5")
    earlier = Runner()
    child = (await earlier.start(run))._child
    await earlier.close()
    for _ in range(2):
        later = Runner()
        job = await later.recover(run.directory)
        assert job is not None
        report = await job.wait()
        assert (report.outcome, report.code) == ("exited", 5)
    assert child is not None
    await asyncio.to_thread(os.waitpid, child.pid, 0)


WORKER = """
import asyncio, sys
from pathlib import Path
from bitdew.worker.jobs.running import Runner
from bitdew.worker.jobs.runs import Run

async def main():
    run = Run("f" * 32, 1, ("sh", "-c", "sleep 1.5; echo done; exit 5"), Path("/bin/sh"), Path(sys.argv[1]))
    await Runner().start(run)
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_job_outlives_a_worker_that_is_killed_and_its_status_is_not_lost(
    runner: Runner, tmp_path: Path
) -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", WORKER, tmp_path / "run", stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert worker.stdout is not None
    assert await worker.stdout.readline() == b"started\n"
    os.killpg(worker.pid, signal.SIGKILL)
    await worker.wait()
    job = await runner.recover(tmp_path / "run")
    assert job is not None
    with pytest.raises(BitDewError, match="not over"):
        await asyncio.to_thread(folder.remove, job.directory)
    report = await job.wait()
    assert (report.outcome, report.code, report.tail) == ("exited", 5, b"done\n")
    await asyncio.to_thread(folder.remove, job.directory)
    assert os.listdir(tmp_path) == []


async def test_what_a_job_closed_is_removed_all_the_same(runner: Runner, report_of: Report, tmp_path: Path) -> None:
    run = shell(tmp_path, "mkdir -p a/b/c; touch a/b/c/d; ln -s / a/root; chmod 0 a/b/c a/b a .; exit 0")
    assert (await report_of(run)).succeeded
    await asyncio.to_thread(folder.remove, run.directory)
    await asyncio.to_thread(folder.remove, run.directory)
    assert os.listdir(tmp_path) == []


async def test_a_folder_in_which_nothing_was_started_has_no_run(runner: Runner, tmp_path: Path) -> None:
    assert await runner.recover(shell(tmp_path, "true").directory) is None


@pytest.mark.parametrize("namespaces", [True, False])
async def test_a_job_ends_with_its_warden(namespaces: bool, runner: Runner, tmp_path: Path) -> None:
    marker = f"without-warden-{tmp_path.name}"
    if not namespaces:
        found = await runner.isolation(tmp_path)
        runner._probed = type(found)(
            found.means - {plan.PIDS, plan.MOUNTS, plan.USER_NAMESPACE, plan.OWN_USER}, found.landlock
        )
        runner.anything = True
    script = "import os, time\nif os.fork() == 0: os.setsid(); os.fork()\ntime.sleep(60)"
    job = await runner.start(python(tmp_path, script, marker))
    await until(lambda: len(left_of(marker)) == 3)
    told = await asyncio.to_thread(fields.read, str(job.directory / plan.WARDEN))
    os.kill(int(dict(told)["pid"]), signal.SIGKILL)
    report = await job.wait()
    assert report.outcome == "lost"
    assert left_of(marker) == []


def test_nothing_begins_under_a_warden_that_was_killed_a_moment_before(tmp_path: Path) -> None:
    began = tmp_path / "began"
    spec = [
        *(("uid", "f" * 32), ("attempt", "1"), ("program", "/bin/sh"), ("means", plan.PIDS)),
        *(("anything", "no"), ("network", "no")),
        *(("argument", word) for word in ("sh", "-c", f"touch {began}")),
        *((name, "1") for name in ("runtime", "memory", "cpus", "processes", "disk", "files", "log", "lease", "grace")),
    ]
    fields.write(str(tmp_path / plan.SPEC), spec)
    # The kernel tells a child of its parent's end only if that comes after the child has asked to be told.
    script = (
        "import os, sys; sys.path.append(sys.argv[1]); from warden import first, plan\n"
        "if not (gone := os.fork()): os._exit(0)\n"
        "warden = os.pidfd_open(gone); os.waitpid(gone, 0)\n"
        f"first.keep_together(plan.read_spec({str(tmp_path / plan.SPEC)!r}), '.', '.', 0, first.Pipes(1, 1, 1), warden)"
    )
    words = [sys.executable, "-I", "-S", "-c", script, str(Path(folder.__file__).parent)]
    done = subprocess.run(words, stdout=subprocess.PIPE, timeout=30, check=False)
    assert (done.returncode, done.stdout, began.exists()) == (1, b"", False)
