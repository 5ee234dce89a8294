"""A thread that lets everybody else go first, for work that has days.

Owns the low priority of such threads, at the processor and at the disk.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psutil


def humble_thread(name: str) -> ThreadPoolExecutor:
    """One thread of this kind, with a name. Its owner shuts it down."""
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_be_humble)


def _be_humble() -> None:
    """Where the system knows of such a thing."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    with suppress(OSError, AttributeError, psutil.Error):
        psutil.Process(threading.get_native_id()).ionice(psutil.IOPRIO_CLASS_IDLE)
