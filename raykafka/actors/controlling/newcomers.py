"""Whether a node that has joined is one more, or a machine that has come back as another node.

Who lists the nodes may learn late that one is gone. Until then a machine that was started anew
looks like a second node with the same address, and a broker made for it would leave the old one and
its copies without a home. So a newcomer waits until the broker of that address has been heard of
since, or the old node is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from raykafka.actors.ports import NodeInfo
from raykafka.controller.image import BrokerState, MetadataImage

_LATE_MS: Final = 2000
"""A heartbeat that was on its way when its sender died may come so much later."""
_LONGEST_MS: Final = 90_000
"""Nodes that are gone are known to be after this long; then it is one more."""


LastSeen = Callable[[BrokerState], tuple[str, int]]
"""On which node a broker shall run, and the monotonic time of its last sign of life, 0 for none."""


class Newcomers:
    """Remembers when each node was seen first."""

    def __init__(self) -> None:
        self._first_seen_ms: dict[str, int] = {}

    def note(self, node_ids: Collection[str], now_ms: int) -> None:
        """These are the nodes now."""
        first_seen = self._first_seen_ms
        self._first_seen_ms = {id_: first_seen.get(id_, now_ms) for id_ in node_ids}

    def must_wait(
        self, node: NodeInfo, image: MetadataImage, now_ms: int, last_seen: LastSeen
    ) -> bool:
        """Whether to make no broker for ``node`` yet."""
        first_seen_ms = self._first_seen_ms[node.node_id]
        if any(broker.node_id == node.node_id for broker in image.brokers.values()):
            return False
        if now_ms - first_seen_ms > _LONGEST_MS:
            return False
        if any(broker.node_id == node.node_id for broker in image.brokers.values()):
            return False  # it has one; several nodes may share an address
        for broker in image.brokers.values():
            if broker.host == node.host and broker.unfenced_incarnation > 0:
                node_id, heard_ms = last_seen(broker)
                is_listed = node_id != node.node_id and node_id in self._first_seen_ms
                if is_listed and heard_ms <= first_seen_ms + _LATE_MS:
                    return True
        return False
