"""A network namespace per node, joined by a bridge, so that a node can be cut off without a word.

Needs root and ``ip`` (iproute2). Processes of a namespace are started by a thread that has entered
it; they inherit it, and so do theirs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from raykafka.errors import IllegalStateError

T = TypeVar("T")

_NETWORK: Final = "10.99"
_CLONE_NEWNET: Final = 0x40000000


class Namespaces:
    """The namespaces of one run; ``close`` removes them."""

    def __init__(self, count: int) -> None:
        """Raises ``IllegalStateError`` where they cannot be made."""
        if not are_possible():
            raise IllegalStateError("network namespaces need root and the program ip (iproute2)")
        self._subnet = f"{_NETWORK}.{os.getpid() % 250}"
        self._prefix = f"rk{os.getpid() % 100_000}"
        self._count = count
        self._cut: set[int] = set()
        self._bridge = f"{self._prefix}b"
        self.close()  # what a killed run of the same number has left
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{self._subnet}.254/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for number in range(count):
            self._make(number)

    def _make(self, number: int) -> None:
        name, outside = self.name(number), self._outside(number)
        _ip("netns", "add", name)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", outside, "master", self._bridge, "up")
        _ip("-n", name, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "default", "via", f"{self._subnet}.254")

    def name(self, number: int) -> str:
        """Name of a namespace."""
        return f"{self._prefix}-{number}"

    def address(self, number: int) -> str:
        """Address of the node in it."""
        return f"{self._subnet}.{number + 1}"

    def cut(self, number: int) -> None:
        """Nothing gets in or out any more; nobody is told."""
        _ip("link", "set", self._outside(number), "down")
        self._cut.add(number)

    def heal(self, number: int) -> None:
        """Everything gets through again."""
        _ip("link", "set", self._outside(number), "up")
        self._cut.discard(number)

    def heal_all(self) -> None:
        """Everything gets through to everybody again."""
        for number in list(self._cut):
            self.heal(number)

    @property
    def are_cut(self) -> bool:
        """Whether some node is cut off now."""
        return bool(self._cut)

    def inside(self, number: int, function: Callable[[], T]) -> T:
        """Call ``function`` in a thread of the namespace; raises what it raises."""
        outcome: list[Any] = []

        def run() -> None:
            try:
                _enter(self.name(number))
                outcome.append((function(), None))
            except BaseException as error:  # noqa: BLE001  # raised where it was asked for
                outcome.append((None, error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        result, error = outcome[0]
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def close(self) -> None:
        """Remove everything; what is not there is left alone."""
        for number in range(self._count):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "delete", self.name(number))
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "delete", self._bridge)

    def _outside(self, number: int) -> str:
        return f"{self._prefix}v{number}"


def are_possible() -> bool:
    """Whether this process may make namespaces."""
    return os.geteuid() == 0 and shutil.which("ip") is not None


def _enter(name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}", "rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
