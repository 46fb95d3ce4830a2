"""The Ray nodes of a chaos run: the only file of the chaos runner that knows Ray's inside."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from ray.cluster_utils import Cluster

from raykafka.testing.chaos.namespaces import Namespaces

CPUS: Final = 1
"""What each node offers; raykafka then runs one partition actor on it."""
_START_WAIT: Final = "RAY_raylet_start_wait_time_s"


class RayNodes:
    """A Ray cluster of several nodes on this machine, each in a network namespace if there are."""

    def __init__(
        self, count: int, temporary: Path, namespaces: Namespaces | None, *, cpus: int = CPUS
    ) -> None:
        """``temporary`` is Ray's own; its path should be short, since sockets live there."""
        self.count = count
        self._cpus = cpus
        self._namespaces = namespaces
        self._temporary = temporary
        self._cluster: Any = None
        self._nodes: dict[int, Any] = {}
        # Ray notes the address of the last cluster there; that of others is not to be touched.
        os.environ["RAY_TMPDIR"] = str(temporary)
        # A node that cannot be started ends the run, and the machine may be busy.
        os.environ[_START_WAIT] = "120"
        (temporary / "ray").mkdir()
        for number in range(count):
            self.add(number)

    @property
    def address(self) -> str:
        """What ``RAY_ADDRESS`` should be."""
        return str(self._cluster.address)

    def add(self, number: int, environment: dict[str, str] | None = None) -> None:
        """Start a node; its processes see ``environment`` beside this process's."""
        arguments: dict[str, Any] = {"num_cpus": self._cpus}
        if self._namespaces is not None:
            arguments["node_ip_address"] = self._namespaces.address(number)

        def start() -> Any:
            with _environment(environment or {}):
                if self._cluster is None:
                    arguments["include_dashboard"] = False
                    arguments["temp_dir"] = str(self._temporary)
                    self._cluster = Cluster(
                        initialize_head=True, head_node_args=arguments, shutdown_at_exit=False
                    )
                    return self._cluster.head_node
                return self._cluster.add_node(**arguments)

        self._nodes[number] = self.run_in(number, start)

    def remove(self, number: int) -> None:
        """End a node at once, as a machine ends that loses its power."""
        node = self._nodes.pop(number)
        orphans = self.processes(node)
        self._cluster.remove_node(node, allow_graceful=False)
        for pid in orphans:  # a machine takes its actors with it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def revive(self) -> None:
        """Start nodes again that Ray has given up, as whoever supervises a machine does.

        Ray's head ends every node that it could not reach for about 15 s, soon after it can again.
        """
        for number, node in list(self._nodes.items()):
            [raylet] = node.all_processes["raylet"]
            if raylet.process.poll() is not None:
                del self._nodes[number]
                self._cluster.remove_node(node, allow_graceful=False)
                self.add(number)

    def is_up(self, number: int) -> bool:
        """Whether the node runs."""
        return number in self._nodes

    def run_in(self, number: int, function: Callable[[], Any]) -> Any:
        """Call ``function`` so that processes it starts are on that node's network."""
        if self._namespaces is None:
            return function()
        return self._namespaces.inside(number, function)

    def workers(self, number: int) -> list[int]:
        """Process ids of everything that runs on the node, its raylet left out."""
        return self.processes(self._nodes[number])

    def processes(self, node: Any) -> list[int]:
        """Process ids of the workers of a node."""
        [raylet] = node.all_processes["raylet"]
        return _children(raylet.process.pid)

    def shutdown(self) -> None:
        """End every node."""
        if self._cluster is not None:
            self._cluster.shutdown()


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Any:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in brackets may hold anything, so the fields are counted from its end.
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid:
                found.append(int(path.parent.name))
    return found
