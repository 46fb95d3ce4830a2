"""A thousand readers that wait cost little memory, and no time of those who work."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import resource
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest
import uvloop
from wire_kit import SECRET, Echo, RawPeer, produce

from raykafka.actors.ports import ListenerSpec
from raykafka.model import Endpoint
from raykafka.network.client import Connection
from raykafka.network.server import TcpListener
from raykafka.protocol.messages import ApiKey, FetchRequest

COUNT = 1000
MAX_BYTES_EACH = 50 << 10


def serve(pipe: Pipe) -> None:
    """A listener alone in its process; answers each message with how many fetches are parked."""

    async def main() -> None:
        echo = Echo()
        spec = ListenerSpec("127.0.0.1", 0, "c-1", "node-1", 1, SECRET)
        endpoint = await TcpListener(spec, echo.handlers()).start()
        pipe.send(endpoint.port)
        asked = asyncio.Event()
        asyncio.get_running_loop().add_reader(pipe.fileno(), asked.set)
        while True:
            await asked.wait()
            asked.clear()
            pipe.recv()
            gc.collect()
            pipe.send(len(echo.parked))

    resource.setrlimit(
        resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    uvloop.run(main())


@pytest.fixture
def server() -> Iterator[tuple[int, int, Pipe]]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip("a thousand connections need more file descriptors than the limit allows")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    yield process.pid or 0, ours.recv(), ours
    process.kill()
    process.join()
    process.close()
    ours.close()
    theirs.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_idle_connections_are_small(server: tuple[int, int, Pipe]) -> None:
    pid, port, pipe = server
    endpoint = Endpoint("127.0.0.1", port)
    worker = Connection(endpoint, SECRET, client_id="worker")
    produce(worker, [bytes(1 << 20)])
    pipe.send("parked?")
    assert pipe.recv() == 0
    before = memory(pid)
    peers = []
    for _ in range(COUNT):
        peer = RawPeer(endpoint).authenticate()
        peer.request(ApiKey.FETCH, FetchRequest([], max_wait_ms=99))
        peers.append(peer)
    parked = 0
    while parked < COUNT:
        pipe.send("parked?")
        parked = pipe.recv()
    each = (memory(pid) - before) / COUNT
    for peer in peers:
        peer.socket.close()
    worker.close()
    assert each < MAX_BYTES_EACH, f"{each:.0f} bytes each"
