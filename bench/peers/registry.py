"""Every peer and every client by its name."""

from __future__ import annotations

from collections.abc import Callable

from bench.peers import (
    aiokafka,
    confluent,
    confluent_defaults,
    kafka,
    kafka_python,
    nats_jetstream,
    ray_queue,
    raykafka,
    redis_streams,
)
from bench.peers.api import Client, Peer

PEERS: dict[str, Callable[[], Peer]] = {
    "raykafka": raykafka.Raykafka,
    "kafka": kafka.Kafka,
    "redis": redis_streams.Redis,
    "nats": nats_jetstream.Nats,
    "ray-queue": ray_queue.RayQueue,
}

CLIENTS: dict[str, Client] = {
    client.name: client
    for client in (
        *raykafka.CLIENTS,
        *confluent.CLIENTS,
        confluent_defaults.CLIENT,
        kafka_python.CLIENT,
        *aiokafka.CLIENTS,
        *redis_streams.CLIENTS,
        *nats_jetstream.CLIENTS,
        *ray_queue.CLIENTS,
    )
}


def client(name: str) -> Client:
    """Raises ``KeyError`` with the known names."""
    if name not in CLIENTS:
        raise KeyError(f"no client is called {name!r}; known are {', '.join(CLIENTS)}")
    return CLIENTS[name]


def peer(name: str) -> Peer:
    """A peer that has not been started. Raises ``KeyError`` with the known names."""
    if name not in PEERS:
        raise KeyError(f"no peer is called {name!r}; known are {', '.join(PEERS)}")
    return PEERS[name]()
