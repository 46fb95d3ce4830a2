"""raykafka: a durable, partitioned log with Kafka's semantics, Arrow's data and Ray's actors.

The public names below load on first use: importing the package loads neither Ray nor pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raykafka import errors as errors
    from raykafka.client.admin import Admin as Admin
    from raykafka.client.admin import NewTopic as NewTopic
    from raykafka.client.aio import AsyncAdmin as AsyncAdmin
    from raykafka.client.aio import AsyncConsumer as AsyncConsumer
    from raykafka.client.aio import AsyncProducer as AsyncProducer
    from raykafka.client.aio import AsyncShareConsumer as AsyncShareConsumer
    from raykafka.client.consumer import Consumer as Consumer
    from raykafka.client.consuming.rebalance_listener import (
        ConsumerRebalanceListener as ConsumerRebalanceListener,
    )
    from raykafka.client.consuming.records import ConsumerRecord as ConsumerRecord
    from raykafka.client.handle import TopicHandle as TopicHandle
    from raykafka.client.producer import Producer as Producer
    from raykafka.client.share_consumer import ShareConsumer as ShareConsumer
    from raykafka.client.transacting.prepared import PreparedTransaction as PreparedTransaction
    from raykafka.errors import KafkaError as KafkaError
    from raykafka.errors import RaykafkaError as RaykafkaError
    from raykafka.model import AcknowledgeType as AcknowledgeType
    from raykafka.model import Acks as Acks
    from raykafka.model import ConsumerGroupMetadata as ConsumerGroupMetadata
    from raykafka.model import IsolationLevel as IsolationLevel
    from raykafka.model import OffsetAndMetadata as OffsetAndMetadata
    from raykafka.model import OffsetAndTimestamp as OffsetAndTimestamp
    from raykafka.model import RecordMetadata as RecordMetadata
    from raykafka.model import TopicPartition as TopicPartition
    from raykafka.protocol.messages import ConfigChange as ConfigChange
    from raykafka.protocol.messages import ConfigResource as ConfigResource
    from raykafka.runtime import Cluster as Cluster
    from raykafka.runtime import connect as connect
    from raykafka.runtime import start as start

__version__ = "0.1.0"

_MODULE_OF = {
    "AcknowledgeType": "raykafka.model",
    "Acks": "raykafka.model",
    "Admin": "raykafka.client.admin",
    "AsyncAdmin": "raykafka.client.aio",
    "AsyncConsumer": "raykafka.client.aio",
    "AsyncProducer": "raykafka.client.aio",
    "AsyncShareConsumer": "raykafka.client.aio",
    "Cluster": "raykafka.runtime",
    "ConfigChange": "raykafka.protocol.messages",
    "ConfigResource": "raykafka.protocol.messages",
    "Consumer": "raykafka.client.consumer",
    "ConsumerGroupMetadata": "raykafka.model",
    "ConsumerRebalanceListener": "raykafka.client.consuming.rebalance_listener",
    "ConsumerRecord": "raykafka.client.consuming.records",
    "IsolationLevel": "raykafka.model",
    "KafkaError": "raykafka.errors",
    "NewTopic": "raykafka.client.admin",
    "OffsetAndMetadata": "raykafka.model",
    "OffsetAndTimestamp": "raykafka.model",
    "PreparedTransaction": "raykafka.client.transacting.prepared",
    "Producer": "raykafka.client.producer",
    "RaykafkaError": "raykafka.errors",
    "RecordMetadata": "raykafka.model",
    "ShareConsumer": "raykafka.client.share_consumer",
    "TopicHandle": "raykafka.client.handle",
    "TopicPartition": "raykafka.model",
    "connect": "raykafka.runtime",
    "start": "raykafka.runtime",
}

__all__ = ["__version__", "errors", *sorted(_MODULE_OF)]


def __getattr__(name: str) -> Any:
    # Answering for any other name would load modules behind the import rules' back.
    if name == "errors":
        return importlib.import_module("raykafka.errors")
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'raykafka' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
