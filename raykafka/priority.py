"""Threads that give way: what nobody waits for must not keep the processor from event loops."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

_RAY_NICENESS: Final = "RAY_worker_niceness"
"""Ray's setting for its workers, where somebody has chosen one."""
_NICE: Final = 10
"""A tenth of the processor time of a thread that is no nicer, three times that of a Ray worker."""


def give_way() -> None:
    """Give the calling thread a low priority, where the system has one for threads (Linux)."""
    if sys.platform == "linux":  # elsewhere the whole process would
        with contextlib.suppress(OSError):
            os.nice(_NICE)


def serve_first() -> None:
    """Give every thread of this process the priority of the one that started it, Ray's raylet,
    where that is allowed (root, CAP_SYS_NICE, ``ulimit -e``).

    Ray starts its workers at niceness 15, so that they do not hold up Ray itself; who waits for a
    record waits for a server, too. What ``RAY_worker_niceness`` says instead stays.
    """
    if sys.platform != "linux" or _RAY_NICENESS in os.environ:
        return
    with contextlib.suppress(OSError):
        niceness = os.getpriority(os.PRIO_PROCESS, os.getppid())
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, int(thread), niceness)
