"""Threads that give way: what nobody waits for must not keep the processor from event loops."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

_CHOSEN: Final = "RAY_worker_niceness"
_NICE: Final = 5
"""A third of the processor time of a thread that is no nicer."""


def give_way() -> None:
    """Give the calling thread a low priority, where the system has one for threads (Linux)."""
    if sys.platform == "linux":  # elsewhere the whole process would
        with contextlib.suppress(OSError):
            os.nice(_NICE)


def serve_first() -> None:
    """Give every thread of this process the priority that programs usually have, where that is
    allowed (root, CAP_SYS_NICE, ``ulimit -e``).

    Ray starts its workers at niceness 15, so that they do not hold up Ray itself; who waits for a
    record waits for a server, too. A niceness that was chosen for Ray stays.
    """
    if sys.platform != "linux" or _CHOSEN in os.environ:
        return
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # not allowed, or the thread has ended
            os.setpriority(os.PRIO_PROCESS, int(thread), 0)
