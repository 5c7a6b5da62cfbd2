"""The worker's composition root: a process that works on operations and answers nobody."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from app.access.listener import keep_listening
from app.background import in_background
from app.composition import Services
from app.config import Settings
from app.garbage import settle_garbage_collector
from app.housekeeping import keeping_house
from app.operations.working import working
from app.syncs.scheduler import scheduling


async def run_worker(settings: Settings, announce: Callable[[], None], *, is_beside_server: bool = False) -> None:
    """Works until SIGTERM or SIGINT: what is under way ends its present item or chunk, and the rest is handed over.

    What has not ended within `worker_grace_seconds`, or at a second signal, is cut off, and begun there by another.
    One beside a server keeps house for it too, and lets the server decide what a Ctrl-C means, which goes to both.
    """
    told, hurry = asyncio.Event(), asyncio.Event()

    def tell() -> None:
        (hurry if told.is_set() else told).set()

    for number in (signal.SIGTERM,) if is_beside_server else (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, tell)
    services = Services(settings, judges_soon=False)
    house: AbstractAsyncContextManager[None] = keeping_house(services) if is_beside_server else nullcontext()
    try:
        settle_garbage_collector()
        async with (
            in_background(keep_listening(settings, services.identities)),
            house,
            scheduling(services.scheduler, settings),
            working(services.operation_engine, services.operation_runner, settings.worker_grace_seconds, hurry) as work,
        ):
            announce()
            await _either(work, told)
    finally:
        await services.close()


async def _either(work: asyncio.Task[None], told: asyncio.Event) -> None:
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait({work, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
