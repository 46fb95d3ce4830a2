"""The asyncio faces of producer, consumer and admin."""
