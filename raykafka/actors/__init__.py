"""Servers as plain asyncio classes; only handles and cluster know Ray."""
