"""One server process on a free port of the loopback interface, for peers that are one program."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HOST = "127.0.0.1"
START_S = 20.0
STOP_S = 10.0


class LocalServer:
    """A running server; it ends with ``stop``, or with the process that started it."""

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        """Start it and return when it listens. Raises ``RuntimeError``, ``TimeoutError``."""
        self.port = port
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*_dying_with_parent(), *command],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
            )
        try:
            self._wait(lambda: listens(port))
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """End it. Idempotent."""
        self._process.kill()
        self._process.wait(STOP_S)

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while not condition():
            if self._process.poll() is not None:
                said = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"the server ended with {self._process.returncode}:\n{said}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server does not answer; see {self._log}")
            time.sleep(0.01)


def _dying_with_parent() -> list[str]:
    """A prefix that makes Linux kill the program when the thread that started it is gone."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        return int(held.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
