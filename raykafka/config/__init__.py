"""The documented configuration: what the rest of raykafka and its users import."""

from __future__ import annotations

from raykafka.config.broker import BROKER as BROKER
from raykafka.config.broker import BrokerConfig as BrokerConfig
from raykafka.config.consumer import CONSUMER as CONSUMER
from raykafka.config.consumer import ConsumerConfig as ConsumerConfig
from raykafka.config.definition import ConfigKey as ConfigKey
from raykafka.config.definition import ConfigTable as ConfigTable
from raykafka.config.definition import ConfigType as ConfigType
from raykafka.config.definition import Importance as Importance
from raykafka.config.definition import render as render
from raykafka.config.producer import PRODUCER as PRODUCER
from raykafka.config.producer import ProducerConfig as ProducerConfig
from raykafka.config.share_consumer import SHARE_CONSUMER as SHARE_CONSUMER
from raykafka.config.share_consumer import ShareConsumerConfig as ShareConsumerConfig
from raykafka.config.share_group import SHARE_GROUP as SHARE_GROUP
from raykafka.config.share_group import ShareGroupConfig as ShareGroupConfig
from raykafka.config.topic import TOPIC as TOPIC
from raykafka.config.topic import TopicConfig as TopicConfig

TABLES = (TOPIC, BROKER, PRODUCER, CONSUMER, SHARE_CONSUMER, SHARE_GROUP)
"""Every table of keys, in the order of the documentation."""
