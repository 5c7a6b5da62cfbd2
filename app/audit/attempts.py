"""Records attempts that were refused or failed: they change nothing, so no transaction of theirs could hold the entry.

401 and 403 are recorded always. Of the others, only those of calls that would have changed something, when what they
asked for is not there (404), in another state than they thought (409, 412), or broke (5xx). Input that is not accepted
(422, 413, 415) attempts nothing yet, and too many requests (429) would be too many entries.
"""

import asyncio

import structlog

from app.audit.recorder import AuditEntry, record
from app.caller import Call
from app.database import Database
from app.database.transactions import run_in_transaction
from app.models.audit import AuditOutcome

log = structlog.get_logger(__name__)

# More are never written at once, so that refused callers do not take the connections of others.
CONNECTIONS = 4
# Where writers are waited for for longer, the client is answered first; the entry is written all the same.
PATIENCE_SECONDS = 1.0
_safe_methods = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_failures = frozenset({404, 409, 412})


def entry_about(method: str | None, status: int) -> AuditEntry | None:
    """None for what is not worth one."""
    if status in (401, 403):
        return AuditEntry("request:denied", "request", None, None, None, AuditOutcome.DENIED)
    if method not in _safe_methods and (status in _failures or status >= 500):
        return AuditEntry("request:failed", "request", None, None, None, AuditOutcome.FAILED)
    return None


class FailedAttempts:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._under_way: set[asyncio.Task[None]] = set()

    async def note(self, call: Call, status: int) -> None:
        """Records how the current call ends, if that needs to be and no service has done so. Never raises."""
        entry = entry_about(call.method, status)
        if entry is None or call.is_recorded:
            return
        call.status = status
        task = asyncio.create_task(self._record(entry))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.wait({task}, timeout=PATIENCE_SECONDS)

    async def close(self) -> None:
        """Waits for entries that are not written yet."""
        await asyncio.gather(*self._under_way)

    async def _record(self, entry: AuditEntry) -> None:
        try:
            async with self._turns:
                await run_in_transaction(self._database.writers, lambda session: record(session, entry))
        except Exception as error:
            log.error("a failed attempt was not recorded", action=entry.action, error=repr(error))
