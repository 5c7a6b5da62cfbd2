"""The sessions that routes ask for."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.database import Database


# `async`, though nothing is awaited: FastAPI hands a plain function to a thread, which costs every request of ours.
async def get_database(request: Request) -> Database:
    database = request.app.state.database
    assert isinstance(database, Database)
    return database


async def _read_session(database: Annotated[Database, Depends(get_database)]) -> AsyncIterator[AsyncSession]:
    async with database.readers() as session:
        yield session


async def _write_session(
    request: Request, database: Annotated[Database, Depends(get_database)]
) -> AsyncIterator[AsyncSession]:
    async with database.writers.begin() as session:
        request.state.write_session = session
        yield session


def open_write_session(request: Request) -> AsyncSession | None:
    """The request's transaction, when all its work is in one, from before it commits."""
    return getattr(request.state, "write_session", None)


# scope="function": by default FastAPI runs what stands after `yield` once the answer is sent, and a client would get
# its 200 before the commit, or in spite of a failed one.
ReadSession = Annotated[AsyncSession, Depends(_read_session, scope="function")]
WriteSession = Annotated[AsyncSession, Depends(_write_session, scope="function")]
