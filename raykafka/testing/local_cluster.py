"""A whole cluster in one process, without Ray: the real shells, listeners, files and protocol.

``with LocalCluster(tmp_path) as cluster: Producer(cluster.bootstrap)``. Actors can be killed: they
let go of their sockets and locks at once and close nothing, and the controller makes new ones, as
it does after a SIGKILL under Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from raykafka.actors.controller import LOCK_TIMEOUT_S
from raykafka.actors.controlling.controller_home import controller_directory
from raykafka.actors.controlling.keeper import Patience
from raykafka.actors.endpoint_file import endpoint_file, write_endpoint_file
from raykafka.actors.ports import ControllerSpec, controller_name
from raykafka.client.cluster.file_bootstrap import FileBootstrap
from raykafka.errors import IllegalStateError, NotControllerError
from raykafka.testing.local_actors import LocalActor, LocalActors, LocalController
from raykafka.testing.loop_thread import LoopThread

TIMEOUT_S = 30.0
"""How long the cluster may take to start or to stop."""


class LocalCluster:
    """Brokers with their partition actors and a controller, on one loop in a thread of its own."""

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        *,
        configs: Mapping[str, str] | None = None,
        name: str = "local",
        nodes: int = 1,
        partition_actors: int = 2,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        patience: Patience | None = None,
    ) -> None:
        """``configs`` are broker settings; each of ``nodes`` gets a broker.

        Nothing runs before ``start`` or the ``with`` block.

        ``lock_timeout_s`` bounds the wait for another cluster to let go of the directory;
        ``patience`` is how long the active controller waits for others.
        """
        self.data_dir = os.path.abspath(os.fspath(data_dir))
        self.bootstrap = FileBootstrap(endpoint_file(self.data_dir))
        """Finds the controller, also after it was killed; picklable."""
        self._spec = ControllerSpec(
            name=f"{name}/controller",
            cluster_name=name,
            data_dir=self.data_dir,
            host="127.0.0.1",
            configs={"partition.actors": str(partition_actors), **(configs or {})},
        )
        self._thread: LoopThread | None = None
        self._actors = LocalActors(nodes, lock_timeout_s, patience)
        self._dead: dict[int, tuple[ControllerSpec, str]] = {}
        self._empty: set[int] = set()
        self._actors.on_access = lambda access: write_endpoint_file(self.data_dir, access)

    def __enter__(self) -> LocalCluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the cluster; returns when the controller answers."""
        os.makedirs(self.data_dir, exist_ok=True)
        self._thread = LoopThread(self._spec.cluster_name)
        try:
            self._run(self._start_controller())
        except BaseException:
            self._thread.close()
            self._thread = None
            raise

    def stop(self) -> None:
        """Stop the cluster cleanly; nothing happens when it does not run."""
        if self._thread is None:
            return
        try:
            self._run(self._stop())
        finally:
            self._thread.close()
            self._thread = None

    def restart(self) -> None:
        """Stop cleanly and start on the same directory."""
        self.stop()
        self.start()

    def kill_partition_actor(self, slot: int, broker_id: int = 0) -> None:
        """Kill the actor of a slot; the controller makes a new one. Returns at once after death.

        Raises ``IllegalStateError`` when no actor lives in that slot.
        """
        self._run(self._kill_partition_actor(broker_id, slot))

    def kill_broker(self) -> None:
        """Kill every broker; the controller makes new ones."""
        self._run(self._kill_brokers())

    def stop_node(self, number: int) -> None:
        """The node goes: all of its actors are killed, and none is made there."""
        self._run(self._stop_node(f"local-{number}"))

    def start_node(self, number: int) -> None:
        """The node comes back, with its disk as it was left."""
        self._run(self._start_node(f"local-{number}"))

    def add_node(self, rack: str = "") -> None:
        """One more node, and so one more broker."""
        self._run(self._add_node(rack))

    def kill_controller(self) -> int:
        """Kill the active controller and start it again, as Ray does; the other actors live on.

        Returns its voter id; raises ``IllegalStateError`` when none is active.
        """
        voter_id = self.active_voter()
        self.kill_voter(voter_id)
        self.start_voter(voter_id)
        return voter_id

    def active_voter(self) -> int:
        """Id of the active controller; raises ``IllegalStateError`` when none is."""
        voter_id: int = self._run(self._active_voter())
        return voter_id

    def voters(self) -> list[int]:
        """Ids of the voters, as the active controller knows them."""
        found: list[int] = self._run(self._voters())
        return found

    def voter_node(self, voter_id: int) -> str:
        """Where a controller lives; empty when it does not."""
        node_id: str = self._run(self._voter_node(voter_id))
        return node_id

    def kill_voter(self, voter_id: int, *, lose_disk: bool = False) -> None:
        """Kill a controller and leave it dead; with ``lose_disk`` its directory goes, too."""
        self._run(self._kill_voter(voter_id, lose_disk))

    def start_voter(self, voter_id: int) -> None:
        """Start a controller that was killed; returns when it is active or follows one that is.

        One that has lost its disk returns at once: the others have to fill it again.
        """
        self._run(self._start_voter(voter_id))

    def kill_all(self) -> None:
        """Kill every actor at once and start the controller again."""
        self._run(self._kill_all())

    def crash(self) -> None:
        """Kill everything and leave it dead, as a power switch does; ``start`` begins again."""
        if self._thread is not None:
            self._run(self._crash())
            self._thread.close()
            self._thread = None

    def partition_actor_slots(self, broker_id: int = 0) -> list[int]:
        """Slots of a broker in which an actor lives now."""
        return sorted(
            slot for broker, slot in self._actors.partition_actors() if broker == broker_id
        )

    # --- on the loop ------------------------------------------------------------------------------

    def _run(self, coroutine: Any) -> Any:
        if self._thread is None:
            coroutine.close()
            raise IllegalStateError("the cluster does not run; call start")
        return self._thread.run(coroutine, timeout_s=TIMEOUT_S)

    async def _start_controller(self) -> None:
        port = self._actors.create_controller(self._spec, "local-0")
        try:
            access = await port.shell.start()
        except BaseException:
            await _kill([port])
            raise
        write_endpoint_file(self.data_dir, access)

    async def _stop(self) -> None:
        for port in self._actors.controllers():
            with contextlib.suppress(NotControllerError):
                await port.shell.stop()
        await self._kill_others()

    async def _active_voter(self) -> int:
        active = [port for port in self._actors.controllers() if port.shell.is_active]
        if not active:
            raise IllegalStateError("no controller is active")
        return active[-1].shell.spec.voter_id

    async def _voters(self) -> list[int]:
        active = [port for port in self._actors.controllers() if port.shell.is_active]
        return active[-1].shell.voter_ids() if active else []

    async def _voter_node(self, voter_id: int) -> str:
        port = self._actors.find(controller_name(self._spec.cluster_name, voter_id))
        return "" if port is None else port.node_id

    async def _kill_voter(self, voter_id: int, lose_disk: bool) -> None:
        name = controller_name(self._spec.cluster_name, voter_id)
        port = self._actors.find(name)
        if not isinstance(port, LocalController):
            raise IllegalStateError(f"{name} does not live")
        self._dead[voter_id] = (port.shell.spec, port.node_id)
        if lose_disk:
            access = port.shell.access()
            spec = dataclasses.replace(
                port.shell.spec,
                may_found=False,
                cluster_id=access.cluster_id,
                secret=access.secret,
            )
            self._dead[voter_id] = (spec, port.node_id)
        await _kill([port])
        if lose_disk:
            self._empty.add(voter_id)
            shutil.rmtree(controller_directory(self.data_dir, voter_id))

    async def _start_voter(self, voter_id: int) -> None:
        spec, node_id = self._dead.pop(voter_id)
        port = self._actors.find(spec.name)  # voter 0 may have looked for the others meanwhile
        if not isinstance(port, LocalController):
            port = self._actors.create_controller(spec, node_id)
        if voter_id in self._empty:
            self._empty.discard(voter_id)
            await port.shell.start_voter()
        else:
            await port.shell.start()

    async def _kill_partition_actor(self, broker_id: int, slot: int) -> None:
        port = self._actors.partition_actors().get((broker_id, slot))
        if port is None:
            raise IllegalStateError(
                f"no partition actor of broker {broker_id} lives in slot {slot}"
            )
        await _kill([port])

    async def _stop_node(self, node_id: str) -> None:
        self._actors.set_down(node_id, down=True)
        await _kill(self._actors.on_node(node_id))

    async def _start_node(self, node_id: str) -> None:
        self._actors.set_down(node_id, down=False)

    async def _add_node(self, rack: str) -> None:
        self._actors.add_node(rack)

    async def _kill_brokers(self) -> None:
        await _kill(self._actors.brokers())

    async def _kill_all(self) -> None:
        await self._crash()
        await self._start_controller()

    async def _crash(self) -> None:
        await _kill(self._actors.controllers())
        await self._kill_others()

    async def _kill_others(self) -> None:
        actors = self._actors
        await _kill([*actors.controllers(), *actors.partition_actors().values(), *actors.brokers()])


async def _kill(ports: Sequence[LocalActor]) -> None:
    for port in ports:
        port.kill()
    await asyncio.gather(*(port.wait_dead() for port in ports))
