from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app.operations.engine import Run


class IdleEngine:
    """Notes what it is given, and has nobody begin."""

    def __init__(self) -> None:
        self.given: list[int] = []

    async def enqueue(self, session: AsyncSession, operation_id: int) -> None:
        self.given.append(operation_id)

    async def work(self, run: Run) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


@pytest.fixture
async def idle_engine(app: FastAPI) -> AsyncIterator[IdleEngine]:
    """In the place of the application's own, for tests of what calls answer."""
    working = getattr(app.state, "operation_engine", None)
    idle = app.state.operation_engine = IdleEngine()
    yield idle
    app.state.operation_engine = working
