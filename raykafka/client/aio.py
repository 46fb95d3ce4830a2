"""The clients for asyncio: thin faces over the synchronous ones, whose docstrings hold here too."""

from __future__ import annotations

from raykafka.client.asynchronous.admin import AsyncAdmin as AsyncAdmin
from raykafka.client.asynchronous.consumer import AsyncConsumer as AsyncConsumer
from raykafka.client.asynchronous.producer import AsyncProducer as AsyncProducer
from raykafka.client.asynchronous.share_consumer import AsyncShareConsumer as AsyncShareConsumer
