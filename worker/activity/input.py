"""When someone last touched this host: keyboard, mouse, a terminal.

Owns the ways to find out. Nothing of what was typed is read: only counters and times that every user may see.

- `/proc/interrupts`: the lines of built-in keyboards, mice and touchpads.
- `/sys/bus/usb/devices/*/urbnum`: the packets of USB devices that are keyboards or mice.
- Terminals, remote ones too: the kernel notes when a line was read, to eight seconds.
- A witness: a file that another program touches, for desktops that tell nobody else.
- Where there is neither of the first two: `xprintidle`, if it is installed, and logind's idle hint.

The first look finds counters, not whether they moved: it counts as input, so that a host is never taken for idle early.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from .programs import ask_program

_LOOK_SECONDS: Final = 5.0
"""How long devices that are plugged in, and what other programs say, are taken for granted."""
_INPUT_LINE: Final = re.compile(
    rb"i8042|i2c[_-]hid|hid[_-]over|ELAN|SYNA|ALPS|DLL[0-9A-F]{4}|MSFT\d|touchpad|keyboard", re.IGNORECASE
)
_BOOT_KEYBOARD_OR_MOUSE: Final = {"01", "02"}
_MOST_DEVICES: Final = 256
_HID: Final = "03"


class InputWatch:
    """Watches by looking again and again; each look costs some file reads.

    Args:
        root: Where `proc`, `sys` and `dev` are.
        monotonic: The clock of what is counted.
        wall: The clock of files.
    """

    def __init__(
        self,
        *,
        root: Path = Path("/"),
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._monotonic = monotonic
        self._wall = wall
        self._counts: dict[str, int] | None = None
        self._touched = monotonic()
        self._devices: tuple[float, list[Path]] | None = None
        self._told: tuple[float, float | None] | None = None

    def idle(self, witness: str = "") -> float | None:
        """Seconds since the last input; None if nothing here can tell. Blocks."""
        counts = dict(self._read_counts())
        known = self._counts
        if counts and (known is None or any(counts[name] != known.get(name) for name in counts)):
            self._touched = self._monotonic()
        self._counts = counts
        found = [self._monotonic() - self._touched] if counts else []
        found += [max(0.0, self._wall() - touched) for touched in self._times(witness)]
        if not counts and (told := self._told_by_others()) is not None:
            found.append(told)
        return min(found, default=None)

    def _read_counts(self) -> Iterator[tuple[str, int]]:
        yield from _interrupts(self._root / "proc/interrupts")
        for path in self._usb():
            try:
                yield str(path), int(path.read_bytes()[:32])
            except (OSError, ValueError):
                continue  # unplugged

    def _usb(self) -> list[Path]:
        now = self._monotonic()
        if self._devices is None or now - self._devices[0] >= _LOOK_SECONDS:
            self._devices = now, list(_usb_input(self._root / "sys/bus/usb/devices"))
        return self._devices[1]

    def _times(self, witness: str) -> Iterator[float]:
        for path in _terminals(self._root / "dev"):
            try:
                yield path.stat().st_atime
            except OSError:
                continue  # closed
        if witness:
            try:
                yield Path(witness).stat().st_mtime
            except OSError:
                return

    def _told_by_others(self) -> float | None:
        now = self._monotonic()
        if self._told is None or now - self._told[0] >= _LOOK_SECONDS:
            self._told = now, _xprintidle() if os.environ.get("DISPLAY") else None
            if self._told[1] is None:
                self._told = now, _logind(self._wall())
        found = self._told[1]
        return None if found is None else found + now - self._told[0]


def _interrupts(path: Path) -> Iterator[tuple[str, int]]:
    """The input devices' lines, each with the sum over all processors."""
    try:
        raw = path.read_bytes()
    except OSError:
        return
    for line in raw.splitlines()[1:]:
        if _INPUT_LINE.search(line):
            number, _, rest = line.partition(b":")
            total = 0
            for word in rest.split():
                if not word.isdigit():
                    break
                total += int(word)
            yield f"irq {number.strip().decode(errors='replace')}", total


def _usb_input(folder: Path) -> Iterator[Path]:
    """The packet counters of the USB devices that are keyboards or mice, plain ones or receivers of them."""
    found: set[Path] = set()
    for place in sorted(folder.glob("*:*"))[:_MOST_DEVICES]:
        try:
            kind = (place / "bInterfaceClass").read_text().strip()
            protocol = (place / "bInterfaceProtocol").read_text().strip()
        except OSError:
            continue
        if kind == _HID and protocol in _BOOT_KEYBOARD_OR_MOUSE:
            found.add(folder / place.name.partition(":")[0] / "urbnum")
    yield from sorted(found)


def _terminals(folder: Path) -> Iterator[Path]:
    """Consoles, serial lines in use and remote terminals. `ptmx` is nobody's."""
    yield from (path for path in sorted((folder / "pts").glob("[0-9]*"))[:_MOST_DEVICES])
    yield from (folder / f"tty{number}" for number in range(1, 8))


def _xprintidle() -> float | None:
    text = ask_program("xprintidle")
    return int(text) / 1000 if text is not None and text.strip().isdigit() else None


def _logind(now: float) -> float | None:
    """Seconds since logind's idle hint began; None where it has none: many desktops never give one."""
    manager = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
    text = ask_program("busctl", "get-property", *manager, "IdleHint", "IdleSinceHint")
    match = re.fullmatch(r"b true\nt (\d{1,20})\n?", text or "")
    return max(0.0, now - int(match[1]) / 1e6) if match else None
