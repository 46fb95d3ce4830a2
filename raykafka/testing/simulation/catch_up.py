"""``CatchUpLine`` over a simulated connection: no thread and no file, the same requests."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from raykafka.actors.lines import CatchUpCourse
from raykafka.actors.ports import PeerConnection
from raykafka.actors.timeouts import within
from raykafka.errors import RaykafkaError
from raykafka.model import Endpoint
from raykafka.protocol.messages import ApiKey, Message
from raykafka.protocol.replication_messages import CatchUpRequest
from raykafka.testing.simulation.hosts import Process
from raykafka.testing.simulation.network import Network, SimulatedConnector

_PATIENCE_S: Final = 10.0


class SimulatedCatchUpConnector:
    """``CatchUpConnector`` of one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self._connect = SimulatedConnector(network, process)

    async def __call__(
        self, endpoint: Endpoint, secret: bytes, *, client_id: str, timeout_s: float
    ) -> SimulatedLine:
        """See ``CatchUpConnector``."""
        return SimulatedLine(
            await self._connect(endpoint, secret, client_id=client_id, timeout_s=timeout_s)
        )


class SimulatedLine:
    """``CatchUpLine``."""

    def __init__(self, connection: PeerConnection) -> None:
        self._connection = connection
        self._answers = 0

    async def run(self, course: CatchUpCourse) -> None:
        """See ``CatchUpLine``."""
        loop, request = asyncio.get_running_loop(), course.first()
        asked = None if request is None else self._ask(request)
        while asked is not None:
            answer, payload = await within(asked, _PATIENCE_S, "the answer to CATCH_UP")
            self._answers += 1
            if isinstance(answer, RaykafkaError):
                raise answer
            request = course.next(answer, len(payload))
            asked = None if request is None else self._ask(request)
            await loop.run_in_executor(None, course.write, answer, payload)

    def _ask(self, request: CatchUpRequest) -> asyncio.Future[tuple[Any, memoryview]]:
        answered = asyncio.get_running_loop().create_future()

        def settle(answer: Message | RaykafkaError, payload: memoryview) -> None:
            if not answered.done():
                answered.set_result((answer, payload))

        self._connection.send(ApiKey.CATCH_UP, request, (), settle)
        return answered

    def progress(self) -> object:
        """See ``CatchUpLine``."""
        return self._answers

    def close(self) -> None:
        """See ``CatchUpLine``."""
        self._connection.close()
