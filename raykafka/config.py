"""The documented configuration: what the rest of raykafka and its users import."""

from __future__ import annotations

from raykafka.config_broker import BROKER as BROKER
from raykafka.config_broker import BrokerConfig as BrokerConfig
from raykafka.config_consumer import CONSUMER as CONSUMER
from raykafka.config_consumer import ConsumerConfig as ConsumerConfig
from raykafka.config_definition import ConfigKey as ConfigKey
from raykafka.config_definition import ConfigTable as ConfigTable
from raykafka.config_definition import ConfigType as ConfigType
from raykafka.config_definition import Importance as Importance
from raykafka.config_definition import render as render
from raykafka.config_producer import PRODUCER as PRODUCER
from raykafka.config_producer import ProducerConfig as ProducerConfig
from raykafka.config_topic import TOPIC as TOPIC
from raykafka.config_topic import TopicConfig as TopicConfig

TABLES = (TOPIC, BROKER, PRODUCER, CONSUMER)
"""Every table of keys, in the order of the documentation."""
