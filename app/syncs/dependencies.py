"""What routes take from the application to work with syncs."""

from typing import Annotated

from fastapi import Depends, Request

from app.syncs.service import DataSyncService


# `async` keeps it on the event loop: FastAPI hands a plain function to a thread.
async def _service(request: Request) -> DataSyncService:
    service = request.app.state.data_sync
    assert isinstance(service, DataSyncService)
    return service


Service = Annotated[DataSyncService, Depends(_service)]
