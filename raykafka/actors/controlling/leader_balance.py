"""Gives partitions back to their preferred leaders, so that a restart does not leave one idle."""

from __future__ import annotations

import asyncio
import logging

from raykafka.actors.controlling.keeper import ClusterContext
from raykafka.controller.commands import ElectionAnswer, ElectLeaders
from raykafka.errors import RaykafkaError

logger = logging.getLogger(__name__)


async def balance_leaders(context: ClusterContext) -> None:
    """Look every ``leader.imbalance.check.interval.seconds``, until cancelled."""
    while True:
        interval_s = context.settings.broker(context.image).leader_imbalance_check_interval_seconds
        await asyncio.sleep(interval_s)
        if not context.settings.broker(context.image).auto_leader_rebalance_enable:
            continue
        try:
            elected: list[ElectionAnswer] = await context.shell.submit(ElectLeaders(unclean=False))
        except RaykafkaError as error:
            logger.info("no preferred leaders were elected: %s", error)
            continue
        if elected:
            logger.info("%d partitions went back to their preferred leaders", len(elected))
