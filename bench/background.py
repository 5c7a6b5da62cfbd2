"""Operations as the benchmarks ask for them: started over HTTP, their end seen in the database itself.

A client that asks the server whether it is done would be part of what is measured, and its pauses of the result. One
look at a row, over a connection of its own, costs the database some hundredths of a millisecond.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
import uvloop

from bench.multipart import Upload, multipart
from bench.seed import SQLITE
from bench.servers import DELETION_PATH, IMPORT_PATH, RequestFailed, Server, sqlite_path

LOOK_SECONDS = 0.01
LONGEST_SECONDS = 900
IN_BACKGROUND = {"background": "true"}
ACCEPTED_STATUS = 202

# The one value that a statement selects.
Look = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Started:
    """An operation that was asked for; moments are of `time.perf_counter`."""

    id: int
    sent_at: float
    answered_at: float


@contextmanager
def looking(url: str) -> Iterator[Look]:
    """Looks into the database past the server."""
    if url.startswith(SQLITE):
        with closing(sqlite3.connect(sqlite_path(url), isolation_level=None, timeout=LONGEST_SECONDS)) as connection:
            yield lambda statement: (connection.execute(statement).fetchone() or (None,))[0]
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        driver = runner.run(asyncpg.connect(url))
        try:
            yield lambda statement: runner.run(driver.fetchval(statement))
        finally:
            runner.run(driver.close())


def start(server: Server, path: str, body: bytes | Upload, media_type: str) -> Started:
    """Raises RequestFailed when the answer is no operation."""
    sent_at = time.perf_counter()
    answer = orjson.loads(server.request("POST", path, body, media_type))
    answered_at = time.perf_counter()
    if "state" not in answer:
        raise RequestFailed(f"{path} did not start an operation: {answer}")
    return Started(answer["id"], sent_at, answered_at)


def start_import(server: Server, file: bytes) -> Started:
    return start_upload(server, *multipart(file, IN_BACKGROUND))


def start_upload(server: Server, body: bytes | Upload, media_type: str) -> Started:
    return start(server, IMPORT_PATH, body, media_type)


def start_deletion(server: Server, ids: Iterable[int]) -> Started:
    body = orjson.dumps({"instance_ids": list(ids), "mode": "hard", "background": True})
    return start(server, DELETION_PATH, body, "application/json")


def import_csv(server: Server, file: bytes) -> float:
    """Seconds from the first byte of the upload until the operation has ended; every row must be created."""
    with looking(server.database_url) as look:
        return ended(look, start_import(server, file))


def delete(server: Server, ids: Iterable[int]) -> float:
    """Seconds that a hard deletion takes as an operation; every instance must be deleted."""
    with looking(server.database_url) as look:
        return ended(look, start_deletion(server, ids))


def ended(look: Look, started: Started, pause: float = LOOK_SECONDS) -> float:
    """Seconds from asking until the end of the operation. Raises RequestFailed unless it succeeded."""
    found = until(look, f"SELECT state FROM operations WHERE id = {started.id} AND finished_at IS NOT NULL", pause)
    seconds = time.perf_counter() - started.sent_at
    if found != "succeeded":
        error = look(f"SELECT CAST(error AS text) FROM operations WHERE id = {started.id}")
        raise RequestFailed(f"operation {started.id} is {found}: {error}")
    return seconds


def until(look: Look, statement: str, pause: float = LOOK_SECONDS) -> Any:
    """What the statement selects, once it selects something."""
    deadline = time.perf_counter() + LONGEST_SECONDS
    while (found := look(statement)) is None:
        if time.perf_counter() > deadline:
            raise TimeoutError(statement)
        time.sleep(pause)
    return found
