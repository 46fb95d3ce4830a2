"""The cluster's topics as the group machine wants them."""

from __future__ import annotations

from collections.abc import Mapping

from raykafka.actors.metadata_cache import MetadataCache
from raykafka.group.topics import TopicView
from raykafka.protocol.messages import BrokerInfo, TopicInfo


class TopicPictures:
    """Made once for each change of the metadata, whoever asks."""

    def __init__(self, view: MetadataCache) -> None:
        self._view = view
        self._offset = -1
        self._picture: Mapping[str, TopicView] = {}

    def newest(self) -> Mapping[str, TopicView] | None:
        """None while nothing is known of the cluster."""
        view = self._view
        if view.offset != self._offset:
            self._picture = {
                name: _viewed(topic, view.brokers) for name, topic in view.topics.items()
            }
            self._offset = view.offset
        return self._picture if view.offset >= 0 else None


def _viewed(topic: TopicInfo, brokers: Mapping[int, BrokerInfo]) -> TopicView:
    leaders = [brokers.get(partition.leader_id) for partition in topic.partitions]
    return TopicView(
        topic.topic_id,
        len(leaders),
        [broker.host if broker is not None else "" for broker in leaders],
        [broker.rack if broker is not None else "" for broker in leaders],
    )
