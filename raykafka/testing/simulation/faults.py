"""What goes wrong in a simulation, and how it is put right again."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from raykafka.testing.simulation.cluster import SimulatedCluster
from raykafka.testing.simulation.hosts import Host, Process

Undo = Callable[[], None]
Inject = Callable[[SimulatedCluster, Random], "Undo | None"]
"""Makes something go wrong; returns what ends it, or None when there was nothing to harm."""


class Fault(NamedTuple):
    """One kind of trouble."""

    name: str
    inject: Inject
    longest_s: float = 0.0
    """It ends after at most this long; 0 for what is over at once."""
    power: bool = False
    """Whether it loses what was not synced."""
    damage: bool = False
    """Whether it destroys one copy of something that was synced."""
    gentle: bool = False
    """Whether no actor has to be replaced because of it."""
    alone: bool = False
    """Whether only gentle ones may come with it: nobody can tell that an unclean log has lost its
    end, so if every actor fails at once such a copy may be taken for the newest (as in Kafka)."""


def _nothing() -> None:
    """It is over already."""


def _choose(processes: list[Process], random: Random) -> Process | None:
    living = [process for process in processes if process.alive]
    return random.choice(living) if living else None


def _kill(processes: list[Process], random: Random) -> Undo | None:
    victim = _choose(processes, random)
    if victim is None:
        return None
    victim.kill()
    return _nothing


def kill_partition_actor(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """SIGKILL."""
    return _kill(cluster.partition_actors(), random)


def kill_broker(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """SIGKILL."""
    return _kill(cluster.brokers(), random)


def kill_controller(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """SIGKILL of the active controller, or of any."""
    controller = cluster.controller()
    if controller is None or random.random() < 0.3:
        return _kill(cluster.voters.processes(), random)
    return _kill([controller], random)


def kill_everything(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """SIGKILL to every process of one machine, or of all."""
    hosts = cluster.plane.hosts
    for host in hosts if random.random() < 0.3 else [random.choice(hosts)]:
        for process in list(host.processes):
            process.kill()
    return _nothing


def pause_process(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """SIGSTOP of one actor."""
    actors = [*cluster.partition_actors(), *cluster.brokers(), *cluster.voters.processes()]
    victim = _choose(actors, random)
    if victim is None:
        return None
    victim.pause()
    return victim.resume


def pause_host(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """SIGSTOP of everything on a machine."""
    victims = list(random.choice(cluster.plane.hosts).processes)
    for process in victims:
        process.pause()

    def resume() -> None:
        for process in victims:
            process.resume()

    return resume


def _crash(cluster: SimulatedCluster, hosts: list[Host], *, power: bool) -> Undo | None:
    down = [host for host in hosts if host.up]
    for host in down:
        cluster.plane.crash(host, power=power)

    def boot() -> None:
        for host in down:
            if not host.up:
                cluster.plane.boot(host)

    return boot if down else None


def crash_host(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A machine is gone without a word; its disk keeps everything."""
    return _crash(cluster, [random.choice(cluster.plane.hosts)], power=False)


def cut_power(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A machine loses what it had not synced."""
    return _crash(cluster, [random.choice(cluster.plane.hosts)], power=True)


def cut_power_everywhere(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """Every machine does."""
    return _crash(cluster, cluster.plane.hosts, power=True)


def _ways(cluster: SimulatedCluster, random: Random) -> tuple[Host, list[Host]]:
    """A machine, and those that it is cut off from: all, the other brokers, or some."""
    victim = random.choice(cluster.plane.hosts)
    servers = [host for host in cluster.plane.hosts if host is not victim]
    everybody = [*servers, *cluster.client_hosts]
    few = random.sample(everybody, random.randint(1, len(everybody)))
    return victim, random.choice((everybody, servers, few))


def cut_both_ways(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A machine and some or all of the others do not hear each other any more."""
    victim, others = _ways(cluster, random)
    for other in others:
        cluster.network.cut(victim, other)
        cluster.network.cut(other, victim)
    return cluster.network.heal


def cut_one_way(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A machine hears the others, or is heard, but not both."""
    victim, others = _ways(cluster, random)
    outwards = random.random() < 0.5
    for other in others:
        if outwards:
            cluster.network.cut(victim, other)
        else:
            cluster.network.cut(other, victim)
    return cluster.network.heal


def drop_connections(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """Some connections break."""
    return _nothing if cluster.network.drop_connections(random.randint(1, 6)) else None


def fill_disk(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A disk is full."""
    disk = random.choice(cluster.plane.hosts).disk
    disk.full = True
    return lambda: setattr(disk, "full", False)


def slow_disk(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """Syncs take up to a second."""
    disk = random.choice(cluster.plane.hosts).disk
    disk.slow_s = random.uniform(0.02, 1.0)
    return lambda: setattr(disk, "slow_s", 0.0)


def slow_network(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """Frames take up to a fifth of a second."""
    network = cluster.network
    usual = network.delay_s
    network.delay_s = (0.0, random.uniform(0.01, 0.2))
    return lambda: setattr(network, "delay_s", usual)


def _victim(cluster: SimulatedCluster) -> Host:
    """The only machine whose disk is damaged: with others it could be every copy."""
    return cluster.plane.hosts[-1]


def flip_bit(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """One bit of a segment is not what it was."""
    return _nothing if _victim(cluster).disk.flip_bit() else None


def lose_file(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A machine comes back, and one of its segments does not."""
    victim = _victim(cluster)
    boot = _crash(cluster, [victim], power=False)
    victim.disk.lose_file()
    return boot


def replace_disk(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A machine comes back with an empty disk; not while the quorum grows from one voter to three:
    two can spare none.
    """
    if cluster.voters.count() == 2:
        return None
    victim = _victim(cluster)
    boot = _crash(cluster, [victim], power=True)
    victim.disk.replace()
    return boot


def move_clock(cluster: SimulatedCluster, random: Random) -> Undo | None:
    """A wall clock jumps by up to an hour, either way."""
    clock = random.choice(cluster.plane.hosts).clock
    clock.skew_ms += random.randint(-3_600_000, 3_600_000)
    return _nothing


FAULTS: Final = (
    Fault("kill partition actor", kill_partition_actor),
    Fault("kill partition actor", kill_partition_actor),
    Fault("kill broker", kill_broker),
    Fault("kill controller", kill_controller),
    Fault("kill everything", kill_everything),
    Fault("pause process", pause_process, 5.0),
    Fault("pause machine", pause_host, 5.0),
    Fault("crash machine", crash_host, 5.0),
    Fault("cut power", cut_power, 4.0, power=True),
    Fault("cut power everywhere", cut_power_everywhere, 2.0, power=True),
    Fault("cut both ways", cut_both_ways, 5.0),
    Fault("cut one way", cut_one_way, 5.0),
    Fault("drop connections", drop_connections, gentle=True),
    Fault("full disk", fill_disk, 3.0, gentle=True),
    Fault("slow disk", slow_disk, 4.0, gentle=True),
    Fault("slow network", slow_network, 4.0),
    Fault("clock jump", move_clock, gentle=True),
    Fault("bit flip", flip_bit, damage=True, gentle=True),
    Fault("lost file", lose_file, 3.0, damage=True, alone=True),
    Fault("replaced disk", replace_disk, 3.0, damage=True),
)
