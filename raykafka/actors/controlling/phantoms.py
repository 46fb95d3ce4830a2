"""Brokers of nodes that never were machines of their own.

A machine that is started anew twice, before its first life is known to be over, is taken for one
more node and gets one more broker. That one never holds anything, and its node never comes back.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from raykafka.controller.image import MetadataImage

GONE_MS: Final = 10_000
"""How long its node is gone before a broker is forgotten."""


class Phantoms:
    """Remembers since when the node of each broker is gone."""

    def __init__(self) -> None:
        self._gone_since_ms: dict[int, int] = {}

    def find(self, image: MetadataImage, node_ids: Collection[str], now_ms: int) -> list[int]:
        """Brokers to forget: fenced, without replicas, their nodes gone for a while, and another
        broker with their address alive.
        """
        gone = {
            broker.broker_id
            for broker in image.brokers.values()
            if broker.fenced and broker.node_id not in node_ids
        }
        before = self._gone_since_ms
        self._gone_since_ms = {id_: before.get(id_, now_ms) for id_ in gone}
        alive = {broker.host for broker in image.live_brokers()}
        return [
            broker_id
            for broker_id, since_ms in self._gone_since_ms.items()
            if now_ms - since_ms >= GONE_MS
            and image.brokers[broker_id].host in alive
            and not image.replica_count(broker_id)
        ]
