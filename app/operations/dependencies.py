"""What routes take from the application to work with operations."""

from typing import Annotated, cast

from fastapi import Depends, Request

from app.database.request_sessions import ReadSession, WriteSession
from app.operations.engine import OperationEngine
from app.operations.events import OperationStreams
from app.operations.service import OperationService


# `async` keeps these on the event loop: FastAPI hands a plain function to a thread.
async def _engine(request: Request) -> OperationEngine:
    return cast(OperationEngine, request.app.state.operation_engine)


async def _streams(request: Request) -> OperationStreams:
    streams = request.app.state.operation_streams
    assert isinstance(streams, OperationStreams)
    return streams


CurrentEngine = Annotated[OperationEngine, Depends(_engine)]
Streams = Annotated[OperationStreams, Depends(_streams)]


async def _reading(session: ReadSession, engine: CurrentEngine) -> OperationService:
    return OperationService(session, engine)


async def _changing(session: WriteSession, engine: CurrentEngine) -> OperationService:
    return OperationService(session, engine)


# In the request's session; the changing one's transaction is committed before the answer is sent.
ReadingService = Annotated[OperationService, Depends(_reading)]
ChangingService = Annotated[OperationService, Depends(_changing)]
