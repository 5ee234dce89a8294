"""Real processes: XtremWeb-HEP's door, a command and a packaged plug-in are told of copies, over kills and drops."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

pytestmark = [pytest.mark.field, pytest.mark.timeout(300)]
ROOT = Path(__file__).parent.parent.parent


class Door:
    """The door of an XtremWeb-HEP worker: each call replaces what it shares."""

    def __init__(self, port=0):
        self.names, self.paths, self.history = [], [], []
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
                names, paths = asked["datapackagename"][0], asked["datapackagepath"][0]
                door.names, door.paths = names.split(",") if names else [], paths.split(",") if paths else []
                there = [Path(path).exists() for path in door.watched]
                door.history.append((door.names, there))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.watched = []
        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def door():
    made = Door()
    yield made
    made.close()


def test_an_xtremweb_hep_worker_knows_what_its_host_holds(site, tmp_path, door):
    site.serve()
    worker = site.worker(1)
    home = site.folder / "host1"
    site.run("attr", "set", "hep", "--replica", 1)
    only = ("--attr", "hep", "--again", "1h")
    shown = site.run("worker", "bridge", "xwhep", "--url", door.url, *only, "--home", home)
    assert [line["name"] for line in shown["bridges"]] == ["xwhep"]

    contents = {}
    for number, name in enumerate(("hep-root", "hep-geant", "private")):
        contents[name] = random.Random(number).randbytes(3_000_000)
        file = tmp_path / name
        file.write_bytes(contents[name])
        wish = ("--attr", "hep") if name.startswith("hep") else ("--replica", 1)
        site.run("data", "put", file, "--name", name, *wish, "--wait")
    site.until(lambda: sorted(door.names) == ["hep-geant", "hep-root"])
    for name, path in zip(door.names, door.paths, strict=True):
        assert Path(path).read_bytes() == contents[name]
    (line,) = site.run("worker", "status", "--home", home)["bridges"]
    assert (line["state"], line["known"], line["waiting"]) == ("told", 2, 0)

    # The host's worker is killed and comes back; the door forgets everything meanwhile.
    worker.kill()
    door.names = door.paths = []
    site.worker(1)
    site.until(lambda: sorted(door.names) == ["hep-geant", "hep-root"])

    # The name is withdrawn first, while the bytes are still there.
    path = door.paths[door.names.index("hep-root")]
    door.watched = [path]
    site.run("data", "rm", "hep-root")
    site.until(lambda: not Path(path).exists())
    assert (["hep-geant"], [True]) in door.history
    assert door.names == ["hep-geant"]

    # A door that is closed keeps nothing waiting.
    door.close()
    site.run("data", "rm", "hep-geant")
    site.until(lambda: len(list((home / "copies").glob("?" * 64))) == 1, 30)
    (line,) = site.run("worker", "bridge", "ls", "--home", home)["bridges"]
    assert (line["state"], line["reason"]["key"]) == ("failing", "bridge.unreachable")
    again = Door(door.port)
    try:
        site.until(lambda: again.history, 60)
        assert again.names == []
    finally:
        again.close()


def test_the_example_of_a_plugin_is_installed_and_links_what_is_held_and_a_command_hears_of_it(site, tmp_path):
    source, target, links = tmp_path / "source", tmp_path / "plugins", tmp_path / "links"
    shutil.copytree(ROOT / "examples/worker_plugin", source)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            "--target",
            target,
            source,
        ],
        check=True,
        timeout=100,
    )
    site.environment |= {"PYTHONPATH": str(target), "LINKS_FOLDER": str(links)}
    site.serve()
    told = tmp_path / "told"
    worker = site.worker(1)
    home = site.folder / "host1"
    append = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read() + '\\n')"
    site.run("worker", "bridge", "command", "--home", home, "--json", sys.executable, "-c", append, told)
    file = tmp_path / "events"
    file.write_bytes(random.Random(5).randbytes(1_000_000))
    site.run("data", "put", file, "--name", "events", "--replica", 1, "--wait")
    site.until((links / "events").exists)
    assert (links / "events").read_bytes() == file.read_bytes()

    def heard():
        lines = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
        return [(line["event"], [copy["name"] for copy in line["copies"]]) for line in lines]

    site.until(lambda: ("held", ["events"]) in heard())
    worker.kill()
    (links / "events").unlink()
    worker = site.worker(1)
    site.until((links / "events").exists)
    site.until(lambda: heard()[-1] == ("started", ["events"]))
    lines = site.run("worker", "status", "--home", home)["bridges"]
    assert {(line["name"], line["kind"], line["state"]) for line in lines} == {
        ("command", "command", "told"),
        ("links", "plug-in", "told"),
    }
    site.run("data", "rm", "events")
    site.until(lambda: not (links / "events").is_symlink())
    site.until(lambda: heard()[-1] == ("dropping", ["events"]))
    assert heard().count(("held", ["events"])) == 1
