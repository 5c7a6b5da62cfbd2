"""Seals and removes again and again, beside the requests."""

import asyncio
import random

import structlog

from app.audit.retention import AuditRetention
from app.audit.sealer import AuditSealer

log = structlog.get_logger(__name__)

# After a failure not before that long: the reason seldom goes away at once, and each is logged.
FAILURE_PAUSE_SECONDS = 60.0
# The first run waits until the start's own work is done; less where runs follow each other faster.
FIRST_RUN_SECONDS = 60.0


async def keep_sealing(sealer: AuditSealer, interval_seconds: float) -> None:
    """Until it is cancelled; a failure is logged, and a later run tries again."""
    while True:
        await asyncio.sleep(interval_seconds)
        try:
            await sealer.seal()
        except Exception as error:
            log.error("the audit trail could not be sealed", exc_info=error)
            await asyncio.sleep(FAILURE_PAUSE_SECONDS)


async def keep_removing(retention: AuditRetention, interval_seconds: float) -> None:
    """The same for entries that are old enough."""
    # Servers that were started together should not begin together.
    await asyncio.sleep(min(interval_seconds, FIRST_RUN_SECONDS) * random.uniform(0.5, 1))
    while True:
        try:
            if removed := await retention.remove():
                log.info("old audit entries were removed", entries=removed)
        except Exception as error:
            log.error("old audit entries could not be removed", exc_info=error)
        await asyncio.sleep(interval_seconds)
