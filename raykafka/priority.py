"""Threads that give way: what nobody waits for must not keep the processor from event loops."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

_NICE: Final = 5
"""A third of the processor time of a thread that is no nicer."""


def give_way() -> None:
    """Give the calling thread a low priority, where the system has one for threads (Linux)."""
    if sys.platform == "linux":  # elsewhere the whole process would
        with contextlib.suppress(OSError):
            os.nice(_NICE)
