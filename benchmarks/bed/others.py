"""What others do on the same links: nginx with curl, aria2 and transmission with opentracker.

Owns how each of them is run. A run is timed from the moment when the hosts are told of the file until the last of them
has all of it; nothing is made durable, and nginx's downloads are verified by nobody, which is in their favour. The
torrents are v1, with the client's own settings but for what keeps it from the outside: no DHT, no local discovery, no
encryption, seeding without end. Programs: Debian's nginx-light, curl, aria2, transmission-daemon, opentracker.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import libtorrent as lt

from .network import address

NEEDED: Final = ("nginx", "curl", "aria2c", "transmission-daemon", "transmission-remote", "opentracker")
TRACKER_PORT: Final = 6969
LOOK_SECONDS: Final = 0.05
PATIENCE_SECONDS: Final = 1800.0


def missing() -> list[str]:
    """The programs that are not installed."""
    return [name for name in NEEDED if shutil.which(name) is None]


@contextlib.contextmanager
def running(commands: Sequence[Sequence[str]], folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that end with the context; what they say is kept in `folder`."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (folder / f"{Path(command[-1]).name[:20]}-{number}.log").open("ab") as log:
                started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        yield started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def central(hosts: Sequence[Sequence[str]], file: Path, folder: Path) -> float:
    """Seconds until the last curl has the whole file from nginx on the first host."""
    folder.mkdir()
    settings = folder / "nginx.conf"
    settings.write_text(
        f"daemon off; user root; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;\n"
        f"events {{ worker_connections 512; }}\n"
        f"http {{ access_log off; sendfile on; server {{ listen {address(0)}:8080; root {file.parent}; }} }}\n"
    )
    with running([[*hosts[0], "nginx", "-c", str(settings)]], folder):
        _wait_for_port(hosts[1])
        began = time.monotonic()
        fetches = [
            [*host, "curl", "-sf", "-o", str(folder / f"copy{n}"), f"http://{address(0)}:8080/{file.name}"]
            for n, host in enumerate(hosts[1:])
        ]
        with running(fetches, folder) as curls:
            for curl in curls:
                if curl.wait(PATIENCE_SECONDS):
                    raise RuntimeError("a download from nginx failed")
        took = time.monotonic() - began
    _require(folder.glob("copy*"), file, len(hosts) - 1)
    return took


def aria2(hosts: Sequence[Sequence[str]], file: Path, folder: Path) -> float:
    """Seconds until the last aria2 has the whole file."""
    folder.mkdir()
    torrent = _torrent(file, folder)
    common = ["--seed-ratio=0.0", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "-q"]
    common += ["--file-allocation=none", "--follow-torrent=mem", "--enable-peer-exchange=false", "--bt-max-peers=0"]
    seed = [*hosts[0], "aria2c", *common, "--check-integrity=true", f"--dir={file.parent}", str(torrent)]
    told = _teller(folder)
    with _tracker(hosts[0], torrent, folder), running([seed], folder):
        _wait_until_announced(hosts[0], torrent)
        began = time.time()
        commands = []
        for number, host in enumerate(hosts[1:]):
            mine = folder / f"host{number}"
            mine.mkdir()
            hook = f"--on-bt-download-complete={told}"
            commands.append([*host, "aria2c", *common, hook, f"--dir={mine}", str(torrent)])
        with running(commands, folder):
            took = _last_told(folder, len(commands)) - began
    _require(folder.glob(f"host*/{file.name}"), file, len(hosts) - 1)
    return took


def transmission(hosts: Sequence[Sequence[str]], file: Path, folder: Path) -> float:
    """Seconds until the last transmission has the whole file; all daemons run and are idle before."""
    folder.mkdir()
    torrent, told = _torrent(file, folder), _teller(folder)
    commands = []
    for number, host in enumerate(hosts):
        mine = folder / f"host{number}"
        mine.mkdir()
        settings = {
            "dht-enabled": False,
            "lpd-enabled": False,
            "pex-enabled": False,
            "utp-enabled": False,
            "encryption": 0,
            "rpc-authentication-required": False,
            "rpc-whitelist-enabled": False,
            "rpc-bind-address": address(number),
            "download-dir": str(file.parent if number == 0 else mine),
            "bind-address-ipv4": address(number),
            "script-torrent-done-enabled": number > 0,
            "script-torrent-done-filename": str(told),
            "ratio-limit-enabled": False,
            "preallocation": 0,
            "port-forwarding-enabled": False,
        }
        (mine / "settings.json").write_text(json.dumps(settings))
        commands.append([*host, "transmission-daemon", "-f", "-g", str(mine)])
    with _tracker(hosts[0], torrent, folder), running(commands, folder):
        for number, host in enumerate(hosts):
            _remote(host, number, "-l")
        _remote(hosts[0], 0, "-a", str(torrent))
        _wait_until_announced(hosts[0], torrent)
        began = time.time()
        with running([_remote_words(h, n, "-a", str(torrent)) for n, h in enumerate(hosts) if n], folder) as adding:
            for process in adding:
                process.wait(60)
            took = _last_told(folder, len(hosts) - 1) - began
    _require(folder.glob(f"host*/{file.name}"), file, len(hosts) - 1)
    return took


def _torrent(file: Path, folder: Path) -> Path:
    """A v1 torrent of `file`, as these clients understand it, with the pieces that BitDew takes."""
    piece = 64 * 1024
    while file.stat().st_size // piece > 1024:
        piece *= 2
    creator = lt.create_torrent(lt.list_files(str(file)), piece, lt.create_torrent.v1_only)
    creator.add_tracker(f"http://{address(0)}:{TRACKER_PORT}/announce")
    lt.set_piece_hashes(creator, str(file.parent))
    path = folder / "torrent"
    path.write_bytes(lt.bencode(creator.generate()))
    return path


def _info_hash(torrent: Path) -> str:
    return str(lt.load_torrent_file(str(torrent)).ti.info_hashes().v1)


@contextlib.contextmanager
def _tracker(host: Sequence[str], torrent: Path, folder: Path) -> Iterator[None]:
    # Started by root it shuts itself into its folder and gives root up: everybody must be able to read that.
    public = Path(tempfile.mkdtemp(prefix="bitdew-tracker-"))
    try:
        public.chmod(0o755)
        allowed = public / "allowed"
        allowed.write_text(_info_hash(torrent) + "\n")
        words = ["-i", address(0), "-p", str(TRACKER_PORT), "-P", str(TRACKER_PORT), "-d", str(public)]
        with running([[*host, "opentracker", *words, "-w", allowed.name]], folder):
            yield
    finally:
        shutil.rmtree(public)


def _wait_until_announced(host: Sequence[str], torrent: Path) -> None:
    """Until the tracker knows one seeder."""
    quoted = "".join(f"%{byte:02x}" for byte in bytes.fromhex(_info_hash(torrent)))
    url = f"http://{address(0)}:{TRACKER_PORT}/scrape?info_hash={quoted}"
    until = time.monotonic() + 120
    while time.monotonic() < until:
        said = subprocess.run([*host, "curl", "-s", url], check=False, capture_output=True).stdout
        if b"8:completei1e" in said:
            return
        time.sleep(LOOK_SECONDS)
    raise RuntimeError("the first seeder never announced itself")


def _wait_for_port(host: Sequence[str]) -> None:
    until = time.monotonic() + 30
    while subprocess.run([*host, "curl", "-so", "/dev/null", f"http://{address(0)}:8080/"], check=False).returncode:
        if time.monotonic() > until:
            raise RuntimeError("nginx did not start")
        time.sleep(LOOK_SECONDS)


def _teller(folder: Path) -> Path:
    """A program that notes when it was run, in a file of its own."""
    path = folder / "tell"
    path.write_text(f'#!/bin/sh\ndate +%s.%N > "$(mktemp {folder}/told.XXXXXX)"\n')
    path.chmod(0o755)
    return path


def _last_told(folder: Path, count: int) -> float:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        told = [path.read_text().strip() for path in folder.glob("told.*")]
        if len(told) == count and all(told):
            return max(map(float, told))
        time.sleep(LOOK_SECONDS)
    raise RuntimeError("not every host has the file in time")


def _remote_words(host: Sequence[str], number: int, *words: str) -> list[str]:
    return [*host, "transmission-remote", f"{address(number)}:9091", *words]


def _remote(host: Sequence[str], number: int, *words: str) -> None:
    until = time.monotonic() + 60
    while subprocess.run(_remote_words(host, number, *words), check=False, capture_output=True).returncode:
        if time.monotonic() > until:
            raise RuntimeError("transmission does not answer")
        time.sleep(LOOK_SECONDS)


def _require(copies: Iterator[Path], file: Path, count: int) -> None:
    """Every copy has the size of the file; then they go."""
    sizes = []
    for copy in copies:
        sizes.append(copy.stat().st_size)
        copy.unlink()
    if sizes != [file.stat().st_size] * count:
        raise RuntimeError(f"{count} copies were to come, and these came: {sizes}")
    os.sync()
