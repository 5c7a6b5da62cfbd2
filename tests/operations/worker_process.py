"""A worker whose operations count, slowly: `python -m tests.operations.worker_process`, with a worker's settings.

It has the engine, the runner and the way to end of `muster worker`.
"""

import asyncio
import os
import signal

from app.config import Settings
from app.database import Database
from app.logs import configure_logging
from app.operations.queue_engine import QueueEngine
from app.operations.working import working
from tests.operations.queueing import runner_of

PAUSE_VARIABLE = "COUNTING_PAUSE_SECONDS"


async def main() -> None:
    settings = Settings()
    configure_logging(settings.log_level)
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    database = Database(settings)
    engine = QueueEngine(settings, database)
    runner = runner_of(database, engine, float(os.environ[PAUSE_VARIABLE]))
    async with working(engine, runner, settings.worker_grace_seconds):
        print("works", flush=True)
        await told.wait()
    await database.dispose()


if __name__ == "__main__":
    asyncio.run(main())
