"""Seals again and again, beside the requests."""

import asyncio

import structlog

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
