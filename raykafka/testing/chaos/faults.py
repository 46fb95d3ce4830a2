"""What the nemesis does to a real cluster, and how it is put right again."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from raykafka.testing.chaos.deployment import DISK_BYTES, NODES, Deployment

Undo = Callable[[], None]
Inject = Callable[[Deployment, Random], "Undo | None"]
"""Makes something go wrong; returns what ends it, or None when there was nothing to harm."""

HEAD: Final = 0
"""Node with Ray's head, which is never removed: without it Ray itself is gone."""
RAY_FAILURES: Final = {
    "CoreWorkerService.grpc_client.PushTask": {
        "num_failures": -1,
        "req_failure_prob": 5,
        "resp_failure_prob": 5,
        "in_flight_failure_prob": 0,
    }
}
"""Ray calls between actors of a node that was started with these fail now and then."""


class Fault(NamedTuple):
    """One kind of trouble."""

    name: str
    inject: Inject
    shortest_s: float = 0.0
    longest_s: float = 0.0
    """How long it lasts; 0 for what is over at once."""
    needs_root: bool = False


def _nothing() -> None:
    """It is over already."""


def _kill(deployment: Deployment, pids: list[int]) -> Undo | None:
    return _nothing if deployment.signal(pids, signal.SIGKILL) else None


def _pause(deployment: Deployment, pids: list[int]) -> Undo | None:
    if not deployment.signal(pids, signal.SIGSTOP):
        return None

    def resume() -> None:
        deployment.signal(pids, signal.SIGCONT)

    return resume


def _partition_actors(deployment: Deployment, random: Random, *, leads: bool) -> list[int]:
    """Process id of an actor that leads some partition, or of one that leads the fewest."""
    leaders = deployment.leaders()
    actors = deployment.actors("partition")
    if not leaders or not actors:
        return []
    leader = random.choice(leaders)
    wanted = [actor for actor in actors if (actor.broker_id == leader) is leads]
    return [random.choice(wanted).pid] if wanted else []


def _any_of(deployment: Deployment, random: Random, role: str) -> list[int]:
    actors = deployment.actors(role)
    return [random.choice(actors).pid] if actors else []


def kill_leader(deployment: Deployment, random: Random) -> Undo | None:
    """SIGKILL of an actor that leads."""
    return _kill(deployment, _partition_actors(deployment, random, leads=True))


def kill_follower(deployment: Deployment, random: Random) -> Undo | None:
    """SIGKILL of an actor that follows."""
    return _kill(deployment, _partition_actors(deployment, random, leads=False))


def kill_broker(deployment: Deployment, random: Random) -> Undo | None:
    """SIGKILL of a broker actor."""
    return _kill(deployment, _any_of(deployment, random, "broker"))


def kill_controller(deployment: Deployment, random: Random) -> Undo | None:
    """SIGKILL of the controller that acts."""
    return _kill(deployment, _any_of(deployment, random, "controller"))


def kill_node(deployment: Deployment, random: Random) -> Undo | None:
    """SIGKILL of every actor of a node; Ray's own processes on it live on."""
    return _kill(deployment, deployment.actors_on(random.randrange(NODES)))


def pause_leader(deployment: Deployment, random: Random) -> Undo | None:
    """SIGSTOP of an actor that leads."""
    return _pause(deployment, _partition_actors(deployment, random, leads=True))


def pause_controller(deployment: Deployment, random: Random) -> Undo | None:
    """SIGSTOP of the controller that acts."""
    return _pause(deployment, _any_of(deployment, random, "controller"))


def pause_node(deployment: Deployment, random: Random) -> Undo | None:
    """SIGSTOP of every actor of a node."""
    return _pause(deployment, deployment.actors_on(random.randrange(NODES)))


def _removable(deployment: Deployment) -> list[int]:
    return [number for number in range(NODES) if number != HEAD and deployment.nodes.is_up(number)]


def _add_node(deployment: Deployment, number: int) -> None:
    """A machine joins once the network lets it: Ray gives up a node that cannot reach its head."""
    if deployment.namespaces is not None:
        deployment.namespaces.heal_all()
    if not deployment.nodes.is_up(number):
        deployment.nodes.add(number)


def remove_node(deployment: Deployment, random: Random) -> Undo | None:
    """A machine is gone, and comes back as a new node of Ray with the old disk."""
    numbers = _removable(deployment)
    if not numbers:
        return None
    number = random.choice(numbers)
    deployment.nodes.remove(number)
    return lambda: _add_node(deployment, number)


def fail_ray_calls(deployment: Deployment, random: Random) -> Undo | None:
    """A machine is gone, and one comes back on which one in ten Ray calls fails, for this once."""
    numbers = _removable(deployment)
    if not numbers or (deployment.namespaces is not None and deployment.namespaces.are_cut):
        return None
    number = random.choice(numbers)
    failures = {"RAY_testing_rpc_failure": json.dumps(RAY_FAILURES)}
    deployment.nodes.remove(number)
    deployment.nodes.add(number, failures)

    def replace() -> None:
        if deployment.nodes.is_up(number):
            deployment.nodes.remove(number)
        _add_node(deployment, number)

    return replace


def cut_off(deployment: Deployment, random: Random) -> Undo | None:
    """Nothing gets to a node or from it, and nobody is told."""
    namespaces = deployment.namespaces
    if namespaces is None:
        return None
    number = random.randrange(NODES)
    namespaces.cut(number)
    return lambda: namespaces.heal(number)


def fill_disk(deployment: Deployment, random: Random) -> Undo | None:
    """A broker's disk has no room left."""
    if not deployment.has_disks:
        return None
    path = str(deployment.log_dir(random.randrange(NODES)))
    used = subprocess.run(
        ["df", "--output=used", "-B1", path], capture_output=True, text=True, check=True
    )
    _resize(path, int(used.stdout.split()[-1]) + (64 << 10))
    return lambda: _resize(path, DISK_BYTES)


def _resize(path: str, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", path], check=True)


def flip_bit(deployment: Deployment, random: Random) -> Undo | None:
    """One bit in a segment of the last broker is not what it was."""
    # Always the same broker: what is damaged everywhere cannot be repaired from anywhere.
    files = sorted(deployment.log_dir(NODES - 1).glob("chaos-*/*.arrow"))
    files = [path for path in files if path.stat().st_size > 4096]
    if not files:
        return None
    path = random.choice(files)
    with path.open("r+b") as file:
        position = random.randrange(path.stat().st_size)
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << random.randrange(8))]))
    return _nothing


FAULTS: Final = (
    Fault("kill leader", kill_leader),
    Fault("kill follower", kill_follower),
    Fault("kill broker", kill_broker),
    Fault("kill controller", kill_controller),
    Fault("kill node's actors", kill_node),
    Fault("pause leader", pause_leader, 1.0, 10.0),
    Fault("pause controller", pause_controller, 1.0, 10.0),
    Fault("pause node", pause_node, 1.0, 10.0),
    Fault("remove node", remove_node, 0.5, 5.0),
    Fault("failing Ray calls", fail_ray_calls, 2.0, 5.0),
    Fault("cut off node", cut_off, 1.0, 8.0, needs_root=True),
    Fault("full disk", fill_disk, 1.0, 5.0, needs_root=True),
    Fault("bit flip", flip_bit),
)
