"""The clients for asyncio: thin faces over the synchronous ones, whose docstrings hold here too."""

from __future__ import annotations

from raykafka.client.aio_admin import AsyncAdmin as AsyncAdmin
from raykafka.client.aio_consumer import AsyncConsumer as AsyncConsumer
from raykafka.client.aio_producer import AsyncProducer as AsyncProducer
