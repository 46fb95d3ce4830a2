"""Tellers as processes, which are killed and start again under their names."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from random import Random
from typing import Final

_LOOK_S: Final = 0.1
_LIFE_S: Final = 6.0
"""How long it takes, on average, until the next one of them is killed, whatever else goes wrong."""
_MODULE: Final = "raykafka.testing.bank.teller"


class Tellers:
    """``count`` processes; one that ends, however that comes, is started again."""

    def __init__(
        self, data_dir: Path, count: int, seed: int, logs: Path, *, planted: str = ""
    ) -> None:
        self.kills = 0
        self.restarts = 0
        """Of tellers that ended by themselves."""
        self._data_dir = data_dir
        self._names = [f"teller-{number}" for number in range(count)]
        self._seed = seed
        self._logs = logs
        self._planted = planted
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="tellers", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def kill(self, random: Random) -> bool:
        """SIGKILL of one of them; False when none runs."""
        with self._lock:
            if not self._running:
                return False
            name = random.choice(sorted(self._running))
            self._end(self._running.pop(name))
            self.kills += 1
            return True

    def pause(self, random: Random) -> int | None:
        """SIGSTOP of one of them; returns its process id for ``resume``."""
        with self._lock:
            if not self._running:
                return None
            pid = self._running[random.choice(sorted(self._running))].pid
            os.kill(pid, signal.SIGSTOP)
            return pid

    def resume(self, pid: int) -> None:
        """SIGCONT, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """End all of them. Idempotent."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        with self._lock:
            while self._running:
                self._end(self._running.popitem()[1])

    def _keep(self) -> None:
        random = Random(f"tellers {self._seed}")
        while not self._stopping.wait(_LOOK_S):
            if random.random() < _LOOK_S / _LIFE_S:
                self.kill(random)
            with self._lock:
                for name in self._names:
                    process = self._running.get(name)
                    if process is not None and process.poll() is not None:
                        self.restarts += 1
                        process = None
                    if process is None:
                        self._running[name] = self._start(name)

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", _MODULE, str(self._data_dir), name, str(self._seed)]
        if self._planted:
            words.append(self._planted)
        with (self._logs / f"{name}.log").open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
