"""A page walked as its reader does it: each command of its console blocks is run, in order, and prints what it shows.

Owns how a page is read, and what may differ from run to run: figures, instants, identities, folders. A test hands in a
site.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

BITDEW = [sys.executable, "-P", "-m", "bitdew"]
PATIENCE = 90.0
"""Seconds that a service or a worker has to say what the page promises: many times what they take."""
SECONDS = 120.0
"""Seconds that any other command may take."""


@dataclass
class Step:
    """One command, and the lines that the page shows below it."""

    command: str
    promised: list[str] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """The command's words."""
        return shlex.split(self.command)

    @property
    def runs_on(self) -> bool:
        """Whether it goes on until Ctrl-C."""
        return self.words[1:2] == ["serve"] or self.words[1:3] in (["worker", "join"], ["worker", "run"])


def steps(page: Path) -> list[Step]:
    """The commands of a page's console blocks; a line that ends in a backslash goes on in the next."""
    found: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append(Step(line.removeprefix("$ ")))
            else:
                found[-1].promised.append(line)
    return found


def shape(text: str) -> set[str]:
    """The lines of `text` with everything that differs from run to run taken out."""
    text = re.sub(r"bitdew-join-[\w-]+", "TOKEN", text)
    text = re.sub(r"(/\S*|~/\.local/share/bitdew)/(profiles|worker)\b", r"HOME/\2", text)
    text = re.sub(r"\b[0-9a-f]{8,64}\b", "HEX", text)
    text = re.sub(r"\d+(\.\d+)? (B|KB|MB|GB|TB)\b", "SIZE", text)
    text = re.sub(r"\bpc\d\b", "PC", text)
    text = re.sub(r"(qemu\.accelerator|qemu\.held)=\w+", r"\1=ANY", text)
    text = re.sub(r"\d+(\.\d+)*", "N", text)
    return {" ".join(line.split()) for line in text.splitlines() if line.strip()}


class Terminal:
    """A command that runs on, as in a terminal of its own."""

    def __init__(self, words: list[str], environment: dict[str, str], folder: Path) -> None:
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line.rstrip("\n"))

    @property
    def text(self) -> str:
        """What it has printed."""
        return "\n".join(self._lines)

    def shows(self, promised: list[str]) -> None:
        """Return once it has printed `promised`."""
        until = time.monotonic() + PATIENCE
        while missing := shape("\n".join(promised)) - shape(self.text):
            assert time.monotonic() < until, (missing, self.text)
            assert self.process.poll() is None, (missing, self.text)
            time.sleep(0.05)

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(60)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class Walk:
    """A walk through a page.

    Attributes:
        terminals: What runs on, in the order in which it was started.
    """

    def __init__(self, site, folder: Path) -> None:
        """`site` has the environment and ends what is left; `folder` is where the reader works."""
        self.terminals: list[Terminal] = []
        self._site = site
        self._folder = folder
        self._environment = site.environment | {"COLUMNS": "160", "NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
        self._met = {"~/.local/share/bitdew": site.environment["BITDEW_HOME"]}

    def take(self, step: Step) -> str:
        """Run one command as it stands on the page, compare, and give what it printed."""
        command = step.command
        for shown, real in self._met.items():
            command = command.replace(shown, real)
        if step.runs_on:
            return self._begin(command, step)
        done = subprocess.run(
            ["bash", "-c", f'bitdew() {{ {shlex.join(BITDEW)} "$@"; }}; {command}'],
            capture_output=True,
            text=True,
            env=self._environment,
            cwd=self._folder,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        seen = f"{done.stdout}\n{done.stderr}"  # a terminal shows both
        missing = shape("\n".join(step.promised)) - shape(seen)
        assert not missing, (command, missing, seen)
        self._meet("\n".join(step.promised), done.stdout)
        return done.stdout

    def _begin(self, command: str, step: Step) -> str:
        words = [*BITDEW, *shlex.split(command)[1:]]
        if step.words[1] == "serve":
            words += ["--port", "0"]  # the usual one may be somebody else's here
        terminal = Terminal(words, self._environment, self._folder)
        self.terminals.append(terminal)
        self._site.daemons.append(terminal)
        terminal.shows(step.promised)
        if step.words[1] == "serve":
            found = re.search(r"https://127\.0\.0\.1:\d+", terminal.text)
            assert found
            self._met["https://127.0.0.1:8440"] = found[0]
        return terminal.text

    def _meet(self, promised: str, real: str) -> None:
        """Learn what stands here for what stands on the page: the token, and identities in their order."""
        if token := re.search(r"bitdew-join-[\w-]+", real):
            self._met["TOKEN"] = token[0]
        shown, found = (re.findall(r"^([0-9a-f]{8})\b", text, re.MULTILINE) for text in (promised, real))
        self._met |= dict(zip(shown, found, strict=False))
