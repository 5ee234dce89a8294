"""Whether this host runs on battery, and whether its network is paid for by volume.

Owns both questions. `None` means that nothing here tells: a PC without a battery, a host without NetworkManager.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .programs import ask_program

_SUPPLIES: Final = Path("/sys/class/power_supply")
_NETWORK_MANAGER: Final = Path("/run/NetworkManager")
_METERED: Final = {"u 1", "u 3"}
"""NMMetered: yes, and guessed yes."""


def on_battery(folder: Path = _SUPPLIES) -> bool | None:
    """Whether no mains supply is connected, and a battery of the host's own is being emptied. Blocks."""
    mains: list[bool] = []
    emptied: list[bool] = []
    if not folder.is_dir():
        return None
    for supply in sorted(folder.iterdir())[:64]:
        kind, scope = _read(supply / "type"), _read(supply / "scope")
        if scope == "Device":
            continue  # of a mouse or a headset
        if kind in {"Mains", "USB"}:
            mains.append(_read(supply / "online") == "1")
        elif kind in {"Battery", "UPS"}:
            emptied.append(_read(supply / "status") == "Discharging")
    if not emptied:
        return None
    return any(emptied) and not any(mains)


def is_metered(run: Path = _NETWORK_MANAGER) -> bool | None:
    """Whether NetworkManager says so of the connection in use. Blocks, for two seconds at most."""
    if not run.is_dir():
        return None
    place = ("org.freedesktop.NetworkManager", "/org/freedesktop/NetworkManager", "org.freedesktop.NetworkManager")
    text = ask_program("busctl", "get-property", *place, "Metered")
    return None if text is None else text.strip() in _METERED


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(64).decode("ascii", "replace").strip()
    except OSError:
        return ""
