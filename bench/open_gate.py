"""The service with a second way in: whoever sends neither token nor key is let in, as somebody who may do everything.

Both ways lead to the same route of the same process, so that requests differ in nothing but being authenticated.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from app.access.gate import KEY_HEADER, Gate
from app.access.routing import AccessRule
from app.caller import current_call
from app.main import create_app as create_real_app


class OpenGate:
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def admit(self, request: Request, rule: AccessRule, status: int) -> None:
        if "Authorization" in request.headers or KEY_HEADER in request.headers:
            await self._gate.admit(request, rule, status)
        else:
            current_call().spaces = None


def create_app() -> FastAPI:
    app = create_real_app()
    real_lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[object]:
        async with real_lifespan(app) as state:
            app.state.gate = OpenGate(app.state.gate)
            yield state

    app.router.lifespan_context = lifespan
    return app
