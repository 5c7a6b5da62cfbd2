"""What routes take from the application to tell it that rights have changed."""

from typing import Annotated

from fastapi import Depends, Request

from app.access.identities import Identities


# `async` keeps it on the event loop: FastAPI hands a plain function to a thread.
async def _identities(request: Request) -> Identities:
    identities = request.app.state.identities
    assert isinstance(identities, Identities)
    return identities


CurrentIdentities = Annotated[Identities, Depends(_identities)]
