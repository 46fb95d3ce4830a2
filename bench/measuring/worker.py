"""A client runs in a Python process of its own, which does what it is asked over a pipe.

So every client library is measured "from one Python process" that has loaded nothing else, and its
CPU seconds and memory can be told from those of everybody else.
"""

from __future__ import annotations

import gc
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import psutil

T = TypeVar("T")


class WorkerFailedError(Exception):
    """What was asked of a worker raised; the text is the worker's traceback."""


class Worker:
    """One child process; ``call`` runs a module-level function there and returns its result."""

    def __init__(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name=name, daemon=False)
        self._process.start()
        theirs.close()
        self.name = name

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        """Ask; ``finish`` waits for the answer."""
        self._pipe.send((function, args))

    def finish(self, timeout_s: float = 300) -> Any:
        """The result of what was asked. Raises ``WorkerFailedError``, ``TimeoutError``."""
        if not self._pipe.poll(timeout_s):
            raise TimeoutError(f"{self.name} did not finish in {timeout_s:g} s")
        try:
            result, failure = self._pipe.recv()
        except EOFError:
            raise WorkerFailedError(f"{self.name} died") from None
        if failure is not None:
            raise WorkerFailedError(f"{self.name}:\n{failure}")
        return result

    def call(self, function: Callable[..., T], *args: Any, timeout_s: float = 300) -> T:
        """``start`` and ``finish``."""
        self.start(function, *args)
        result: T = self.finish(timeout_s)
        return result

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._pipe.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _serve(pipe: Connection) -> None:
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        answer: tuple[Any, str | None]
        try:
            answer = (function(*args), None)
        except Exception:  # noqa: BLE001 - whatever it is, the asker is to hear of it
            answer = (None, traceback.format_exc())
        gc.collect()
        pipe.send(answer)


def cpu_seconds(pids: list[int]) -> float:
    """User and system time that processes have used so far; those that ended count as nothing."""
    total = 0.0
    for pid in pids:
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def resident_bytes(pids: list[int]) -> int:
    """Resident memory of processes, mapped files included."""
    return sum(psutil.Process(pid).memory_info().rss for pid in pids if psutil.pid_exists(pid))
