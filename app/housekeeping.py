"""What is done again and again, beside requests and operations, by whichever process it is left to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.access.idempotency_store import keep_removing_old_keys
from app.audit.background import keep_sealing
from app.audit.retention import AuditRetention
from app.audit.sealer import AuditSealer
from app.audit.sealing_key import open_sealing
from app.background import in_background, keep_removing
from app.capacity.retention import StatisticsRetention
from app.composition import Services
from app.operations.retention import OperationRetention


@asynccontextmanager
async def keeping_house(services: Services) -> AsyncIterator[None]:
    """Removes what is past its retention, and seals the audit trail, beside the block. Raises KeyRefused."""
    settings, database = services.settings, services.database
    sealing = open_sealing(settings)
    interval = settings.retention_interval_seconds
    old_statistics = StatisticsRetention(database, settings.statistics_retention_days)
    old_operations = OperationRetention(database, settings.operation_retention_days)
    old_entries = AuditRetention(database, sealing, settings.audit_retention_days)
    async with (
        in_background(keep_removing(old_statistics.remove, interval, "old statistics")),
        in_background(keep_removing(old_operations.remove, interval, "old operations")),
        in_background(keep_removing(services.uploads.remove_old, interval, "old uploads")),
        in_background(keep_removing(old_entries.remove, interval, "old audit entries")),
        in_background(keep_removing_old_keys(services.idempotency_store)),
        in_background(keep_sealing(AuditSealer(database, sealing), settings.audit_seal_seconds)),
    ):
        yield
