"""Which settings hold: a topic's own, over dynamic ones of brokers, over those of the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raykafka.config import BrokerConfig, TopicConfig
from raykafka.controller.image import MetadataImage, TopicState

ALL_BROKERS: Final = -1
"""Stands for every broker where a broker id is asked for."""


class Settings:
    """Resolves settings against an image; remembers the answers for the image's broker settings."""

    def __init__(self, static: Mapping[str, str]) -> None:
        """``static`` are the broker settings the cluster was started with.

        Raises ``InvalidConfigError`` that names the key.
        """
        self.static = dict(static)
        self._started_with = BrokerConfig.parse(self.static)
        self._dynamic: Mapping[int, Mapping[str, str]] = {}
        self._brokers: dict[int, BrokerConfig] = {}
        self._overrides: dict[int, dict[str, str]] = {}

    def given(self, image: MetadataImage, broker_id: int = ALL_BROKERS) -> dict[str, str]:
        """Broker settings that are set anywhere, defaults left out."""
        return {
            **self.static,
            **image.broker_configs.get(ALL_BROKERS, {}),
            **image.broker_configs.get(broker_id, {}),
        }

    def broker(self, image: MetadataImage, broker_id: int = ALL_BROKERS) -> BrokerConfig:
        """The settings of one broker, or of the cluster."""
        self._forget_if_changed(image)
        found = self._brokers.get(broker_id)
        if found is None:
            found = BrokerConfig.parse(self.given(image, broker_id))
            self._brokers[broker_id] = found
        return found

    def topic(self, image: MetadataImage, topic: TopicState) -> TopicConfig:
        """The topic's settings with all defaults filled in."""
        return TopicConfig.parse(topic.configs, self.broker(image).topic_defaults)

    def topic_overrides(self, image: MetadataImage, broker_id: int) -> Mapping[str, str]:
        """Topic settings that dynamic broker settings have changed since the broker's start.

        A running partition actor knows the topic defaults it was started with; these are handed to
        it as if each topic had set them.
        """
        self._forget_if_changed(image)
        found = self._overrides.get(broker_id)
        if found is None:
            before = self._started_with.topic_defaults.to_settings()
            now = self.broker(image, broker_id).topic_defaults.to_settings()
            found = {name: value for name, value in now.items() if before[name] != value}
            self._overrides[broker_id] = found
        return found

    def _forget_if_changed(self, image: MetadataImage) -> None:
        if image.broker_configs is not self._dynamic:
            self._dynamic = image.broker_configs
            self._brokers = {}
            self._overrides = {}
