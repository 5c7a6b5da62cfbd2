"""The port to what dispatches operations. The table is the truth; an engine only has somebody begin, and begin again.

On PostgreSQL it is a queue in the database, for any number of worker processes (queue_engine); on SQLite tasks of the
server itself (local_engine).
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

# Works on the operation of this id until it has ended, is handed over, or is somebody else's. Raises what kept it from
# going on, and is then to be called again, later.
Run = Callable[[int], Awaitable[None]]


class OperationEngine(Protocol):
    async def enqueue(self, session: AsyncSession, operation_id: int) -> None:
        """Has the operation worked on, once the session's transaction has committed."""
        ...

    async def work(self, run: Run) -> None:
        """Dispatches operations, several at once, those too that a worker left when it died, until it is cancelled
        or `stop` is called and what is running has ended."""
        ...

    def stop(self) -> None:
        """Begins nothing more."""
        ...
